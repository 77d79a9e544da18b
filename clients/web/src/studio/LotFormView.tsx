/** Making a lot in ten seconds: a title is all that must be typed. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { Icon } from "../shared/ui/icons";
import { Field } from "./CameraPane";
import type { StudioController } from "./controller";
import { Refusal } from "./LotsPane";
import {
  CURRENCIES,
  DURATIONS_S,
  emptyForm,
  type FieldProblem,
  type LotForm,
  MAX_TITLE,
  readForm,
  softCloseMs,
} from "./lotForm";
import { s } from "./words";

const LOCALE_CURRENCY: Record<string, string> = { zh: "TWD", ja: "JPY" };

function homeCurrency(): string {
  return LOCALE_CURRENCY[document.documentElement.lang.split("-")[0] ?? ""] ?? "USD";
}

export function LotFormView({ controller }: { controller: StudioController }): JSX.Element {
  const [form, setForm] = useState<LotForm>(() => emptyForm(homeCurrency()));
  const [problems, setProblems] = useState<FieldProblem[]>([]);
  const [isMore, setMore] = useState(false);
  const isBusy = controller.store.state.value.busy[""] ?? false;
  const set = (change: Partial<LotForm>) => setForm((before) => ({ ...before, ...change }));
  const has = (field: FieldProblem) => problems.includes(field);
  const submit = async (startNow: boolean) => {
    const read = readForm(form);
    if ("problems" in read) {
      setProblems(read.problems);
      if (read.problems.some((each) => each === "reserve" || each === "buyNow")) setMore(true);
      return;
    }
    setProblems([]);
    if (await controller.createLot(read.lot, startNow)) {
      setForm((before) => ({ ...before, title: "", reserve: "", buyNow: "" }));
    }
  };
  const amount = (field: "startPrice" | "increment" | "reserve" | "buyNow", label: string) => (
    <Field
      label={label}
      {...(field === "reserve" || field === "buyNow" ? { hint: s("optional") } : {})}
      problem={has(field) ? s("invalidAmount") : undefined}
    >
      {(id) => (
        <input
          id={id}
          class="num"
          data-testid={`lot-${field}`}
          inputMode="decimal"
          autocomplete="off"
          aria-invalid={has(field)}
          value={form[field]}
          onInput={(event) => set({ [field]: event.currentTarget.value })}
        />
      )}
    </Field>
  );
  return (
    <form
      class="lot-form"
      data-testid="lot-form"
      onSubmit={(event) => {
        event.preventDefault();
        void submit(true);
      }}
    >
      <h2 class="pane-title">{s("newLot")}</h2>
      <Field label={s("lotTitle")} problem={has("title") ? s("invalidTitle") : undefined}>
        {(id) => (
          <input
            id={id}
            data-testid="lot-title-input"
            maxLength={MAX_TITLE}
            placeholder={s("lotTitleHint")}
            autocomplete="off"
            aria-invalid={has("title")}
            value={form.title}
            onInput={(event) => set({ title: event.currentTarget.value })}
          />
        )}
      </Field>
      <div class="lot-form-row">
        <Field label={s("currency")}>
          {(id) => (
            <select
              id={id}
              data-testid="lot-currency"
              value={form.currency}
              onChange={(event) => {
                const { startPrice, increment, currency } = emptyForm(event.currentTarget.value);
                set({ currency, startPrice, increment });
              }}
            >
              {CURRENCIES.map((each) => (
                <option key={each}>{each}</option>
              ))}
            </select>
          )}
        </Field>
        {amount("startPrice", s("startPrice"))}
        {amount("increment", s("increment"))}
      </div>
      <fieldset class="segments bare">
        <legend class="label">{s("duration")}</legend>
        {DURATIONS_S.map((each) => (
          <label key={each}>
            <input
              type="radio"
              name="duration"
              data-testid={`duration-${each}`}
              checked={form.durationS === each}
              onChange={() => set({ durationS: each })}
            />
            <span class="num">
              {each < 60 ? s("seconds", { n: each }) : s("minutes", { n: each / 60 })}
            </span>
          </label>
        ))}
      </fieldset>
      <label class="check">
        <input
          type="checkbox"
          data-testid="soft-close"
          checked={form.softClose}
          onChange={(event) => set({ softClose: event.currentTarget.checked })}
        />
        <span>
          {s("softClose")}
          <small>{s("softCloseHint", { n: softCloseMs(form.durationS) / 1000 })}</small>
        </span>
      </label>
      {isMore ? (
        <div class="lot-form-row two">
          {amount("reserve", s("reserve"))}
          {amount("buyNow", s("buyNow"))}
        </div>
      ) : (
        <button type="button" class="link" data-testid="lot-more" onClick={() => setMore(true)}>
          <Icon name="plus" />
          {s("moreOptions")}
        </button>
      )}
      <Refusal controller={controller} lot="" />
      <div class="lot-form-actions">
        <button
          type="button"
          class="btn"
          data-testid="lot-create"
          disabled={isBusy}
          onClick={() => void submit(false)}
        >
          {s("create")}
        </button>
        <button
          type="submit"
          class="btn btn-primary"
          data-testid="lot-create-start"
          disabled={isBusy}
        >
          {s("createStart")}
        </button>
      </div>
    </form>
  );
}
