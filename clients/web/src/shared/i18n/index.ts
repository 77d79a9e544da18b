/**
 * Words in three languages. English is the measure: a key that another language lacks, or a
 * placeholder that a call does not fill, is a type error. Words of one page only live with
 * that page (`wordsIn`), so that no phone loads the studio's.
 */
import { effect, signal } from "@preact/signals";
import { isReason, type Reason } from "../protocol";
import { type En, en } from "./en";
import { ja } from "./ja";
import { zhHant } from "./zh-Hant";

export const LOCALES = { "zh-Hant": "繁體中文", en: "English", ja: "日本語" } as const;
export type Locale = keyof typeof LOCALES;
/** The same keys as `E`, in another language. */
export type Words<E> = { readonly [K in keyof E]: string };
export type Dictionary = Words<En>;
export type Key = keyof En;

export const DICTIONARIES = { en, ja, "zh-Hant": zhHant };

type Placeholder<S extends string> = S extends `${string}{${infer P}}${infer Rest}`
  ? P | Placeholder<Rest>
  : never;
type Params<S extends string> = [Placeholder<S>] extends [never]
  ? []
  : [values: Record<Placeholder<S>, string | number>];

const STORE_KEY = "livehouse.language";

/** The language to start with: the one chosen before, else the first known of `wanted`. */
export function pickLocale(chosen: string | null, wanted: readonly string[]): Locale {
  if (chosen && chosen in LOCALES) return chosen as Locale;
  for (const tag of wanted) {
    const language = tag.toLowerCase().split("-")[0];
    if (language === "zh") return "zh-Hant";
    if (language === "ja") return "ja";
    if (language === "en") return "en";
  }
  return "en";
}

function chosenLocale(): string | null {
  const asked = new URLSearchParams(location.search).get("lang");
  if (asked && asked in LOCALES) return asked;
  try {
    return localStorage.getItem(STORE_KEY);
  } catch {
    return null;
  }
}

export const locale = signal<Locale>(
  typeof window === "undefined" ? "en" : pickLocale(chosenLocale(), navigator.languages),
);

export function chooseLocale(next: Locale): void {
  locale.value = next;
  try {
    localStorage.setItem(STORE_KEY, next);
  } catch {
    // Not remembered, then.
  }
}

/** Keeps `<html lang>` right: fonts, hyphenation and screen readers depend on it. */
export function followLocale(): void {
  effect(() => {
    document.documentElement.lang = locale.value;
  });
}

/** A function from key to words; reading it in a view follows the chosen language. */
export function wordsIn<E extends Record<string, string>>(
  dictionaries: { en: E } & Record<Exclude<Locale, "en">, Words<E>>,
) {
  return <K extends keyof E & string>(key: K, ...[values]: Params<E[K]>): string => {
    const words: Words<E> = dictionaries[locale.value];
    return fill(words[key], values as Record<string, string | number> | undefined);
  };
}

export function fill(template: string, values?: Record<string, string | number>): string {
  if (!values) return template;
  return template.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

export const t = wordsIn<En>(DICTIONARIES);

/** What a refusal means and what to do about it, in the user's words. */
export function reasonText(reason: Reason | string): string {
  return t(isReason(reason) ? `reason.${reason}` : "reason.internal");
}

/** 1,234 → "1,234"; 12,345 → "12K" or "1.2萬": a count that fits a small badge. */
export function formatCount(count: number): string {
  const options: Intl.NumberFormatOptions =
    count < 10_000 ? {} : { notation: "compact", maximumFractionDigits: 1 };
  return new Intl.NumberFormat(locale.value, options).format(count);
}
