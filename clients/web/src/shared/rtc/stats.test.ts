import { expect, test } from "vitest";
import { figuresBetween, healthOf, readReport } from "./stats";

const inbound = (bytes: number, packets: number, lost: number, frames: number) =>
  new Map<string, unknown>([
    ["a", { id: "a", type: "inbound-rtp", kind: "audio", packetsReceived: packets * 2 }],
    [
      "v",
      {
        id: "v",
        type: "inbound-rtp",
        kind: "video",
        bytesReceived: bytes,
        packetsReceived: packets,
        packetsLost: lost,
        framesDecoded: frames,
        frameWidth: 1280,
        frameHeight: 720,
        jitterBufferDelay: frames * 0.02,
        jitterBufferEmittedCount: frames,
        codecId: "c",
      },
    ],
    ["c", { id: "c", type: "codec", mimeType: "video/H264" }],
    [
      "p",
      {
        id: "p",
        type: "candidate-pair",
        nominated: true,
        state: "succeeded",
        currentRoundTripTime: 0.031,
      },
    ],
  ]);

test("two readings make rates", () => {
  const before = readReport(inbound(100_000, 100, 1, 30), "inbound-rtp", 1_000);
  const after = readReport(inbound(350_000, 190, 11, 60), "inbound-rtp", 2_000);
  const figures = figuresBetween(before, after);
  expect(figures).toMatchObject({ width: 1280, height: 720, fps: 30, codec: "H264", rttMs: 31 });
  expect(figures.bitrateBps).toBe(2_000_000);
  expect(figures.loss).toBeCloseTo(0.1);
  expect(figures.jitterBufferMs).toBeCloseTo(20);
  expect(after.allPackets).toBe(570);
});

test("one reading alone has no rates", () => {
  const figures = figuresBetween(null, readReport(inbound(9, 9, 9, 9), "inbound-rtp", 5));
  expect([figures.fps, figures.bitrateBps, figures.loss]).toEqual([0, 0, 0]);
});

test("health in one word", () => {
  const figures = figuresBetween(null, readReport(new Map(), "outbound-rtp", 0));
  expect(healthOf(null)).toBe("none");
  expect(healthOf({ ...figures, bitrateBps: 2e6 })).toBe("good");
  expect(healthOf({ ...figures, bitrateBps: 2e6, loss: 0.03 })).toBe("fair");
  expect(healthOf({ ...figures, bitrateBps: 2e6, limitedBy: "bandwidth" })).toBe("fair");
  expect(healthOf({ ...figures, bitrateBps: 2e6, loss: 0.2 })).toBe("poor");
});
