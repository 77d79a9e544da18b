/** Small parts that every page uses. */
import { signal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { chooseLocale, LOCALES, type Locale, locale, reasonText, t } from "../i18n";
import type { Reason } from "../protocol";
import type { Figures } from "../rtc/stats";
import { Icon, type IconName, Mark } from "./icons";

export function IconButton(props: {
  icon: IconName;
  label: string;
  onClick: () => void;
  pressed?: boolean;
  testid?: string;
}): JSX.Element {
  return (
    <button
      type="button"
      class="btn-round"
      aria-label={props.label}
      title={props.label}
      aria-pressed={props.pressed}
      data-testid={props.testid}
      onClick={props.onClick}
    >
      <Icon name={props.icon} />
    </button>
  );
}

/** A bottom sheet (a dialog on wide screens); Escape and a tap beside it close it. */
export function Sheet(props: {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  testid?: string;
}): JSX.Element {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    ref.current?.showModal();
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes a dialog by itself
    <dialog
      ref={ref}
      class="sheet"
      aria-label={props.title}
      data-testid={props.testid}
      onClose={props.onClose}
      onClick={(event) => {
        if (event.target === ref.current) ref.current?.close();
      }}
    >
      <div class="sheet-head">
        <h2>{props.title}</h2>
        <IconButton icon="close" label={t("app.close")} onClick={() => ref.current?.close()} />
      </div>
      {props.children}
    </dialog>
  );
}

export function Languages(): JSX.Element {
  return (
    <fieldset class="languages bare" aria-label={t("app.language")}>
      {(Object.keys(LOCALES) as Locale[]).map((each) => (
        <button
          key={each}
          type="button"
          lang={each}
          aria-pressed={locale.value === each}
          data-testid={`lang-${each}`}
          onClick={() => void chooseLocale(each)}
        >
          {LOCALES[each]}
        </button>
      ))}
    </fieldset>
  );
}

const LINK_FAULTS: readonly Reason[] = ["bad_token", "expired_token", "wrong_room"];

export function Gate(props: {
  reason: Reason;
  room: string;
  title?: string;
  hint: string;
  children?: ComponentChildren;
}): JSX.Element {
  const isLinkAtFault = LINK_FAULTS.includes(props.reason);
  return (
    <main class="gate" data-testid="gate" data-reason={props.reason}>
      <Mark />
      <h1>{props.title ?? (isLinkAtFault ? reasonText(props.reason) : t("gate.title"))}</h1>
      {(props.title || !isLinkAtFault) && <p>{props.hint}</p>}
      {props.children}
      <p class="label">
        {t("gate.room", { room: props.room })} · {reasonText(props.reason)}
      </p>
      <Languages />
    </main>
  );
}

const ms = (value: number | null) => (value === null ? "–" : `${Math.round(value)} ms`);

export function formatRate(bps: number): string {
  if (bps >= 1e6) return `${(bps / 1e6).toFixed(1)} Mbit/s`;
  return `${Math.round(bps / 1e3)} kbit/s`;
}

export function StatsPanel(props: {
  figures: Figures | null;
  firstPictureMs: number | null;
}): JSX.Element {
  const { figures, firstPictureMs } = props;
  const picture =
    figures && figures.width > 0
      ? `${figures.width}×${figures.height} ${t("stats.fps", { n: figures.fps })}`
      : "–";
  const rows: [string, string][] = [
    [t("stats.picture"), figures?.codec ? `${picture} ${figures.codec}` : picture],
    [t("stats.rate"), figures ? formatRate(figures.bitrateBps) : "–"],
    [t("stats.loss"), figures ? `${(figures.loss * 100).toFixed(1)} %` : "–"],
    [t("stats.buffer"), ms(figures?.jitterBufferMs ?? null)],
    [t("stats.rtt"), ms(figures?.rttMs ?? null)],
    [t("stats.first"), ms(firstPictureMs)],
  ];
  return (
    <dl class="stats num" aria-label={t("stats.title")} data-testid="stats">
      {rows.map(([name, value]) => [<dt key={name}>{name}</dt>, <dd key={`${name}=`}>{value}</dd>])}
    </dl>
  );
}

/** Hosts an element that lives outside the view (the stage) where this stands. */
export function Mount({ element }: { element: HTMLElement }): JSX.Element {
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => {
    ref.current?.append(element);
    return () => element.remove();
  }, [element]);
  return <div ref={ref} class="mount" />;
}

/** Local time that ticks: read `.value` in a view to be drawn anew. */
export function tickingSignal(periodMs: number) {
  const ticks = signal(0);
  setInterval(() => {
    if (document.visibilityState !== "hidden") ticks.value++;
  }, periodMs);
  return ticks;
}

export function prefersReducedMotion(): boolean {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
