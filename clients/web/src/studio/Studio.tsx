/** The studio: the camera on one side, the lots on the other; tabs on a phone. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { formatCount, t } from "../shared/i18n";
import { denied } from "../shared/page";
import { Gate, IconButton, Languages, Sheet } from "../shared/ui/controls";
import { Icon, Mark } from "../shared/ui/icons";
import { CameraPane } from "./CameraPane";
import type { StudioController } from "./controller";
import { LotsPane } from "./LotsPane";
import { ShareSheet } from "./ShareSheet";
import { isInProgram } from "./state";
import { s } from "./words";

type Tab = "camera" | "lots";

export function Studio({ controller }: { controller: StudioController }): JSX.Element {
  const [tab, setTab] = useState<Tab>("camera");
  if (denied.value || !controller.mayPublish) return <StudioGate controller={controller} />;
  const state = controller.store.state.value;
  return (
    <main
      class="studio"
      data-testid="studio"
      data-tab={tab}
      data-link={state.link}
      data-air={controller.publisher.status.value}
    >
      <Header controller={controller} />
      <CameraPane controller={controller} />
      <LotsPane controller={controller} />
      <nav class="tabs">
        {(["camera", "lots"] as const).map((each) => (
          <button
            key={each}
            type="button"
            class="tab"
            aria-current={tab === each ? "page" : undefined}
            data-testid={`tab-${each}`}
            onClick={() => setTab(each)}
          >
            <Icon name={each === "camera" ? "cameras" : "crown"} />
            {each === "camera" ? s("tabCamera") : s("tabLots")}
          </button>
        ))}
      </nav>
    </main>
  );
}

function StudioGate({ controller }: { controller: StudioController }): JSX.Element {
  const { room, access } = controller;
  const reason = denied.value ?? (access ? "not_allowed" : "no_token");
  const hint = access && !controller.mayPublish ? s("gateRole", { role: access.role }) : s("gate");
  return (
    <Gate reason={reason} room={room} title={s("gateTitle")} hint={hint}>
      <code>livehouse token --room {room} --role host</code>
      <code>
        {location.origin}/studio/{room}#token=…
      </code>
    </Gate>
  );
}

function Header({ controller }: { controller: StudioController }): JSX.Element {
  const [isShareOpen, setShareOpen] = useState(false);
  const [isMenuOpen, setMenuOpen] = useState(false);
  const { room, link } = controller.store.state.value;
  const isOnAir = controller.publisher.status.value === "live";
  const inProgram = isOnAir && isInProgram(room, controller.settings.value.name);
  return (
    <header class="studio-head">
      <Mark />
      <div class="studio-name">
        <h1>{room.title || controller.room}</h1>
        <p class="label">{link === "lost" ? t("link.lost") : s("title")}</p>
      </div>
      <span class="chip badge-live" data-live={isOnAir} data-testid="air-badge">
        {isOnAir ? (inProgram ? s("program") : s("onAir")) : s("offAir")}
      </span>
      <span class="chip num" title={t("app.viewers", { n: formatCount(room.viewers) })}>
        <Icon name="eye" />
        <span aria-hidden="true">{formatCount(room.viewers)}</span>
        <span class="unseen">{t("app.viewers", { n: formatCount(room.viewers) })}</span>
      </span>
      <button
        type="button"
        class="btn btn-share"
        data-testid="share"
        onClick={() => setShareOpen(true)}
      >
        <Icon name="share" />
        <span>{s("share")}</span>
      </button>
      <IconButton
        icon="more"
        label={t("video.more")}
        testid="more"
        onClick={() => setMenuOpen(true)}
      />
      {isShareOpen && <ShareSheet room={controller.room} onClose={() => setShareOpen(false)} />}
      {isMenuOpen && (
        <Sheet title={t("app.language")} onClose={() => setMenuOpen(false)}>
          <Languages />
        </Sheet>
      )}
    </header>
  );
}
