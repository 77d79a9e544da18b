import { expect, test } from "vitest";
import { lotSnapshot, roomState } from "../shared/fixtures";
import { INITIAL, isInProgram, lotsInOrder, reduce } from "./state";

const room = (over: Parameters<typeof roomState>[0]) =>
  reduce(INITIAL, { type: "room.snapshot", state: roomState(over) }).room;

test("a command is busy until it is done, and its refusal stays until the next try", () => {
  const sent = reduce(INITIAL, { type: "command.sent", lot: "A" });
  expect(sent.busy).toEqual({ A: true });
  const refused = reduce(sent, { type: "command.done", lot: "A", refusal: "bad_state" });
  expect(refused.busy).toEqual({});
  expect(refused.refusals).toEqual({ A: "bad_state" });
  expect(reduce(refused, { type: "command.sent", lot: "A" }).refusals).toEqual({});
});

test("open lots come first, withdrawn ones last", () => {
  const lots = [
    lotSnapshot({ lot: "withdrawn", state: "cancelled", created_at: 9 }),
    lotSnapshot({ lot: "sold", state: "sold", created_at: 1 }),
    lotSnapshot({ lot: "ready", created_at: 2 }),
    lotSnapshot({ lot: "readier", created_at: 3 }),
    lotSnapshot({ lot: "open", state: "open", created_at: 0 }),
  ];
  const order = lotsInOrder(room({ lots })).map((lot) => lot.lot);
  expect(order).toEqual(["open", "readier", "ready", "sold", "withdrawn"]);
});

test.each([
  ["cut to it", "a", ["a", "b"], true],
  ["cut to another", "b", ["a", "b"], false],
  ["no cut, alone", null, ["a"], true],
  ["no cut, one of two", null, ["a", "b"], false],
  ["cut to it but dark", "a", ["b"], false],
])("in the program: %s", (_, program, live, expected) => {
  const cameras = live.map((camera) => ({ camera, live: true, video: null, audio: true }));
  expect(isInProgram(room({ program, cameras }), "a")).toBe(expected);
});
