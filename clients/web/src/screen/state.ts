/** What the big screen shows, and for how long. Pure. */
import type { LotSnapshot } from "../shared/protocol";
import { EMPTY_ROOM, type RoomAction, type RoomModel, reduceRoom } from "../shared/room";

export interface ScreenState {
  room: RoomModel;
  /** The sale being celebrated: the lot as it was sold. */
  winner: LotSnapshot | null;
}

export type ScreenAction = RoomAction | { type: "winner.over"; lot: string };

export const INITIAL: ScreenState = { room: EMPTY_ROOM, winner: null };

export function reduce(state: ScreenState, action: ScreenAction): ScreenState {
  if (action.type === "winner.over") {
    return state.winner?.lot === action.lot ? { ...state, winner: null } : state;
  }
  const room = reduceRoom(state.room, action);
  if (action.type === "room.event" && action.event.type === "lot.sold") {
    const { lot: id } = action.event;
    const wasOpen = state.room.lots.some((each) => each.lot === id && each.state === "open");
    const lot = room.lots.find((each) => each.lot === id) ?? null;
    // An event repeated after a reconnection must not celebrate twice.
    return { room, winner: wasOpen ? lot : state.winner };
  }
  if (action.type === "room.event" && action.event.type === "lot.opened") {
    return { room, winner: null };
  }
  return { ...state, room };
}

/** Sum over all kinds of cheer. */
export function cheerTotal(room: RoomModel): number {
  return Object.values(room.cheers).reduce((sum, count) => sum + count, 0);
}

/** Cheers a second that fill the meter. */
const FULL_RATE = 40;

/**
 * The cheer meter: rises with cheers, falls back by half every 2.5 s. `level` is 0-1.
 * Time comes in as `nowMs`.
 */
export class CheerMeter {
  #level = 0;
  #total: number | null = null;
  #atMs = 0;

  add(total: number, nowMs: number): void {
    this.#decay(nowMs);
    const more = this.#total === null ? 0 : Math.max(0, total - this.#total);
    this.#total = total;
    this.#level = Math.min(1, this.#level + more / FULL_RATE);
  }

  level(nowMs: number): number {
    this.#decay(nowMs);
    return this.#level;
  }

  #decay(nowMs: number): void {
    this.#level *= 0.5 ** (Math.max(0, nowMs - this.#atMs) / 2_500);
    this.#atMs = nowMs;
  }
}
