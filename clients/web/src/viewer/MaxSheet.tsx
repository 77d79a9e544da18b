/** Setting the own hidden maximum: a stepper for thumbs, a field for those who know. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { t } from "../shared/i18n";
import { parseMoney, plainMoney } from "../shared/money";
import type { LotSnapshot } from "../shared/protocol";
import { stepAt } from "../shared/room";
import { Sheet } from "../shared/ui/controls";
import { Icon } from "../shared/ui/icons";
import { money } from "./LotCard";
import { leastMax, offeredMax, type ViewerState } from "./state";

const QUICK_STEPS = [1, 5, 10] as const;

export function MaxSheet(props: {
  state: ViewerState;
  lot: LotSnapshot;
  onClose: () => void;
  onSet: (max: number) => void;
}): JSX.Element {
  const { state, lot, onClose, onSet } = props;
  const least = leastMax(state, lot);
  const step = stepAt(lot.increment, least);
  const [text, setText] = useState(() => plainMoney(offeredMax(state, lot, 2), lot.currency));
  const amount = parseMoney(text, lot.currency);
  const problem =
    amount === null
      ? t("bid.maxNotNumber", { amount: plainMoney(least, lot.currency) })
      : amount < least
        ? t("bid.maxTooLow", { amount: money(least, lot) })
        : "";
  const set = (next: number) => setText(plainMoney(Math.max(least, next), lot.currency));
  const submit = (event: Event) => {
    event.preventDefault();
    if (problem !== "" || amount === null) return;
    onSet(amount);
    onClose();
  };
  return (
    <Sheet title={t("bid.maxTitle")} onClose={onClose} testid="max-sheet">
      <form class="max-form" onSubmit={submit}>
        <div class="stepper">
          <button
            type="button"
            class="btn"
            aria-label={t("bid.maxLess")}
            onClick={() => set((amount ?? least) - step)}
          >
            <Icon name="minus" />
          </button>
          <input
            class="num"
            inputMode="decimal"
            autocomplete="off"
            aria-label={t("bid.maxTitle")}
            aria-invalid={problem !== ""}
            aria-describedby="max-problem"
            data-testid="max-input"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
          <button
            type="button"
            class="btn"
            aria-label={t("bid.maxMore")}
            onClick={() => set((amount ?? least) + step)}
          >
            <Icon name="plus" />
          </button>
        </div>
        <div class="quick">
          {QUICK_STEPS.map((steps) => {
            const offered = offeredMax(state, lot, steps);
            return (
              <button key={steps} type="button" class="chip num" onClick={() => set(offered)}>
                {money(offered, lot)}
              </button>
            );
          })}
        </div>
        <p id="max-problem" class="notice" data-tone={problem ? "bad" : "info"} aria-live="polite">
          {problem || t("bid.maxHint")}
        </p>
        <button
          type="submit"
          class="btn btn-primary btn-bid num"
          data-testid="max-set"
          disabled={problem !== ""}
        >
          {amount !== null && !problem
            ? t("bid.maxSet", { amount: money(amount, lot) })
            : t("bid.max")}
        </button>
      </form>
    </Sheet>
  );
}
