/**
 * Publishing by WHIP, for as long as the show goes on.
 *
 * The newest publication of a camera name wins, so coming back is simply publishing again:
 * when the connection fails, when the media worker restarts, when the bus says that our
 * camera went off. Three publications in a row that are ended early while the server is
 * well mean that somebody else publishes under this name; then we stop and say so.
 */
import { signal } from "@preact/signals";
import { backoffMs } from "../backoff";
import type { Reason } from "../protocol";
import { deleteSession, postOffer, SessionRefused } from "./http";
import { encodingsFor, type Quality, sendOnly } from "./simulcast";
import { type Figures, figuresBetween, type Reading, readReport } from "./stats";
import { entriesOf } from "./whep";

export type AirStatus = "off" | "starting" | "live" | "retrying";

const POLL_MS = 1_000;
const DISCONNECTED_MS = 3_000;
const CONNECT_MS = 8_000;
/** The server is told by our media that we are live; its "offline" may still be on the way. */
const OFFLINE_GRACE_MS = 1_500;
const SHORT_MS = 10_000;
const MAX_SHORT = 3;

export interface WhipOptions {
  room: string;
  camera: string;
  token: () => string;
  stream: MediaStream;
  quality: Quality;
  /** "H264", "VP8" …; what is missing is left to the browser's own order. */
  codec: string | null;
}

export class WhipPublisher {
  readonly status = signal<AirStatus>("off");
  readonly figures = signal<Figures | null>(null);
  /** Why publishing stopped by itself: a reason word, or "taken_over". */
  readonly stopped = signal<Reason | "taken_over" | null>(null);

  #options: WhipOptions | null = null;
  #pc: RTCPeerConnection | null = null;
  #url: string | null = null;
  #abort = new AbortController();
  #liveAt = 0;
  #startedAt = 0;
  #shortLives = 0;
  #tries = 0;
  #reading: Reading | null = null;
  #poll: ReturnType<typeof setInterval> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    window.addEventListener("pagehide", this.#onPageHide);
  }

  start(options: WhipOptions): void {
    this.stop();
    this.#options = options;
    this.stopped.value = null;
    this.#tries = 0;
    this.#shortLives = 0;
    this.status.value = "starting";
    this.#poll = setInterval(() => void this.#look(), POLL_MS);
    void this.#publish();
  }

  stop(): void {
    this.#closeSession();
    this.#options = null;
    clearInterval(this.#poll);
    clearTimeout(this.#timer);
    this.status.value = "off";
    this.figures.value = null;
  }

  destroy(): void {
    this.stop();
    window.removeEventListener("pagehide", this.#onPageHide);
  }

  /** Puts another camera's or microphone's track on the running connection. */
  async replaceTrack(track: MediaStreamTrack): Promise<void> {
    const sender = this.#pc?.getSenders().find((each) => each.track?.kind === track.kind);
    await sender?.replaceTrack(track);
    if (this.#options) {
      const others = this.#options.stream.getTracks().filter((each) => each.kind !== track.kind);
      this.#options.stream = new MediaStream([...others, track]);
    }
  }

  /** The bus says which simulcast layers anybody watches; the others need not be sent. */
  async sendLayers(wanted: readonly string[]): Promise<void> {
    const sender = this.#pc?.getSenders().find((each) => each.track?.kind === "video");
    if (sender) await sendOnly(sender, wanted);
  }

  /** The bus says that our camera is off; if we believe otherwise, publish again. */
  noticeOffline(): void {
    if (this.status.value !== "live" || performance.now() - this.#liveAt < OFFLINE_GRACE_MS) return;
    this.#again();
  }

  async #publish(): Promise<void> {
    const options = this.#options;
    if (!options) return;
    this.#closeSession();
    const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    const abort = new AbortController();
    this.#pc = pc;
    this.#abort = abort;
    this.#reading = null;
    this.#startedAt = performance.now();
    pc.onconnectionstatechange = () => this.#onState(pc);
    try {
      for (const track of options.stream.getTracks()) addTrack(pc, track, options);
      const offer = await pc.createOffer();
      await pc.setLocalDescription(offer);
      const room = encodeURIComponent(options.room);
      const path = `/whip/${room}/${encodeURIComponent(options.camera)}`;
      const resource = await postOffer(path, offer.sdp ?? "", options.token(), abort.signal);
      if (this.#pc !== pc) {
        deleteSession(resource.url, options.token());
        return;
      }
      this.#url = resource.url;
      await pc.setRemoteDescription({ type: "answer", sdp: resource.answer });
    } catch (error) {
      if (this.#pc !== pc) return;
      if (error instanceof SessionRefused && !isPassing(error)) this.#giveUp(error.reason);
      else this.#again();
    }
  }

  #onState(pc: RTCPeerConnection): void {
    if (pc !== this.#pc) return;
    switch (pc.connectionState) {
      case "connected":
        clearTimeout(this.#timer);
        this.#liveAt = performance.now();
        this.#tries = 0;
        this.status.value = "live";
        break;
      case "disconnected":
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#again(), DISCONNECTED_MS);
        break;
      case "failed":
      case "closed":
        this.#again();
        break;
    }
  }

  #again(): void {
    if (!this.#options) return;
    const wasShort = this.#liveAt > 0 && performance.now() - this.#liveAt < SHORT_MS;
    this.#shortLives = wasShort && this.status.value === "live" ? this.#shortLives + 1 : 0;
    if (this.#shortLives >= MAX_SHORT) {
      this.#giveUp("taken_over");
      return;
    }
    this.#closeSession();
    this.status.value = "retrying";
    this.figures.value = null;
    clearTimeout(this.#timer);
    const delay = this.#tries === 0 ? 0 : backoffMs(this.#tries, { capMs: 4_000 });
    this.#tries++;
    this.#timer = setTimeout(() => void this.#publish(), delay);
  }

  #giveUp(reason: Reason | "taken_over"): void {
    this.stop();
    this.stopped.value = reason;
  }

  #closeSession(): void {
    const pc = this.#pc;
    this.#pc = null;
    this.#abort.abort();
    if (pc) {
      pc.onconnectionstatechange = null;
      pc.close();
    }
    if (this.#url && this.#options) deleteSession(this.#url, this.#options.token());
    this.#url = null;
  }

  async #look(): Promise<void> {
    const pc = this.#pc;
    if (!pc) return;
    if (this.status.value !== "live") {
      const stuck = performance.now() - this.#startedAt > CONNECT_MS;
      if (stuck && this.#url && pc.connectionState === "connecting") this.#again();
      return;
    }
    const reading = readReport(entriesOf(await pc.getStats()), "outbound-rtp", performance.now());
    if (pc !== this.#pc) return;
    this.figures.value = figuresBetween(this.#reading, reading);
    this.#reading = reading;
  }

  readonly #onPageHide = () => this.stop();
}

/** Whether trying again may help: the server is busy or restarting. */
function isPassing(error: SessionRefused): boolean {
  return error.status >= 500 || error.status === 429 || error.status === 404;
}

function addTrack(pc: RTCPeerConnection, track: MediaStreamTrack, options: WhipOptions): void {
  if (track.kind !== "video") {
    pc.addTransceiver(track, { direction: "sendonly", streams: [options.stream] });
    return;
  }
  const transceiver = pc.addTransceiver(track, {
    direction: "sendonly",
    streams: [options.stream],
    sendEncodings: encodingsFor(options.quality),
  });
  // A show is motion: rather fewer lines than a slide show.
  if ("contentHint" in track) track.contentHint = "motion";
  const codecs = RTCRtpReceiver.getCapabilities("video")?.codecs ?? [];
  const wanted = `video/${options.codec ?? ""}`.toLowerCase();
  const isWanted = (codec: { mimeType: string }) => codec.mimeType.toLowerCase() === wanted;
  if (codecs.some(isWanted) && "setCodecPreferences" in transceiver) {
    const rest = codecs.filter((codec) => !isWanted(codec));
    transceiver.setCodecPreferences([...codecs.filter(isWanted), ...rest]);
  }
}
