import { expect, test } from "vitest";
import { encodingsFor, sendOnly } from "./simulcast";

const quality = (height: number) => ({ height, maxBitrateBps: 2_500_000, maxFramerate: 30 });

test("three layers of a tall picture, the smallest first", () => {
  const encodings = encodingsFor(quality(720));
  expect(encodings.map((each) => each.rid)).toEqual(["q", "h", "f"]);
  expect(encodings.map((each) => each.scaleResolutionDownBy)).toEqual([4, 2, 1]);
  expect(encodings.map((each) => each.maxBitrate)).toEqual([250_000, 750_000, 2_500_000]);
});

test("no layer too small to be seen", () => {
  expect(encodingsFor(quality(480)).map((each) => each.rid)).toEqual(["h", "f"]);
  expect(encodingsFor(quality(240)).map((each) => each.rid)).toEqual(["f"]);
});

function fakeSender(rids: string[]) {
  const calls: boolean[][] = [];
  const encodings: RTCRtpEncodingParameters[] = rids.map((rid) => ({ rid, active: true }));
  const sender = {
    getParameters: () => ({ encodings }),
    setParameters: async (parameters: { encodings: RTCRtpEncodingParameters[] }) => {
      calls.push(parameters.encodings.map((each) => each.active === true));
    },
  };
  return { sender: sender as unknown as RTCRtpSender, calls };
}

test("layers that nobody wants rest", async () => {
  const { sender, calls } = fakeSender(["q", "h", "f"]);
  await sendOnly(sender, ["q", "h"]);
  await sendOnly(sender, ["q", "h", "f"]);
  expect(calls).toEqual([
    [true, true, false],
    [true, true, true],
  ]);
});

test("a plain picture is never switched off", async () => {
  const { sender, calls } = fakeSender([""]);
  await sendOnly(sender, []);
  expect(calls).toEqual([]);
});
