import { expect, test } from "vitest";
import { emptyForm, readForm, softCloseMs } from "./lotForm";

const form = (over = {}) => ({ ...emptyForm("TWD"), title: "Tea bowl", ...over });

test("a plain lot needs a title and nothing else", () => {
  expect(readForm(form())).toEqual({
    lot: {
      title: "Tea bowl",
      format: "english",
      currency: "TWD",
      start_price: 10_000,
      increment: 5_000,
      duration_ms: 60_000,
      soft_close: { window_ms: 10_000, extend_ms: 10_000, mode: "reset" },
    },
  });
});

test("options are sent only when filled in", () => {
  const read = readForm(form({ softClose: false, reserve: "500", buyNow: "2,000" }));
  expect(read).toMatchObject({ lot: { reserve: 50_000, buy_now: 200_000 } });
  expect(read).not.toHaveProperty("lot.soft_close");
});

test.each([
  [{ title: "  " }, ["title"]],
  [{ startPrice: "" }, ["startPrice"]],
  [{ increment: "0" }, ["increment"]],
  [{ reserve: "abc" }, ["reserve"]],
  [{ buyNow: "100" }, ["buyNow"]],
  [{ title: "", startPrice: "x" }, ["title", "startPrice"]],
])("%j is not right in %j", (over, problems) => {
  expect(readForm(form(over))).toEqual({ problems });
});

test("a short lot closes softly for a shorter time", () => {
  expect([softCloseMs(30), softCloseMs(60)]).toEqual([5_000, 10_000]);
});
