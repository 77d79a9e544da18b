/** The lot at the thumb: price, time, where I stand, and the one big button. */
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { locale, reasonText, t } from "../shared/i18n";
import { formatMoney } from "../shared/money";
import type { LotSnapshot } from "../shared/protocol";
import { openLots } from "../shared/room";
import { Countdown, Filament } from "../shared/ui/countdown";
import { Icon } from "../shared/ui/icons";
import type { ViewerController } from "./controller";
import { MaxSheet } from "./MaxSheet";
import { activeMax, nextAmount, type Standing, standingOf, type ViewerState } from "./state";

interface Props {
  controller: ViewerController;
  state: ViewerState;
  lot: LotSnapshot;
}

export function money(amount: number, lot: LotSnapshot): string {
  return formatMoney(amount, lot.currency, locale.value);
}

export function LotCard({ controller, state, lot }: Props): JSX.Element {
  const standing = standingOf(state, lot);
  const now = () => controller.now();
  return (
    <section
      class="lot"
      data-testid="lot"
      data-lot={lot.lot}
      data-state={lot.state}
      data-standing={standing}
      aria-label={lot.title}
    >
      <Filament lot={lot} now={now} />
      <LotPicker controller={controller} state={state} lot={lot} />
      <div class="lot-head">
        <h1 data-testid="lot-title">{lot.title}</h1>
        <Countdown lot={lot} now={now} />
      </div>
      <div class="lot-price">
        <div>
          <span class="label">{priceLabel(lot)}</span>
          <strong class="price num" data-testid="price" data-amount={lot.price ?? lot.start_price}>
            {money(lot.price ?? lot.start_price, lot)}
          </strong>
        </div>
        <StandingLine state={state} lot={lot} standing={standing} />
      </div>
      <NoticeLine state={state} lot={lot} />
      {lot.state === "open" && state.canBid ? (
        <Actions controller={controller} state={state} lot={lot} />
      ) : (
        <p class="lot-hint">{closedHint(state, lot, standing)}</p>
      )}
    </section>
  );
}

function priceLabel(lot: LotSnapshot): string {
  if (lot.state === "sold") return t("lot.final");
  return lot.price === null ? t("lot.start") : t("lot.current");
}

function closedHint(state: ViewerState, lot: LotSnapshot, standing: Standing): string {
  if (lot.state === "open") return t("bid.cannot");
  if (lot.state === "created") return t("lot.soon");
  if (standing === "won") return t("me.wonHint", { amount: money(lot.price ?? 0, lot) });
  if (lot.state === "sold" && state.me !== null) return t("lot.noneHint");
  return t("lot.noneHint");
}

function LotPicker({ controller, state, lot }: Props): JSX.Element | null {
  const open = openLots(state.room);
  if (open.length < 2) return null;
  return (
    <fieldset class="lot-picker bare" aria-label={t("lot.several")}>
      {open.map((each) => (
        <button
          key={each.lot}
          type="button"
          class="chip"
          aria-pressed={each.lot === lot.lot}
          onClick={() => controller.store.dispatch({ type: "lot.pick", lot: each.lot })}
        >
          {each.title}
        </button>
      ))}
    </fieldset>
  );
}

function StandingLine(props: {
  state: ViewerState;
  lot: LotSnapshot;
  standing: Standing;
}): JSX.Element {
  const { state, lot, standing } = props;
  return (
    <p class="standing" data-testid="standing" data-standing={standing} aria-live="polite">
      {standing === "leading" && <Icon name="crown" />}
      {standing === "won" && <Icon name="check" />}
      {standing === "outbid" && <Icon name="up" />}
      <span>{standingText(state, lot, standing)}</span>
    </p>
  );
}

function standingText(state: ViewerState, lot: LotSnapshot, standing: Standing): string {
  switch (standing) {
    case "leading":
      return t("me.leading");
    case "outbid":
      return t("me.outbid");
    case "won":
      return t("me.won");
    case "lost":
      return t("lot.soldTo", { name: winnerName(lot) });
    case "none":
      if (lot.state === "sold") return t("lot.soldTo", { name: winnerName(lot) });
      if (lot.state === "unsold") return t("lot.unsold");
      if (lot.state === "cancelled") return t("lot.cancelled");
      if (lot.leader_name) return t("lot.leads", { name: lot.leader_name });
      if (lot.state === "open" && state.canBid) return t("lot.noBids");
      return "";
  }
}

export function winnerName(lot: LotSnapshot): string {
  return lot.winner_name ?? lot.leader_name ?? lot.winner ?? "";
}

/** One line above the button: what became of the last tap, and what to do. */
function NoticeLine({ state, lot }: { state: ViewerState; lot: LotSnapshot }): JSX.Element {
  const { notice, attempt } = state;
  let tone = "info";
  let text = "";
  const max = activeMax(state, lot);
  if (attempt?.lot === lot.lot && attempt.held) text = t("bid.held");
  else if (notice?.lot === lot.lot) {
    switch (notice.kind) {
      case "accepted":
        text = t("bid.accepted");
        tone = "good";
        break;
      case "maxAccepted":
        text = t("bid.maxAccepted");
        tone = "good";
        break;
      case "unanswered":
        text = t("bid.unanswered");
        tone = "bad";
        break;
      case "justChanged":
        text = t("bid.justChanged", { amount: money(notice.amount, lot) });
        break;
      case "refused":
        tone = "bad";
        text =
          notice.reason === "too_low" && notice.minimum !== null
            ? t("bid.tooLowNow", { amount: money(notice.minimum, lot) })
            : reasonText(notice.reason);
    }
  } else if (max !== null) text = t("me.leadingMax", { amount: money(max, lot) });
  else if (lot.state === "open" && lot.reserve === "unmet") text = t("lot.reserveUnmet");
  const reason = notice?.kind === "refused" ? notice.reason : (notice?.kind ?? "");
  return (
    <p class="notice" data-tone={tone} data-testid="notice" data-reason={reason} aria-live="polite">
      {text}
    </p>
  );
}

function Actions({ controller, state, lot }: Props): JSX.Element {
  const [isMaxOpen, setMaxOpen] = useState(false);
  const amount = nextAmount(lot);
  useEffect(() => controller.noteShown(lot.lot, amount));
  const isLeading = standingOf(state, lot) === "leading";
  const attempt = state.attempt?.lot === lot.lot ? state.attempt : null;
  const hasMax = activeMax(state, lot) !== null;
  return (
    <div class="actions">
      <button
        type="button"
        class="btn btn-max"
        data-testid="max-open"
        disabled={attempt !== null}
        onClick={() => setMaxOpen(true)}
      >
        {hasMax ? t("bid.maxChange") : t("bid.max")}
      </button>
      <button
        type="button"
        class="btn btn-primary btn-bid num"
        data-testid="bid"
        data-amount={amount}
        data-pending={attempt !== null}
        disabled={isLeading || attempt !== null}
        onClick={() => controller.bid(lot.lot)}
      >
        {attempt ? (
          <>
            <i class="spinner" aria-hidden="true" />
            {t("bid.sending", { amount: money(attempt.amount, lot) })}
          </>
        ) : isLeading ? (
          <>
            <Icon name="check" />
            {t("me.leading")}
          </>
        ) : (
          t("bid.place", { amount: money(amount, lot) })
        )}
      </button>
      {isMaxOpen && (
        <MaxSheet
          state={state}
          lot={lot}
          onClose={() => setMaxOpen(false)}
          onSet={(max) => controller.bidUpTo(lot.lot, max)}
        />
      )}
    </div>
  );
}
