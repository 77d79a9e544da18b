/** The lots side: the one that runs, a form for the next, and what became of the others. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { locale, reasonText, t } from "../shared/i18n";
import { formatMoney } from "../shared/money";
import type { LotSnapshot } from "../shared/protocol";
import { Countdown, Filament } from "../shared/ui/countdown";
import type { StudioController } from "./controller";
import { LotFormView } from "./LotFormView";
import { lotsInOrder } from "./state";
import { s } from "./words";

interface Props {
  controller: StudioController;
}

export function LotsPane({ controller }: Props): JSX.Element {
  const { room } = controller.store.state.value;
  const lots = lotsInOrder(room);
  const open = lots.filter((lot) => lot.state === "open");
  const others = lots.filter((lot) => lot.state !== "open");
  return (
    <section class="pane lots-pane" aria-label={s("tabLots")}>
      {open.map((lot) => (
        <OpenLot key={lot.lot} controller={controller} lot={lot} />
      ))}
      {controller.mayRunLots ? (
        <LotFormView controller={controller} />
      ) : (
        <p class="warning">{s("hostOnly")}</p>
      )}
      <h2 class="pane-title">{s("lots")}</h2>
      {room.known && lots.length === 0 && <p class="empty">{s("noLots")}</p>}
      <ul class="lot-list">
        {others.map((lot) => (
          <LotRow key={lot.lot} controller={controller} lot={lot} />
        ))}
      </ul>
    </section>
  );
}

const money = (amount: number, lot: LotSnapshot) => formatMoney(amount, lot.currency, locale.value);

function OpenLot({ controller, lot }: Props & { lot: LotSnapshot }): JSX.Element {
  const now = () => controller.now();
  return (
    <article class="open-lot" data-testid="open-lot" data-lot={lot.lot}>
      <Filament lot={lot} now={now} />
      <div class="open-head">
        <div>
          <span class="label">{s("stateOpen")}</span>
          <h2>{lot.title}</h2>
        </div>
        <Countdown lot={lot} now={now} />
      </div>
      <div class="open-price">
        <strong class="price num" data-testid="price" data-amount={lot.price ?? lot.start_price}>
          {money(lot.price ?? lot.start_price, lot)}
        </strong>
        <p aria-live="polite">
          {lot.leader_name ? t("lot.leads", { name: lot.leader_name }) : t("lot.start")}
        </p>
      </div>
      {lot.reserve !== "none" && (
        <p class="label">{lot.reserve === "met" ? t("lot.reserveMet") : t("lot.reserveUnmet")}</p>
      )}
      {lot.bids.length > 0 && (
        <ol class="bids" aria-label={t("lot.bids")} data-testid="bids">
          {lot.bids.slice(0, 8).map((bid) => (
            <li key={bid.seq}>
              <time class="num label">{clockTime(bid.at)}</time>
              <span>{bid.leader_name}</span>
              <b class="num">{money(bid.price, lot)}</b>
            </li>
          ))}
        </ol>
      )}
      <Withdraw controller={controller} lot={lot} />
      <Refusal controller={controller} lot={lot.lot} />
    </article>
  );
}

function clockTime(at: number): string {
  return new Intl.DateTimeFormat(locale.value, { timeStyle: "medium" }).format(at);
}

function LotRow({ controller, lot }: Props & { lot: LotSnapshot }): JSX.Element {
  const { busy } = controller.store.state.value;
  const isReady = lot.state === "created";
  return (
    <li class="lot-row" data-testid="lot-row" data-lot={lot.lot} data-state={lot.state}>
      <div class="lot-row-text">
        <b>{lot.title}</b>
        <span class="label">{rowText(lot)}</span>
      </div>
      <strong class="num">{money(lot.price ?? lot.start_price, lot)}</strong>
      {isReady && controller.mayRunLots && (
        <div class="lot-row-actions">
          <Withdraw controller={controller} lot={lot} />
          <button
            type="button"
            class="btn btn-primary"
            data-testid="lot-start"
            disabled={busy[lot.lot] ?? false}
            onClick={() => void controller.startLot(lot.lot)}
          >
            {s("start")}
          </button>
        </div>
      )}
      <Refusal controller={controller} lot={lot.lot} />
    </li>
  );
}

function rowText(lot: LotSnapshot): string {
  switch (lot.state) {
    case "created":
      return s("stateCreated");
    case "open":
      return s("stateOpen");
    case "sold": {
      const name = lot.winner_name ?? lot.leader_name ?? lot.winner ?? "";
      return `${t("lot.soldTo", { name })} · ${s("bidCount", { n: lot.seq })}`;
    }
    case "unsold":
      return t("lot.unsold");
    case "cancelled":
      return t("lot.cancelled");
  }
}

/** Withdrawing asks once more, in place: it cannot be undone. */
function Withdraw({ controller, lot }: Props & { lot: LotSnapshot }): JSX.Element | null {
  const [isAsking, setAsking] = useState(false);
  const { busy } = controller.store.state.value;
  if (!controller.mayRunLots) return null;
  const act = () => {
    if (isAsking) void controller.withdrawLot(lot.lot);
    setAsking(!isAsking);
  };
  return (
    <button
      type="button"
      class={isAsking ? "btn btn-danger" : "btn btn-quiet"}
      data-testid="lot-withdraw"
      disabled={busy[lot.lot] ?? false}
      onClick={act}
      onBlur={() => setAsking(false)}
    >
      {isAsking ? s("withdrawSure") : s("withdraw")}
    </button>
  );
}

export function Refusal({ controller, lot }: Props & { lot: string }): JSX.Element | null {
  const reason = controller.store.state.value.refusals[lot];
  if (!reason) return null;
  return (
    <p class="field-problem" role="alert" data-testid="refusal" data-reason={reason}>
      {reasonText(reason)}
    </p>
  );
}
