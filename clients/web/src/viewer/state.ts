/**
 * What the viewer's page knows, and how messages and taps change it. Pure.
 *
 * A bid's life here: none → attempt (sending, or held while the link is down) → answered
 * (kept until the event with its seq has arrived, so the price never jumps back) → none.
 */
import type { LinkState } from "../shared/bus";
import type { BidReply, LotSnapshot, Reason, UserEvent } from "../shared/protocol";
import { EMPTY_ROOM, type RoomAction, type RoomModel, reduceRoom, stepAt } from "../shared/room";

export interface Attempt {
  key: string;
  lot: string;
  kind: "open" | "max";
  amount: number;
  /** The link is down: the same call goes out again when it is back. */
  held: boolean;
  /** Seq of the answer; the attempt ends when the room's events have caught up. */
  ackSeq: number | null;
}

export type Notice = { lot: string } & (
  | { kind: "accepted" | "maxAccepted" | "unanswered" }
  | { kind: "justChanged"; amount: number }
  | { kind: "refused"; reason: Reason; minimum: number | null }
);

export interface Own {
  hasBid: boolean;
  max: number | null;
}

export type Standing = "none" | "leading" | "outbid" | "won" | "lost";

export interface ViewerState {
  me: string | null;
  canBid: boolean;
  link: LinkState;
  /** The link was lost and has come back: said once, until `noticed`. */
  isBack: boolean;
  room: RoomModel;
  own: Record<string, Own>;
  attempt: Attempt | null;
  notice: Notice | null;
  /** The camera chosen by hand; null follows the program. */
  camera: string | null;
  /** The open lot chosen by hand where there are several. */
  pickedLot: string | null;
}

export type ViewerAction =
  | RoomAction
  | { type: "entered"; me: string; canBid: boolean }
  | { type: "link"; link: LinkState }
  | { type: "user.event"; event: UserEvent }
  | { type: "bid.attempt"; key: string; lot: string; kind: "open" | "max"; amount: number }
  | { type: "bid.held"; key: string }
  | { type: "bid.answered"; key: string; reply: BidReply }
  | { type: "bid.refused"; key: string; reason: Reason; minimum: number | null }
  | { type: "bid.unanswered"; key: string }
  | { type: "bid.justChanged"; lot: string; amount: number }
  | { type: "noticed" }
  | { type: "camera.choose"; camera: string | null }
  | { type: "lot.pick"; lot: string };

export const INITIAL: ViewerState = {
  me: null,
  canBid: false,
  link: "connecting",
  isBack: false,
  room: EMPTY_ROOM,
  own: {},
  attempt: null,
  notice: null,
  camera: null,
  pickedLot: null,
};

export function reduce(state: ViewerState, action: ViewerAction): ViewerState {
  switch (action.type) {
    case "room.snapshot":
    case "room.event":
    case "room.lot":
    case "room.tick": {
      const room = reduceRoom(state.room, action);
      const own = action.type === "room.tick" ? state.own : withOwnFrom(state.own, room, state.me);
      return settle({ ...state, room, own });
    }
    case "entered":
      return { ...state, me: action.me, canBid: action.canBid };
    case "link": {
      const isBack = action.link === "online" && state.link === "lost";
      return { ...state, link: action.link, isBack: isBack || state.isBack };
    }
    case "user.event":
      return applyUserEvent(state, action.event);
    case "bid.attempt": {
      const { key, lot, kind, amount } = action;
      const attempt = { key, lot, kind, amount, held: false, ackSeq: null };
      return { ...state, attempt, notice: null };
    }
    case "bid.held":
      if (state.attempt?.key !== action.key) return state;
      return { ...state, attempt: { ...state.attempt, held: true } };
    case "bid.answered": {
      if (state.attempt?.key !== action.key) return state;
      const { lot, kind, amount } = state.attempt;
      const own = withOwn(state.own, lot, kind === "max" ? amount : null);
      const attempt = { ...state.attempt, ackSeq: action.reply.seq };
      const led = action.reply.leader === state.me;
      const notice: Notice | null = led
        ? { lot, kind: kind === "max" ? "maxAccepted" : "accepted" }
        : null;
      return settle({ ...state, own, attempt, notice });
    }
    case "bid.refused": {
      if (state.attempt?.key !== action.key) return state;
      const { lot } = state.attempt;
      const { reason, minimum } = action;
      return { ...state, attempt: null, notice: { lot, kind: "refused", reason, minimum } };
    }
    case "bid.unanswered":
      if (state.attempt?.key !== action.key) return state;
      return { ...state, attempt: null, notice: { lot: state.attempt.lot, kind: "unanswered" } };
    case "bid.justChanged":
      return { ...state, notice: { lot: action.lot, kind: "justChanged", amount: action.amount } };
    case "noticed":
      return { ...state, notice: null, isBack: false };
    case "camera.choose":
      return { ...state, camera: action.camera };
    case "lot.pick":
      return { ...state, pickedLot: action.lot, notice: null };
  }
}

/** Ends an answered attempt once the lot shows at least what the answer said. */
function settle(state: ViewerState): ViewerState {
  const { attempt } = state;
  if (attempt?.ackSeq == null) return state;
  const lot = state.room.lots.find((each) => each.lot === attempt.lot);
  return !lot || lot.seq >= attempt.ackSeq ? { ...state, attempt: null } : state;
}

function applyUserEvent(state: ViewerState, event: UserEvent): ViewerState {
  switch (event.type) {
    case "bid.receipt": {
      // The receipt may overtake the answer, or be all that comes of a bid from another tab.
      const max = event.kind === "max" ? event.amount : null;
      return { ...state, own: withOwn(state.own, event.lot, max) };
    }
    case "bid.outbid":
      return { ...state, own: withOwn(state.own, event.lot, null), notice: null };
    case "lot.won":
      return { ...state, own: withOwn(state.own, event.lot, null), notice: null };
  }
}

function withOwn(own: Record<string, Own>, lot: string, max: number | null): Record<string, Own> {
  return { ...own, [lot]: { hasBid: true, max: max ?? own[lot]?.max ?? null } };
}

function withOwnFrom(
  own: Record<string, Own>,
  room: RoomModel,
  me: string | null,
): Record<string, Own> {
  let next = own;
  for (const lot of room.lots) {
    const mine = lot.my_max !== null || (me !== null && lot.bids.some((bid) => bid.leader === me));
    if (mine && !next[lot.lot]) next = withOwn(next, lot.lot, lot.my_max);
  }
  return next;
}

/** Where the viewer stands in `lot`. */
export function standingOf(state: ViewerState, lot: LotSnapshot): Standing {
  const { me } = state;
  const hasBid = state.own[lot.lot]?.hasBid ?? false;
  if (lot.state === "sold") {
    if (me !== null && lot.winner === me) return "won";
    return hasBid ? "lost" : "none";
  }
  if (lot.state !== "open") return "none";
  if (me !== null && lot.leader === me) return "leading";
  return hasBid ? "outbid" : "none";
}

/** The maximum that still works for us: the leader's own, above the price. */
export function activeMax(state: ViewerState, lot: LotSnapshot): number | null {
  const max = state.own[lot.lot]?.max ?? null;
  return max !== null && standingOf(state, lot) === "leading" && max > (lot.price ?? 0)
    ? max
    : null;
}

/** What the big button offers: the least amount that the rules take now. */
export function nextAmount(lot: LotSnapshot): number {
  return lot.minimum;
}

/** Least maximum that can be set: the next bid, or for a leader anything above the own one. */
export function leastMax(state: ViewerState, lot: LotSnapshot): number {
  if (standingOf(state, lot) !== "leading") return nextAmount(lot);
  return Math.max(state.own[lot.lot]?.max ?? 0, lot.price ?? 0) + 1;
}

/** Round maxima to offer: one, two … steps up from what stands now. */
export function offeredMax(state: ViewerState, lot: LotSnapshot, steps: number): number {
  const least = leastMax(state, lot);
  const base = standingOf(state, lot) === "leading" ? least - 1 : lot.minimum;
  return base + steps * stepAt(lot.increment, base);
}
