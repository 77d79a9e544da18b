import { expect, test } from "vitest";
import { lotSnapshot, lotSold, roomState } from "../shared/fixtures";
import { CheerMeter, INITIAL, reduce, type ScreenAction } from "./state";

const open: ScreenAction = {
  type: "room.snapshot",
  state: roomState({ lots: [lotSnapshot({ state: "open" })] }),
};
const sold: ScreenAction = { type: "room.event", event: lotSold(1500, "ann") };

test("a sale is celebrated once, until its time is over", () => {
  const celebrating = [open, sold].reduce(reduce, INITIAL);
  expect(celebrating.winner).toMatchObject({ price: 1500, winner_name: "ANN" });
  const over = reduce(celebrating, { type: "winner.over", lot: "L1" });
  expect(over.winner).toBeNull();
  expect(reduce(over, sold).winner).toBeNull();
});

test("the next lot ends the celebration of the last", () => {
  const state = [open, sold].reduce(reduce, INITIAL);
  const next = reduce(state, {
    type: "room.event",
    event: {
      type: "lot.opened",
      at: 1,
      lot: "L2",
      title: "",
      currency: "JPY",
      ends_at: 2,
      minimum: 1,
    },
  });
  expect(next.winner).toBeNull();
});

test("the meter rises with cheers, falls with time, and ignores what was before", () => {
  const meter = new CheerMeter();
  meter.add(1_000, 0);
  expect(meter.level(0)).toBe(0);
  meter.add(1_020, 0);
  expect(meter.level(0)).toBeCloseTo(0.5);
  expect(meter.level(2_500)).toBeCloseTo(0.25);
  meter.add(9_999, 2_500);
  expect(meter.level(2_500)).toBe(1);
});
