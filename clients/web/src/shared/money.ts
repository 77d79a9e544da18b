/** Amounts are integers in minor units; the currency decides how many decimals that means. */

const digitsByCurrency = new Map<string, number>();

/** Decimals of `currency` as ISO 4217 has them: 0 for JPY, 2 for USD and TWD. */
export function minorDigits(currency: string): number {
  let digits = digitsByCurrency.get(currency);
  if (digits === undefined) {
    const format = new Intl.NumberFormat("en", { style: "currency", currency });
    digits = format.resolvedOptions().maximumFractionDigits ?? 2;
    digitsByCurrency.set(currency, digits);
  }
  return digits;
}

const formats = new Map<string, Intl.NumberFormat>();

/**
 * `amount` (minor units) for a reader of `locale`, with the sign that says which dollar where that is not plain.
 * Whole amounts lose their empty decimals: a price on a wall reads better without ".00".
 */
export function formatMoney(amount: number, currency: string, locale: string): string {
  const digits = minorDigits(currency);
  const value = amount / 10 ** digits;
  const fraction = Number.isInteger(value) ? 0 : digits;
  const key = `${locale}|${currency}|${fraction}`;
  let format = formats.get(key);
  if (!format) {
    format = new Intl.NumberFormat(locale, {
      style: "currency",
      currency,
      minimumFractionDigits: fraction,
      maximumFractionDigits: fraction,
    });
    formats.set(key, format);
  }
  return format.format(value);
}

/** What a person typed ("1,200", "12.5") as minor units, or null if it is no whole amount of them. */
export function parseMoney(text: string, currency: string): number | null {
  const plain = text.normalize("NFKC").replace(/[\s,']/g, "");
  if (!/^\d+(\.\d+)?$/.test(plain)) return null;
  const [whole = "", fraction = ""] = plain.split(".");
  const digits = minorDigits(currency);
  if (fraction.replace(/0+$/, "").length > digits) return null;
  const minor = Number(whole + fraction.slice(0, digits).padEnd(digits, "0"));
  return Number.isSafeInteger(minor) ? minor : null;
}

/** `amount` as it would be typed: digits and a decimal point only. */
export function plainMoney(amount: number, currency: string): string {
  const digits = minorDigits(currency);
  const value = amount / 10 ** digits;
  return Number.isInteger(value) ? String(value) : value.toFixed(digits);
}
