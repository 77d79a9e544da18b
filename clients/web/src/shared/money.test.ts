import { expect, test } from "vitest";
import { formatMoney, minorDigits, parseMoney, plainMoney } from "./money";

test("decimals follow ISO 4217", () => {
  expect([minorDigits("JPY"), minorDigits("USD"), minorDigits("TWD")]).toEqual([0, 2, 2]);
});

test("an amount reads as its currency does", () => {
  expect(formatMoney(120000, "TWD", "zh-Hant")).toBe("$1,200");
  expect(formatMoney(1200, "JPY", "ja")).toMatch(/^[¥￥]1,200$/);
  expect(formatMoney(1250, "USD", "en")).toBe("$12.50");
});

test.each([
  ["1,200", "USD", 120000],
  ["1200", "JPY", 1200],
  ["１２００", "JPY", 1200],
  ["12.5", "USD", 1250],
  ["12.500", "USD", 1250],
  ["12.505", "USD", null],
  ["1.5", "JPY", null],
  ["", "USD", null],
  ["-3", "USD", null],
  ["1e3", "USD", null],
  ["99999999999999999", "JPY", null],
])("%s %s is typed for %s", (text, currency, amount) => {
  expect(parseMoney(text, currency)).toBe(amount);
});

test("what is shown in a field can be read back", () => {
  for (const amount of [0, 5, 1250, 120000]) {
    expect(parseMoney(plainMoney(amount, "USD"), "USD")).toBe(amount);
  }
});
