import { type ReadonlySignal, signal } from "@preact/signals";

export interface Store<S, A> {
  readonly state: ReadonlySignal<S>;
  dispatch(action: A): void;
}

/** A page's state: replaced by `reduce(state, action)`, read through a signal. */
export function createStore<S, A>(reduce: (state: S, action: A) => S, initial: S): Store<S, A> {
  const state = signal(initial);
  return {
    state,
    dispatch(action) {
      state.value = reduce(state.peek(), action);
    },
  };
}
