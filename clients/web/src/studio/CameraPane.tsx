/** The camera side: preview, what to send, the big button, and how the network does. */
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { reasonText, t } from "../shared/i18n";
import { isReason } from "../shared/protocol";
import { formatRate } from "../shared/ui/controls";
import { Icon } from "../shared/ui/icons";
import type { StudioController } from "./controller";
import { NO_MICROPHONE, QUALITIES } from "./devices";
import { s } from "./words";

const NAME_PATTERN = "[A-Za-z0-9][A-Za-z0-9._\\-]{0,63}";
const CODECS = ["H264", "VP8"] as const;

interface Props {
  controller: StudioController;
}

export function CameraPane({ controller }: Props): JSX.Element {
  const stream = controller.devices.stream.value;
  return (
    <section class="pane camera-pane" aria-label={s("tabCamera")}>
      <div class="preview" data-on-air={controller.publisher.status.value === "live"}>
        {stream ? <Preview stream={stream} /> : <AskDevices controller={controller} />}
        {stream && <LevelBar controller={controller} />}
      </div>
      <div class="camera-controls">
        <AirButton controller={controller} />
        <Health controller={controller} />
      </div>
      <StoppedNote controller={controller} />
      <Settings controller={controller} />
    </section>
  );
}

function Preview({ stream }: { stream: MediaStream }): JSX.Element {
  const ref = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    if (ref.current) ref.current.srcObject = stream;
  }, [stream]);
  return (
    <video ref={ref} autoplay muted playsInline aria-label={s("preview")} data-testid="preview" />
  );
}

function AskDevices({ controller }: Props): JSX.Element {
  const problem = controller.devices.problem.value;
  return (
    <div class="ask-devices" data-testid="ask-devices" data-problem={problem ?? ""}>
      <Icon name="cameras" />
      <p aria-live="polite">{problem ? problemText(problem) : s("askDevicesHint")}</p>
      {problem !== "insecure" && (
        <button
          type="button"
          class="btn btn-primary"
          data-testid="open-devices"
          onClick={() => void controller.openDevices()}
        >
          {problem ? t("app.retry") : s("askDevices")}
        </button>
      )}
    </div>
  );
}

function problemText(problem: "denied" | "missing" | "busy" | "insecure"): string {
  switch (problem) {
    case "denied":
      return s("devicesDenied");
    case "missing":
      return s("devicesMissing");
    case "busy":
      return s("devicesBusy");
    case "insecure":
      return s("devicesInsecure");
  }
}

/** The microphone's level, drawn without the view: sixty times a second is not its business. */
function LevelBar({ controller }: Props): JSX.Element {
  const ref = useRef<HTMLElement>(null);
  useEffect(() => {
    let frame = 0;
    let shown = 0;
    const draw = () => {
      const level = controller.devices.level();
      shown = Math.max(level, shown * 0.92);
      if (ref.current) ref.current.style.transform = `scaleX(${shown.toFixed(3)})`;
      frame = requestAnimationFrame(draw);
    };
    draw();
    return () => cancelAnimationFrame(frame);
  }, [controller]);
  return (
    <div class="level" role="img" aria-label={s("level")}>
      <Icon name="mic" />
      <span>
        <i ref={ref} />
      </span>
    </div>
  );
}

function AirButton({ controller }: Props): JSX.Element {
  const status = controller.publisher.status.value;
  const isReady =
    controller.devices.stream.value !== null && isCameraName(controller.settings.value.name);
  if (status === "off") {
    return (
      <button
        type="button"
        class="btn btn-primary btn-air"
        data-testid="go-live"
        disabled={!isReady}
        onClick={() => controller.goLive()}
      >
        {s("goLive")}
      </button>
    );
  }
  return (
    <button
      type="button"
      class="btn btn-air btn-stop"
      data-testid="stop-live"
      onClick={() => controller.stopLive()}
    >
      <Icon name="stop" />
      {status === "live" ? s("stop") : status === "retrying" ? s("retrying") : s("starting")}
    </button>
  );
}

export function isCameraName(name: string): boolean {
  return new RegExp(`^${NAME_PATTERN}$`).test(name) && name !== "program";
}

function StoppedNote({ controller }: Props): JSX.Element | null {
  const stopped = controller.publisher.stopped.value;
  if (!stopped) return null;
  const text = isReason(stopped) ? s("stoppedBy", { reason: reasonText(stopped) }) : s("takenOver");
  return (
    <p class="warning" role="alert" data-testid="stopped" data-reason={stopped}>
      {text}
    </p>
  );
}

function Health({ controller }: Props): JSX.Element {
  const figures = controller.publisher.figures.value;
  const health = controller.health.value;
  const words = {
    good: [s("healthGood"), s("healthGoodHint")],
    fair: [s("healthFair"), s("healthFairHint")],
    poor: [s("healthPoor"), s("healthPoorHint")],
    none: [s("healthNone"), s("healthNoneHint")],
  }[health] as [string, string];
  return (
    <div class="health" data-health={health} data-testid="health">
      <div class="health-head">
        <span class="label">{s("health")}</span>
        <b aria-live="polite">{words[0]}</b>
      </div>
      <Sparkline values={controller.history.value} />
      {figures ? (
        <dl class="health-figures num">
          <dt>{s("bitrate")}</dt>
          <dd data-testid="bitrate">{formatRate(figures.bitrateBps)}</dd>
          <dt>{t("stats.loss")}</dt>
          <dd>{(figures.loss * 100).toFixed(1)} %</dd>
          <dt>{t("stats.rtt")}</dt>
          <dd>{figures.rttMs === null ? "–" : `${Math.round(figures.rttMs)} ms`}</dd>
          <dt>{t("stats.picture")}</dt>
          <dd>
            {figures.height}p{figures.fps} {figures.codec}
          </dd>
        </dl>
      ) : null}
      <p class="health-hint">{words[1]}</p>
    </div>
  );
}

const SPARK_W = 120;
const SPARK_H = 28;

function Sparkline({ values }: { values: number[] }): JSX.Element {
  const most = Math.max(500_000, ...values);
  const points = values.map((value, i) => {
    const x = SPARK_W - (values.length - 1 - i) * (SPARK_W / 59);
    return `${x.toFixed(1)},${(SPARK_H - (value / most) * (SPARK_H - 3) - 1.5).toFixed(1)}`;
  });
  return (
    <svg
      class="spark"
      viewBox={`0 0 ${SPARK_W} ${SPARK_H}`}
      preserveAspectRatio="none"
      aria-hidden="true"
    >
      <polyline points={points.join(" ")} />
    </svg>
  );
}

function Settings({ controller }: Props): JSX.Element {
  const settings = controller.settings.value;
  const devices = controller.devices.list.value;
  const isOff = controller.publisher.status.value === "off";
  const isNameOk = isCameraName(settings.name);
  const ofKind = (kind: MediaDeviceKind) =>
    devices.filter((each) => each.kind === kind && each.deviceId !== "");
  return (
    <form class="settings" onSubmit={(event) => event.preventDefault()}>
      <Field label={s("camera")}>
        {(id) => (
          <select
            id={id}
            data-testid="camera-select"
            value={settings.camera}
            onChange={(event) => controller.change({ camera: event.currentTarget.value })}
          >
            <option value="">{s("codecAuto")}</option>
            {ofKind("videoinput").map((each, i) => (
              <option key={each.deviceId} value={each.deviceId}>
                {each.label || `${s("camera")} ${i + 1}`}
              </option>
            ))}
          </select>
        )}
      </Field>
      <Field label={s("microphone")}>
        {(id) => (
          <select
            id={id}
            data-testid="microphone-select"
            value={settings.microphone}
            onChange={(event) => controller.change({ microphone: event.currentTarget.value })}
          >
            <option value="">{s("codecAuto")}</option>
            {ofKind("audioinput").map((each, i) => (
              <option key={each.deviceId} value={each.deviceId}>
                {each.label || `${s("microphone")} ${i + 1}`}
              </option>
            ))}
            <option value={NO_MICROPHONE}>{s("noMicrophone")}</option>
          </select>
        )}
      </Field>
      <Field label={s("name")} problem={isNameOk ? "" : reasonText("bad_name")}>
        {(id) => (
          <input
            id={id}
            data-testid="camera-name"
            value={settings.name}
            pattern={NAME_PATTERN}
            maxLength={64}
            autocomplete="off"
            autocapitalize="off"
            spellcheck={false}
            aria-invalid={!isNameOk}
            disabled={!isOff || controller.access?.camera !== null}
            onInput={(event) => controller.change({ name: event.currentTarget.value.trim() })}
          />
        )}
      </Field>
      <div class="settings-row">
        <Field label={s("quality")}>
          {(id) => (
            <select
              id={id}
              data-testid="quality"
              value={settings.quality}
              disabled={!isOff}
              onChange={(event) => controller.change({ quality: event.currentTarget.value })}
            >
              {QUALITIES.map((each) => (
                <option key={each.name}>{each.name}</option>
              ))}
            </select>
          )}
        </Field>
        <Field label={s("codec")}>
          {(id) => (
            <select
              id={id}
              data-testid="codec"
              value={settings.codec}
              disabled={!isOff}
              onChange={(event) => controller.change({ codec: event.currentTarget.value })}
            >
              <option value="">{s("codecAuto")}</option>
              {CODECS.map((each) => (
                <option key={each}>{each}</option>
              ))}
            </select>
          )}
        </Field>
      </div>
    </form>
  );
}

export function Field(props: {
  label: string;
  hint?: string;
  problem?: string | undefined;
  children: (id: string) => ComponentChildren;
}): JSX.Element {
  const id = useId();
  return (
    <div class="field">
      <label class="label" htmlFor={id}>
        {props.label}
        {props.hint && <span class="optional"> · {props.hint}</span>}
      </label>
      {props.children(id)}
      {props.problem && (
        <p class="field-problem" role="alert">
          {props.problem}
        </p>
      )}
    </div>
  );
}
