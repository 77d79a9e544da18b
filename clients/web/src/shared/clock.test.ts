import { expect, test } from "vitest";
import { estimateOffset } from "./clock";

const exchange = (sentAt: number, outMs: number, backMs: number, offset: number) => ({
  sentAt,
  receivedAt: sentAt + outMs + backMs,
  serverAt: sentAt + outMs + offset,
});

test("no exchange, no offset", () => {
  expect(estimateOffset([])).toBe(0);
});

test("a symmetric path gives the offset exactly", () => {
  expect(estimateOffset([exchange(1000, 20, 20, 5000)])).toBe(5000);
});

test("slow, lopsided exchanges do not spoil the estimate", () => {
  const exchanges = [
    exchange(0, 10, 10, -700),
    exchange(100, 400, 10, -700),
    exchange(600, 12, 10, -700),
    exchange(700, 10, 900, -700),
  ];
  expect(Math.abs(estimateOffset(exchanges) + 700)).toBeLessThanOrEqual(1);
});
