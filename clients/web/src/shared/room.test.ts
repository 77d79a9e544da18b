import { expect, test } from "vitest";
import { bidAccepted, lotCreated, lotSnapshot, lotSold, roomState } from "./fixtures";
import type { RoomEvent } from "./protocol";
import {
  currentLot,
  EMPTY_ROOM,
  isWatchable,
  RESULT_MS,
  type RoomAction,
  reduceRoom,
  stepAt,
} from "./room";

const run = (...actions: RoomAction[]) => actions.reduce(reduceRoom, EMPTY_ROOM);
const event = (value: RoomEvent): RoomAction => ({ type: "room.event", event: value });
const withLots = (...lots: ReturnType<typeof lotSnapshot>[]): RoomAction => ({
  type: "room.snapshot",
  state: roomState({ lots }),
});
const openLot = lotSnapshot({ state: "open", opened_at: 1, ends_at: 60_000 });
const bid = (seq: number, price: number) => event(bidAccepted(seq, price, "ann"));

test.each([
  [100, 5_000, 100],
  [
    [
      [0, 10],
      [100, 25],
      [1000, 50],
    ] as [number, number][],
    99,
    10,
  ],
  [
    [
      [0, 10],
      [100, 25],
      [1000, 50],
    ] as [number, number][],
    100,
    25,
  ],
  [
    [
      [0, 10],
      [100, 25],
      [1000, 50],
    ] as [number, number][],
    9_999,
    50,
  ],
])("step of %j at %i is %i", (increment, price, step) => {
  expect(stepAt(increment, price)).toBe(step);
});

test("a bid moves price, leader and minimum", () => {
  const lot = run(withLots(openLot), bid(1, 1200)).lots[0];
  expect(lot).toMatchObject({ price: 1200, leader: "ann", seq: 1, minimum: 1300 });
  expect(lot?.bids).toHaveLength(1);
});

test("an event that the snapshot already holds changes nothing", () => {
  const room = run(withLots({ ...openLot, seq: 2, price: 1300 }));
  expect(reduceRoom(room, bid(2, 1200))).toBe(room);
  expect(reduceRoom(room, bid(1, 1100))).toBe(room);
});

test("an older snapshot does not undo newer events", () => {
  const room = run(withLots(openLot), bid(1, 1000), bid(2, 1100), withLots(openLot));
  expect(room.lots[0]).toMatchObject({ seq: 2, price: 1100 });
});

test("a lot that ended stays ended", () => {
  const sold = event(lotSold(1000, "ann"));
  const room = run(withLots(openLot), bid(1, 1000), sold, bid(2, 1100));
  expect(room.lots[0]).toMatchObject({ state: "sold", price: 1000, winner: "ann" });
  const reopened = reduceRoom(
    room,
    event({
      type: "lot.opened",
      lot: "L1",
      title: "",
      currency: "JPY",
      ends_at: 9,
      minimum: 1,
      at: 9,
    }),
  );
  expect(reopened.lots[0]?.state).toBe("sold");
});

test("an extension only ever moves the end later", () => {
  const extended = (ends_at: number) => event({ type: "lot.extended", lot: "L1", ends_at, at: 3 });
  expect(run(withLots(openLot), extended(70_000)).lots[0]?.ends_at).toBe(70_000);
  expect(run(withLots(openLot), extended(50_000)).lots[0]?.ends_at).toBe(60_000);
});

test("a new lot is shown at once and described in full later, asked for once", () => {
  const created = event(lotCreated({ lot: "L9" }));
  const room = run(withLots(), created, created);
  expect(room.unknownLots).toEqual(["L9"]);
  expect(room.lots[0]).toMatchObject({ lot: "L9", state: "created", minimum: 1000 });
  const full = lotSnapshot({ lot: "L9", reserve: "unmet" });
  const known = reduceRoom(room, { type: "room.lot", lot: full });
  expect(known.unknownLots).toEqual([]);
  expect(known.lots).toEqual([full]);
});

test("an event of a lot that was never announced asks for it", () => {
  expect(run(withLots(), bid(3, 1300)).unknownLots).toEqual(["L1"]);
});

test("the open lot is in front, then its result, then the next one", () => {
  const open = { ...openLot, lot: "A" };
  const next = lotSnapshot({ lot: "B", created_at: 5 });
  const ended = { ...openLot, lot: "C", state: "sold" as const, ends_at: 10_000 };
  expect(currentLot(run(withLots(next, open, ended)), 11_000)?.lot).toBe("A");
  expect(currentLot(run(withLots(next, ended)), 11_000)?.lot).toBe("C");
  expect(currentLot(run(withLots(next, ended)), 10_000 + RESULT_MS)?.lot).toBe("B");
  expect(currentLot(run(withLots(ended)), 10_000 + RESULT_MS)).toBeNull();
});

test("of several open lots the chosen one is in front, else the newest", () => {
  const room = run(withLots({ ...openLot, lot: "A" }, { ...openLot, lot: "B", opened_at: 2 }));
  expect(currentLot(room, 0)?.lot).toBe("B");
  expect(currentLot(room, 0, "A")?.lot).toBe("A");
});

test("cameras come, go and are remembered", () => {
  const live = (camera: string) =>
    event({ type: "camera.live", camera, video: { codec: "VP8" }, audio: true, at: 1 });
  const room = run(live("wide"), live("close"));
  expect(room.cameras.map((each) => each.camera)).toEqual(["close", "wide"]);
  const gone = reduceRoom(room, event({ type: "camera.offline", camera: "wide", at: 2 }));
  expect(isWatchable(gone, "wide")).toBe(false);
  expect(isWatchable(gone, null)).toBe(true);
  const cut = reduceRoom(gone, event({ type: "program.changed", camera: "wide", at: 3 }));
  expect(isWatchable(cut, null)).toBe(false);
});
