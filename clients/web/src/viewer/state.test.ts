import { expect, test } from "vitest";
import { bidAccepted, lotSnapshot, lotSold, roomState } from "../shared/fixtures";
import type { RoomEvent } from "../shared/protocol";
import {
  activeMax,
  INITIAL,
  leastMax,
  nextAmount,
  offeredMax,
  reduce,
  standingOf,
  type ViewerAction,
} from "./state";

const run = (actions: ViewerAction[]) => actions.reduce(reduce, INITIAL);
const entered: ViewerAction = { type: "entered", me: "me", canBid: true };
const open: ViewerAction = {
  type: "room.snapshot",
  state: roomState({ lots: [lotSnapshot({ state: "open", ends_at: 99_000, opened_at: 1 })] }),
};
const bid = (seq: number, price: number, leader: string) => event(bidAccepted(seq, price, leader));
const event = (value: RoomEvent): ViewerAction => ({ type: "room.event", event: value });
const lotOf = (state: typeof INITIAL) => {
  const lot = state.room.lots[0];
  if (!lot) throw new Error("no lot");
  return lot;
};
const attempt: ViewerAction = {
  type: "bid.attempt",
  key: "k",
  lot: "L1",
  kind: "open",
  amount: 1100,
};

test("an attempt ends only when the price it was answered with is shown", () => {
  const answered = run([
    entered,
    open,
    attempt,
    {
      type: "bid.answered",
      key: "k",
      reply: { seq: 1, price: 1000, leader: "me", ends_at: 99_000 },
    },
  ]);
  expect(answered.attempt?.ackSeq).toBe(1);
  const shown = reduce(answered, bid(1, 1000, "me"));
  expect(shown.attempt).toBeNull();
  expect(shown.notice).toEqual({ lot: "L1", kind: "accepted" });
  expect(standingOf(shown, lotOf(shown))).toBe("leading");
});

test("an answer that comes after the event ends the attempt at once", () => {
  const state = run([
    entered,
    open,
    attempt,
    bid(1, 1000, "me"),
    {
      type: "bid.answered",
      key: "k",
      reply: { seq: 1, price: 1000, leader: "me", ends_at: 99_000 },
    },
  ]);
  expect(state.attempt).toBeNull();
});

test("answers to other taps change nothing", () => {
  const state = run([entered, open, attempt]);
  expect(reduce(state, { type: "bid.unanswered", key: "other" })).toBe(state);
  expect(reduce(state, { type: "bid.held", key: "other" })).toBe(state);
});

test("a refusal says why and frees the button", () => {
  const state = run([
    entered,
    open,
    attempt,
    { type: "bid.refused", key: "k", reason: "too_low", minimum: 1200 },
  ]);
  expect(state.attempt).toBeNull();
  expect(state.notice).toEqual({ lot: "L1", kind: "refused", reason: "too_low", minimum: 1200 });
});

test("who led and leads no more is outbid; who never bid is nothing", () => {
  const state = run([entered, open, bid(1, 1000, "me"), bid(2, 1100, "ann")]);
  expect(standingOf(state, lotOf(state))).toBe("outbid");
  const onlooker = run([entered, open, bid(1, 1000, "ann")]);
  expect(standingOf(onlooker, lotOf(onlooker))).toBe("none");
});

test("the hammer tells winner and loser apart", () => {
  const sold = (winner: string) =>
    run([entered, open, bid(1, 1000, "me"), bid(2, 1100, winner), event(lotSold(1100, winner))]);
  expect(standingOf(sold("me"), lotOf(sold("me")))).toBe("won");
  expect(standingOf(sold("ann"), lotOf(sold("ann")))).toBe("lost");
});

test("a hidden maximum works while it leads and is above the price", () => {
  const receipt: ViewerAction = {
    type: "user.event",
    event: {
      type: "bid.receipt",
      lot: "L1",
      seq: 1,
      kind: "max",
      amount: 5000,
      price: 1000,
      leader: "me",
      at: 1,
    },
  };
  const state = run([entered, open, bid(1, 1000, "me"), receipt]);
  expect(activeMax(state, lotOf(state))).toBe(5000);
  expect(leastMax(state, lotOf(state))).toBe(5001);
  expect(offeredMax(state, lotOf(state), 2)).toBe(5200);
  const passed = reduce(state, bid(2, 5100, "ann"));
  expect(activeMax(passed, lotOf(passed))).toBeNull();
  expect(leastMax(passed, lotOf(passed))).toBe(nextAmount(lotOf(passed)));
});

test("a snapshot with my maximum means that I have bid", () => {
  const state = run([
    entered,
    {
      type: "room.snapshot",
      state: roomState({
        lots: [lotSnapshot({ state: "open", seq: 4, price: 1300, leader: "ann", my_max: 1200 })],
      }),
    },
  ]);
  expect(standingOf(state, lotOf(state))).toBe("outbid");
});

test("coming back is told once", () => {
  const state = run([
    { type: "link", link: "online" },
    { type: "link", link: "lost" },
    { type: "link", link: "online" },
  ]);
  expect(state.isBack).toBe(true);
  expect(reduce(state, { type: "noticed" }).isBack).toBe(false);
});
