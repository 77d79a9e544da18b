/** Time left of a lot, by the server's clock. */
import type { JSX } from "preact";
import { useRef } from "preact/hooks";
import { t } from "../i18n";
import type { LotSnapshot } from "../protocol";
import { tickingSignal } from "./controls";

/** From here on the countdown is hot and shows tenths. */
export const HOT_MS = 10_000;
const ANNOUNCED_S = [60, 30, 10, 5] as const;

const fast = tickingSignal(100);

/** "12:05", "0:42", and in the last seconds "9.4". Never negative. */
export function formatLeft(leftMs: number): string {
  const left = Math.max(0, leftMs);
  if (left < HOT_MS) return (Math.floor(left / 100) / 10).toFixed(1);
  const seconds = Math.ceil(left / 1000);
  const h = Math.floor(seconds / 3600);
  const m = Math.floor(seconds / 60) % 60;
  const s = String(seconds % 60).padStart(2, "0");
  return h > 0 ? `${h}:${String(m).padStart(2, "0")}:${s}` : `${m}:${s}`;
}

/** Milliseconds until `lot` closes; null unless it is open. */
export function leftOf(lot: LotSnapshot, now: () => number): number | null {
  if (lot.state !== "open" || lot.ends_at === null) return null;
  return Math.max(0, lot.ends_at - now());
}

export function Countdown({
  lot,
  now,
}: {
  lot: LotSnapshot;
  now: () => number;
}): JSX.Element | null {
  void fast.value;
  const left = leftOf(lot, now);
  if (left === null) return null;
  return (
    <div
      class="countdown"
      data-hot={left < HOT_MS}
      data-testid="countdown"
      data-left={Math.round(left)}
    >
      <span class="label">{t("lot.timeLeft")}</span>
      <time class="num" role="timer">
        {left === 0 ? t("lot.closing") : formatLeft(left)}
      </time>
      <SpokenTime leftMs={left} />
    </div>
  );
}

/** Says the time at a few moments only: a screen reader must not count every second. */
function SpokenTime({ leftMs }: { leftMs: number }): JSX.Element {
  const seconds = Math.ceil(leftMs / 1000);
  const spoken = useRef<number | null>(null);
  const step = ANNOUNCED_S.findLast((each) => seconds <= each) ?? null;
  if (step !== null && seconds > step - 2) spoken.current = step;
  else if (step === null) spoken.current = null;
  return (
    <span class="unseen" aria-live="polite">
      {spoken.current === null ? "" : t("lot.secondsLeft", { n: spoken.current })}
    </span>
  );
}

/** The light that burns down with the lot's time. */
export function Filament({ lot, now }: { lot: LotSnapshot; now: () => number }): JSX.Element {
  void fast.value;
  const left = leftOf(lot, now);
  const whole = Math.max(lot.duration_ms, 1);
  const share = left === null ? 0 : Math.min(1, left / whole);
  return (
    <div class="filament" data-hot={left !== null && left < HOT_MS} aria-hidden="true">
      <i style={{ transform: `scaleX(${share.toFixed(4)})` }} />
    </div>
  );
}
