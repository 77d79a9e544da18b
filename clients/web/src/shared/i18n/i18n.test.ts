import { describe, expect, test } from "vitest";
import { STUDIO_WORDS } from "../../studio/words";
import { REASONS } from "../protocol";
import { en } from "./en";
import { fill, LOCALES, type Locale, pickLocale, reasonText } from "./index";
import { ja } from "./ja";
import { zhHant } from "./zh-Hant";

const DICTIONARIES = { en, ja, "zh-Hant": zhHant };

const placeholders = (text = "") =>
  [...new Set([...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]))].sort();

const OTHERS = (Object.keys(LOCALES) as Locale[]).filter((each) => each !== "en");

describe.each([
  ["shared", DICTIONARIES],
  ["studio", STUDIO_WORDS],
])("%s words", (_, dictionaries) => {
  const english: Record<string, string> = dictionaries.en;

  test.each(OTHERS)("%s has English's keys, in full, with its placeholders", (name) => {
    const words: Record<string, string> = dictionaries[name];
    expect(Object.keys(words).sort()).toEqual(Object.keys(english).sort());
    for (const [key, text] of Object.entries(words)) {
      expect(text.trim(), key).not.toBe("");
      expect(placeholders(text), key).toEqual(placeholders(english[key]));
    }
  });
});

test.each(Object.keys(LOCALES) as Locale[])("%s explains every reason", (name) => {
  for (const reason of REASONS) expect(DICTIONARIES[name]).toHaveProperty([`reason.${reason}`]);
});

test("a word that is no reason reads as our own fault", () => {
  expect(reasonText("nonsense")).toBe(en["reason.internal"]);
});

test.each([
  ["ja", ["en-US"], "ja"],
  [null, ["zh-TW", "en"], "zh-Hant"],
  [null, ["fr", "ja-JP"], "ja"],
  ["klingon", ["de"], "en"],
] as const)("chosen %s, browser %j: %s", (chosen, wanted, locale) => {
  expect(pickLocale(chosen, wanted)).toBe(locale);
});

test("placeholders are filled, unknown ones stay visible", () => {
  expect(fill("{a} and {b}", { a: 1 })).toBe("1 and {b}");
});
