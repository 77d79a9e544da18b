/** The big screen: the program, the lot in the lower third, the way in, the moment of the hammer. */
import { effect } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { viewerUrl } from "../shared/address";
import { formatCount, locale, t } from "../shared/i18n";
import { formatMoney } from "../shared/money";
import type { LotSnapshot } from "../shared/protocol";
import { currentLot, isWatchable } from "../shared/room";
import { Mount, tickingSignal } from "../shared/ui/controls";
import { Countdown, Filament } from "../shared/ui/countdown";
import { Hearts } from "../shared/ui/hearts";
import { Icon, Mark } from "../shared/ui/icons";
import { Qr } from "../shared/ui/Qr";
import type { ScreenController } from "./controller";
import { CheerMeter, cheerTotal } from "./state";

const slow = tickingSignal(1_000);

export function Screen({ controller }: { controller: ScreenController }): JSX.Element {
  void slow.value;
  const { room, winner } = controller.store.state.value;
  const { player } = controller.stage;
  const lot = currentLot(room, controller.now());
  const hasPicture = player.firstPictureMs.value !== null;
  const isLive = isWatchable(room, null) && player.status.value === "playing";
  const url = viewerUrl(controller.room);
  return (
    <main
      class="screen"
      data-testid="screen"
      data-video={player.status.value}
      data-frames={player.figures.value?.frames ?? 0}
      data-joins={player.joins.value}
      data-picture={hasPicture}
      data-winner={winner !== null}
    >
      <Mount element={controller.stage.element} />
      <div class="shade" aria-hidden="true" />
      <header class="screen-head">
        <Mark />
        <h1>{room.title || controller.room}</h1>
        {isLive && (
          <span class="chip badge-live" data-live="true">
            {t("app.live")}
          </span>
        )}
        {room.viewers > 0 && (
          <span class="chip num">
            <Icon name="eye" />
            {formatCount(room.viewers)}
          </span>
        )}
      </header>
      {!hasPicture && <Idle title={room.title || controller.room} />}
      <Cheers controller={controller} />
      <div class="lower">
        {lot ? <LowerThird controller={controller} lot={lot} /> : <span />}
        <figure class="join">
          <Qr text={url} label={t("screen.join")} />
          <figcaption>{t("screen.join")}</figcaption>
        </figure>
      </div>
      {winner && <Winner key={winner.lot} lot={winner} />}
    </main>
  );
}

const money = (lot: LotSnapshot) =>
  formatMoney(lot.price ?? lot.start_price, lot.currency, locale.value);

function Idle({ title }: { title: string }): JSX.Element {
  return (
    <div class="idle" data-testid="idle">
      <Mark />
      <p>{title}</p>
    </div>
  );
}

function LowerThird(props: { controller: ScreenController; lot: LotSnapshot }): JSX.Element {
  const { controller, lot } = props;
  const now = () => controller.now();
  return (
    <section class="third" data-testid="lot" data-lot={lot.lot} data-state={lot.state}>
      <Filament lot={lot} now={now} />
      <div class="third-text">
        <h2 data-testid="lot-title">{lot.title}</h2>
        <p class="third-leader" data-testid="leader">
          {leaderText(lot)}
        </p>
      </div>
      <div class="third-price">
        <span class="label">{priceLabel(lot)}</span>
        <strong class="price num" key={lot.seq} data-testid="price" data-amount={lot.price ?? ""}>
          {money(lot)}
        </strong>
      </div>
      <Countdown lot={lot} now={now} />
    </section>
  );
}

function priceLabel(lot: LotSnapshot): string {
  if (lot.state === "sold") return t("lot.final");
  return lot.price === null ? t("lot.start") : t("lot.current");
}

function leaderText(lot: LotSnapshot): string {
  switch (lot.state) {
    case "created":
      return t("lot.soon");
    case "open":
      return lot.leader_name ? t("lot.leads", { name: lot.leader_name }) : t("lot.noBids");
    case "sold":
      return t("lot.soldTo", { name: winnerName(lot) });
    case "unsold":
      return t("lot.unsold");
    case "cancelled":
      return t("lot.cancelled");
  }
}

const winnerName = (lot: LotSnapshot) => lot.winner_name ?? lot.leader_name ?? lot.winner ?? "";

/** The hammer has fallen: the light comes up on a name and a price. */
function Winner({ lot }: { lot: LotSnapshot }): JSX.Element {
  return (
    <section
      class="winner"
      data-testid="winner"
      data-winner={lot.winner ?? ""}
      aria-live="assertive"
    >
      <div class="winner-light" aria-hidden="true" />
      <p class="winner-lot">{lot.title}</p>
      <strong class="winner-price num">{money(lot)}</strong>
      <p class="winner-name">{t("screen.winner", { name: winnerName(lot) })}</p>
    </section>
  );
}

/** How loud the audience is: a column of light that rises with cheers and falls by itself. */
function Cheers({ controller }: { controller: ScreenController }): JSX.Element {
  const hearts = useMemo(() => new Hearts(), []);
  const bar = useRef<HTMLElement>(null);
  useEffect(() => {
    const meter = new CheerMeter();
    let before: number | null = null;
    const stop = effect(() => {
      const { room } = controller.store.state.value;
      if (!room.known) return;
      const total = cheerTotal(room);
      meter.add(total, performance.now());
      if (before !== null && total > before) hearts.fly(Math.min(8, total - before));
      before = total;
    });
    let frame = 0;
    const draw = () => {
      const level = meter.level(performance.now());
      if (bar.current) bar.current.style.transform = `scaleY(${level.toFixed(3)})`;
      frame = requestAnimationFrame(draw);
    };
    draw();
    return () => {
      stop();
      cancelAnimationFrame(frame);
    };
  }, [controller, hearts]);
  const total = cheerTotal(controller.store.state.value.room);
  if (total === 0) return <span />;
  return (
    <aside class="cheers" aria-label={t("cheer.total")}>
      <Mount element={hearts.element} />
      <span class="cheer-bar">
        <i ref={bar} />
      </span>
      <Icon name="heart" />
      <b class="num">{formatCount(total)}</b>
    </aside>
  );
}
