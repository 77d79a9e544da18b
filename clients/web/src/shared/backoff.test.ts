import { expect, test } from "vitest";
import { backoffMs, sleep } from "./backoff";

test("waits grow to the cap and never reach zero", () => {
  const most = (tries: number) => backoffMs(tries, { random: () => 1 });
  const least = (tries: number) => backoffMs(tries, { random: () => 0 });
  expect([0, 1, 2, 3].map(most)).toEqual([250, 500, 1000, 2000]);
  expect(most(60)).toBe(8_000);
  expect(least(60)).toBe(4_000);
  expect(least(0)).toBe(125);
});

test("an aborted sleep ends at once", async () => {
  const controller = new AbortController();
  const slept = sleep(60_000, controller.signal);
  controller.abort(new Error("enough"));
  await expect(slept).rejects.toThrow("enough");
});
