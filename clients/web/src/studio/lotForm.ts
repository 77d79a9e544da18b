/** What the host typed, as a lot the server takes. Pure. */
import { parseMoney } from "../shared/money";
import type { NewLot } from "../shared/protocol";

export interface LotForm {
  title: string;
  currency: string;
  startPrice: string;
  increment: string;
  durationS: number;
  softClose: boolean;
  reserve: string;
  buyNow: string;
}

export type FieldProblem = "title" | "startPrice" | "increment" | "reserve" | "buyNow";

export const CURRENCIES = ["TWD", "JPY", "USD"] as const;
export const DURATIONS_S = [30, 60, 120, 300] as const;
export const MAX_TITLE = 120;

/** Soft close: a bid in the last seconds sets the clock back to that long. */
export function softCloseMs(durationS: number): number {
  return durationS <= 30 ? 5_000 : 10_000;
}

const DEFAULTS: Record<string, [start: string, step: string]> = {
  TWD: ["100", "50"],
  JPY: ["1000", "100"],
  USD: ["10", "1"],
};

export function emptyForm(currency: string): LotForm {
  const [startPrice, increment] = DEFAULTS[currency] ?? ["10", "1"];
  return {
    title: "",
    currency,
    startPrice,
    increment,
    durationS: 60,
    softClose: true,
    reserve: "",
    buyNow: "",
  };
}

/** The lot, or the fields that are not right yet. */
export function readForm(form: LotForm): { lot: NewLot } | { problems: FieldProblem[] } {
  const problems: FieldProblem[] = [];
  const title = form.title.trim().slice(0, MAX_TITLE);
  if (title === "") problems.push("title");
  const amount = (field: Exclude<FieldProblem, "title">): number | undefined => {
    const text = form[field].trim();
    if (text === "" && (field === "reserve" || field === "buyNow")) return undefined;
    const minor = parseMoney(text, form.currency);
    if (minor === null || minor === 0) problems.push(field);
    return minor ?? 0;
  };
  const start = amount("startPrice") ?? 0;
  const increment = amount("increment") ?? 0;
  const reserve = amount("reserve");
  const buyNow = amount("buyNow");
  if (buyNow !== undefined && buyNow <= start && !problems.includes("buyNow"))
    problems.push("buyNow");
  if (problems.length > 0) return { problems };
  const window = softCloseMs(form.durationS);
  const lot: NewLot = {
    title,
    format: "english",
    currency: form.currency,
    start_price: start,
    increment,
    duration_ms: form.durationS * 1000,
  };
  if (form.softClose) lot.soft_close = { window_ms: window, extend_ms: window, mode: "reset" };
  if (reserve !== undefined) lot.reserve = reserve;
  if (buyNow !== undefined) lot.buy_now = buyNow;
  return { lot };
}
