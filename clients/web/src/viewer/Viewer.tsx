/** The viewer's page: picture, people, price. */
import { effect } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { formatCount, t } from "../shared/i18n";
import { denied } from "../shared/page";
import type { BidRow, LotSnapshot } from "../shared/protocol";
import { currentLot, isWatchable } from "../shared/room";
import type { Fit } from "../shared/rtc/stage";
import {
  Gate,
  IconButton,
  Languages,
  Mount,
  Sheet,
  StatsPanel,
  tickingSignal,
} from "../shared/ui/controls";
import { Hearts } from "../shared/ui/hearts";
import { Icon } from "../shared/ui/icons";
import type { ViewerController } from "./controller";
import { LotCard, money } from "./LotCard";
import type { ViewerState } from "./state";

/** Results give way to the next lot by themselves. */
const slow = tickingSignal(1_000);
const BACK_MS = 2_500;
const NOTICE_MS = 5_000;

export function Viewer({ controller }: { controller: ViewerController }): JSX.Element {
  const state = controller.store.state.value;
  const { player } = controller.stage;
  const [isStatsShown, setStatsShown] = useState(false);
  void slow.value;
  useFadingNotices(controller, state);
  if (denied.value) {
    return <Gate reason={denied.value} room={controller.room} hint={t("gate.viewer")} />;
  }
  const lot = currentLot(state.room, controller.now(), state.pickedLot);
  const isLive = state.room.known && isWatchable(state.room, state.camera);
  return (
    <main
      class="viewer"
      data-testid="viewer"
      data-link={state.link}
      data-video={player.status.value}
      data-frames={player.figures.value?.frames ?? 0}
      data-joins={player.joins.value}
      data-picture={player.firstPictureMs.value !== null}
      data-has-lot={lot !== null}
    >
      <Mount element={controller.stage.element} />
      <div class="shade" aria-hidden="true" />
      <header class="top">
        <span class="chip badge-live" data-live={isLive} data-testid="live-badge">
          {t("app.live")}
        </span>
        <span
          class="chip num"
          data-testid="viewers"
          title={t("app.viewers", { n: formatCount(state.room.viewers) })}
        >
          <Icon name="eye" />
          <span aria-hidden="true">{formatCount(state.room.viewers)}</span>
          <span class="unseen">{t("app.viewers", { n: formatCount(state.room.viewers) })}</span>
        </span>
        <h2 class="room-title">{state.room.title}</h2>
        <TopButtons
          controller={controller}
          state={state}
          isStatsShown={isStatsShown}
          onStats={() => setStatsShown(!isStatsShown)}
        />
      </header>
      <Messages controller={controller} state={state} isLive={isLive} />
      {isStatsShown && (
        <aside class="stats-corner">
          <StatsPanel figures={player.figures.value} firstPictureMs={player.firstPictureMs.value} />
        </aside>
      )}
      <div class="dock">
        <div class="dock-feed">
          {lot ? <Feed lot={lot} me={state.me} /> : <span />}
          <CheerButton controller={controller} state={state} />
        </div>
        {lot ? (
          <LotCard controller={controller} state={state} lot={lot} />
        ) : (
          <section class="lot lot-none" data-testid="no-lot">
            <h1>{t("lot.none")}</h1>
            <p class="lot-hint">{t("lot.noneHint")}</p>
          </section>
        )}
      </div>
    </main>
  );
}

/** What was said about the last tap, and "you are back", go away by themselves. */
function useFadingNotices(controller: ViewerController, state: ViewerState): void {
  const { notice, isBack, link } = state;
  useEffect(() => {
    if (!notice && !isBack) return;
    if (isBack && link !== "online") return;
    const timer = setTimeout(
      () => controller.store.dispatch({ type: "noticed" }),
      notice ? NOTICE_MS : BACK_MS,
    );
    return () => clearTimeout(timer);
  }, [controller, notice, isBack, link]);
}

function TopButtons(props: {
  controller: ViewerController;
  state: ViewerState;
  isStatsShown: boolean;
  onStats: () => void;
}): JSX.Element {
  const { controller, state, isStatsShown, onStats } = props;
  const [isMenuOpen, setMenuOpen] = useState(false);
  const [isPickerOpen, setPickerOpen] = useState(false);
  const { player } = controller.stage;
  const cameras = state.room.cameras.filter((each) => each.live || each.camera === state.camera);
  return (
    <div class="top-buttons">
      {player.status.value === "playing" && !player.muted.value && (
        <IconButton icon="sound" label={t("video.mute")} onClick={() => player.setMuted(true)} />
      )}
      {cameras.length > 1 && (
        <IconButton
          icon="cameras"
          label={t("video.cameras")}
          testid="cameras"
          onClick={() => setPickerOpen(true)}
        />
      )}
      <IconButton
        icon="more"
        label={t("video.more")}
        testid="more"
        onClick={() => setMenuOpen(true)}
      />
      {isPickerOpen && (
        <Sheet
          title={t("video.cameras")}
          onClose={() => setPickerOpen(false)}
          testid="camera-sheet"
        >
          <div class="menu-list">
            {[null, ...cameras.map((each) => each.camera)].map((camera) => (
              <button
                key={camera ?? ""}
                type="button"
                class="menu-item"
                aria-pressed={state.camera === camera}
                data-testid={`camera-${camera ?? "program"}`}
                onClick={() => {
                  controller.chooseCamera(camera);
                  setPickerOpen(false);
                }}
              >
                <Icon name={camera === null ? "screen" : "cameras"} />
                {camera ?? t("video.program")}
              </button>
            ))}
          </div>
        </Sheet>
      )}
      {isMenuOpen && (
        <Menu
          controller={controller}
          isStatsShown={isStatsShown}
          onStats={onStats}
          onClose={() => setMenuOpen(false)}
        />
      )}
    </div>
  );
}

function Menu(props: {
  controller: ViewerController;
  isStatsShown: boolean;
  onStats: () => void;
  onClose: () => void;
}): JSX.Element {
  const { controller, isStatsShown, onStats, onClose } = props;
  const isFilled = controller.stage.element.dataset.fit === "cover";
  const choose = (act: () => void) => () => {
    act();
    onClose();
  };
  return (
    <Sheet title={t("video.more")} onClose={onClose} testid="menu">
      <div class="menu-list">
        <Languages />
        <button
          type="button"
          class="menu-item"
          onClick={choose(() => setFit(controller, isFilled ? "contain" : "cover"))}
        >
          <Icon name="expand" />
          {isFilled ? t("video.fit") : t("video.fill")}
        </button>
        <button
          type="button"
          class="menu-item"
          data-testid="stats-toggle"
          onClick={choose(onStats)}
        >
          <Icon name="chart" />
          {isStatsShown ? t("stats.hide") : t("stats.show")}
        </button>
      </div>
    </Sheet>
  );
}

function setFit(controller: ViewerController, fit: Fit): void {
  controller.stage.setFit(fit);
}

/** Everything that is said over the picture: no sound yet, no camera yet, no connection. */
function Messages(props: {
  controller: ViewerController;
  state: ViewerState;
  isLive: boolean;
}): JSX.Element {
  const { controller, state, isLive } = props;
  const { player } = controller.stage;
  const status = player.status.value;
  const hasPicture = player.firstPictureMs.value !== null;
  const hasSound = state.room.cameras.some((each) => each.live && each.audio);
  return (
    <div class="messages">
      {state.link === "lost" && (
        <p class="chip banner" data-tone="bad" role="status" data-testid="link-lost">
          <i class="spinner" aria-hidden="true" />
          {t("link.lost")}
        </p>
      )}
      {state.isBack && state.link === "online" && (
        <p class="chip banner" data-tone="good" role="status" data-testid="link-back">
          <Icon name="check" />
          {t("link.back")}
        </p>
      )}
      {status === "playing" && isLive && hasSound && player.muted.value && (
        <button
          type="button"
          class="chip sound"
          data-testid="sound"
          onClick={() => player.setMuted(false)}
        >
          <Icon name="silent" />
          {t("video.sound")}
        </button>
      )}
      {hasPicture && status !== "playing" && (
        <p class="chip banner" role="status" data-testid="video-back">
          {t("video.back")}
        </p>
      )}
      {!hasPicture && (
        <div class="dark-stage" data-testid="dark-stage" role="status">
          <p>{status === "waiting" ? t("video.waiting") : videoText(status)}</p>
          {status === "waiting" && <p class="label">{t("video.waitingHint")}</p>}
        </div>
      )}
    </div>
  );
}

function videoText(status: string): string {
  return status === "refused" ? t("video.refused") : t("video.joining");
}

/** The last bids, newest at the bottom, next to the price they made. */
function Feed({ lot, me }: { lot: LotSnapshot; me: string | null }): JSX.Element {
  return (
    <ol class="feed" aria-label={t("lot.bids")} data-testid="feed">
      {lot.bids.map((bid) => (
        <FeedRow key={bid.seq} bid={bid} lot={lot} isMine={bid.leader === me} />
      ))}
    </ol>
  );
}

function FeedRow(props: { bid: BidRow; lot: LotSnapshot; isMine: boolean }): JSX.Element {
  const { bid, lot, isMine } = props;
  return (
    <li class="feed-row" data-mine={isMine}>
      <span class="feed-name">{isMine ? t("me.you") : bid.leader_name}</span>
      <b class="num">{money(bid.price, lot)}</b>
    </li>
  );
}

function CheerButton(props: { controller: ViewerController; state: ViewerState }): JSX.Element {
  const { controller } = props;
  const hearts = useMemo(() => new Hearts(), []);
  const own = useRef(0);
  useEffect(() => {
    let before: number | null = null;
    return effect(() => {
      const { cheers } = controller.store.state.value.room;
      const total = Object.values(cheers).reduce((sum, count) => sum + count, 0);
      if (before !== null && total > before) {
        // My own hearts have flown already.
        const mine = Math.min(own.current, total - before);
        own.current -= mine;
        hearts.fly(Math.min(5, total - before - mine));
      }
      before = total;
    });
  }, [controller, hearts]);
  const total = Object.values(props.state.room.cheers).reduce((sum, count) => sum + count, 0);
  return (
    <div class="cheer">
      <Mount element={hearts.element} />
      <button
        type="button"
        class="btn-round btn-cheer"
        aria-label={t("cheer.send")}
        data-testid="cheer"
        onClick={() => {
          own.current++;
          hearts.fly(1);
          controller.cheer();
        }}
      >
        <Icon name="heart" />
      </button>
      <span class="cheer-total num" aria-hidden="true" data-testid="cheer-total">
        {total > 0 ? formatCount(total) : ""}
      </span>
    </div>
  );
}
