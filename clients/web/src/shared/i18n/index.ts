/**
 * Words in three languages. English is the measure: a key that another language lacks, or a
 * placeholder that a call does not fill, is a type error. Words of one page only live with
 * that page (`wordsIn`), so that no phone loads the studio's. A phone loads the one other
 * language it speaks; English is always there and stands in when that fails.
 */
import { effect, signal } from "@preact/signals";
import { isReason, type Reason } from "../protocol";
import { type En, en } from "./en";

export const LOCALES = { "zh-Hant": "繁體中文", en: "English", ja: "日本語" } as const;
export type Locale = keyof typeof LOCALES;
/** The same keys as `E`, in another language. */
export type Words<E> = { readonly [K in keyof E]: string };
export type Dictionary = Words<En>;
export type Key = keyof En;

/** Words by language; English is always among them. */
type Loaded<E> = { en: Words<E> } & Partial<Record<Locale, Words<E>>>;

const LOADERS: Record<Locale, () => Promise<Dictionary>> = {
  en: async () => en,
  ja: async () => (await import("./ja")).ja,
  "zh-Hant": async () => (await import("./zh-Hant")).zhHant,
};
const loaded: Loaded<En> = { en };

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

/** The language shown; its words are loaded. */
export const locale = signal<Locale>("en");

async function showLocale(next: Locale): Promise<void> {
  try {
    loaded[next] ??= await LOADERS[next]();
    locale.value = next;
  } catch {
    // The link is down: the words that are here will do until the next try.
  }
}

/** Loads the reader's language. From then on `<html lang>` says it: fonts depend on it. */
export async function startLocale(): Promise<void> {
  await showLocale(pickLocale(chosenLocale(), navigator.languages));
  effect(() => {
    document.documentElement.lang = locale.value;
  });
}

export async function chooseLocale(next: Locale): Promise<void> {
  await showLocale(next);
  try {
    localStorage.setItem(STORE_KEY, locale.value);
  } catch {
    // Not remembered, then.
  }
}

/** A function from key to words; reading it in a view follows the chosen language. */
export function wordsIn<E extends Record<string, string>>(dictionaries: Loaded<E>) {
  return <K extends keyof E & string>(key: K, ...[values]: Params<E[K]>): string => {
    const words: Words<E> = dictionaries[locale.value] ?? dictionaries.en;
    return fill(words[key], values as Record<string, string | number> | undefined);
  };
}

export function fill(template: string, values?: Record<string, string | number>): string {
  if (!values) return template;
  return template.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

export const t = wordsIn<En>(loaded);

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
