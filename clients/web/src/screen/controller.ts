/** Wires the big screen. Whatever fails is tried again in silence: a wall shows no errors. */
import { computed, effect } from "@preact/signals";
import { describeLots } from "../shared/describe";
import { t } from "../shared/i18n";
import { denied, enterRoom, type Session } from "../shared/page";
import { isWatchable } from "../shared/room";
import { Stage } from "../shared/rtc/stage";
import { createStore } from "../shared/store";
import { INITIAL, reduce } from "./state";

const WINNER_MS = 9_000;
const REFUSED_RETRY_MS = 15_000;

export class ScreenController {
  readonly store = createStore(reduce, INITIAL);
  readonly stage: Stage;
  #session: Session | null = null;

  constructor(readonly room: string) {
    this.stage = new Stage({
      room,
      token: () => this.#session?.access.token ?? "",
      label: () => t("video.label"),
      ambient: false,
    });
    this.stage.setFit("cover");
  }

  now(): number {
    return this.#session?.bus.clock.now() ?? Date.now();
  }

  async start(): Promise<void> {
    const { dispatch, state } = this.store;
    this.#session = await enterRoom(this.room, {
      onLink: () => undefined,
      onRoomState: (snapshot) => dispatch({ type: "room.snapshot", state: snapshot }),
      onRoomEvent: (event) => {
        dispatch({ type: "room.event", event });
        const { winner } = state.peek();
        if (event.type === "lot.sold" && winner?.lot === event.lot) {
          setTimeout(() => dispatch({ type: "winner.over", lot: event.lot }), WINNER_MS);
        }
      },
      onUserEvent: () => undefined,
      onTick: (tick) => dispatch({ type: "room.tick", tick }),
    });
    if (!this.#session) {
      // The room may open later; a wall is left alone for hours.
      setTimeout(() => {
        denied.value = null;
        void this.start();
      }, REFUSED_RETRY_MS);
      return;
    }
    this.stage.player.start();
    effect(() => {
      const { room } = state.value;
      if (room.known) this.stage.player.setExpected(isWatchable(room, null));
    });
    const room = computed(() => state.value.room);
    describeLots(this.#session.bus, room, dispatch, 0);
  }

  onKey(key: string): void {
    if (key === "f") void toggleFullScreen();
    if (key === "m") this.stage.player.setMuted(!this.stage.player.muted.value);
  }
}

async function toggleFullScreen(): Promise<void> {
  try {
    if (document.fullscreenElement) await document.exitFullscreen();
    else await document.documentElement.requestFullscreen({ navigationUI: "hide" });
  } catch {
    // Not allowed here: the window stays as it is.
  }
}
