/** What the studio knows of its room. Pure. */
import type { LinkState } from "../shared/bus";
import type { LotSnapshot } from "../shared/protocol";
import { EMPTY_ROOM, type RoomAction, type RoomModel, reduceRoom } from "../shared/room";

export interface StudioState {
  link: LinkState;
  room: RoomModel;
  /** Why the last lot command was refused, by lot id ("" for creating one). */
  refusals: Record<string, string>;
  /** Lot commands under way, by lot id. */
  busy: Record<string, true>;
}

export type StudioAction =
  | RoomAction
  | { type: "link"; link: LinkState }
  | { type: "command.sent"; lot: string }
  | { type: "command.done"; lot: string; refusal: string | null };

export const INITIAL: StudioState = {
  link: "connecting",
  room: EMPTY_ROOM,
  refusals: {},
  busy: {},
};

export function reduce(state: StudioState, action: StudioAction): StudioState {
  switch (action.type) {
    case "link":
      return { ...state, link: action.link };
    case "command.sent": {
      const { [action.lot]: _, ...refusals } = state.refusals;
      return { ...state, refusals, busy: { ...state.busy, [action.lot]: true } };
    }
    case "command.done": {
      const { [action.lot]: _, ...busy } = state.busy;
      const refusals =
        action.refusal === null
          ? state.refusals
          : { ...state.refusals, [action.lot]: action.refusal };
      return { ...state, busy, refusals };
    }
    default:
      return { ...state, room: reduceRoom(state.room, action) };
  }
}

const ORDER: Record<LotSnapshot["state"], number> = {
  open: 0,
  created: 1,
  sold: 2,
  unsold: 2,
  cancelled: 3,
};

/** Open lots first, then those waiting, then results; the newest first in each. */
export function lotsInOrder(room: RoomModel): LotSnapshot[] {
  return [...room.lots].sort(
    (a, b) => ORDER[a.state] - ORDER[b.state] || b.created_at - a.created_at,
  );
}

/** Whether viewers of the program see `camera` now; with no cut made, any live camera may be it. */
export function isInProgram(room: RoomModel, camera: string): boolean {
  const live = room.cameras.filter((each) => each.live);
  if (!live.some((each) => each.camera === camera)) return false;
  return room.program === camera || (room.program === null && live.length === 1);
}
