/**
 * Watching by WHEP, through whatever happens to the server or the network.
 *
 * A *leg* is one peer connection with the video element it plays in. There are two elements:
 * while a new leg is being made in the back one, the front one keeps showing what it last
 * showed, so that the viewer never sees black. `isExpected` is what the bus says: with a
 * camera live and no packet for STALL_MS the leg is given up and a new one made at once.
 *
 *   idle → joining → playing ⇄ (stalled: joining in the back)
 *              ↘ waiting (nobody publishes) ↗
 */
import { signal } from "@preact/signals";
import { backoffMs } from "../backoff";
import { deleteSession, postOffer, putCamera, SessionRefused } from "./http";
import { type Figures, figuresBetween, type Reading, readReport } from "./stats";

export type WatchStatus = "idle" | "joining" | "waiting" | "playing" | "refused";

const POLL_MS = 500;
/** Longer than a key-frame's wait on a slow link, shorter than a viewer's patience. */
const STALL_MS = 2_000;
/** A leg that has connected but shows nothing for this long is not going to. */
const FIRST_FRAME_MS = 6_000;
/** Sound alone counts as playing after this long without a picture. */
const AUDIO_ONLY_MS = 1_500;
/** A running session whose camera has come back hears of it at once, or not at all. */
const RETURN_MS = 800;
const WAIT_MS = 2_000;
/** Hidden and silent for this long: stop spending the viewer's data. */
const HIDDEN_MS = 60_000;

interface Leg {
  pc: RTCPeerConnection;
  video: HTMLVideoElement;
  url: string | null;
  startedAt: number;
  abort: AbortController;
  reading: Reading | null;
  packets: number;
  packetsAt: number;
  shown: boolean;
}

export interface WhepOptions {
  room: string;
  token: () => string;
  videos: [HTMLVideoElement, HTMLVideoElement];
  /** Called when the other element has the picture. */
  onFront: (video: HTMLVideoElement) => void;
}

export class WhepPlayer {
  readonly status = signal<WatchStatus>("idle");
  readonly figures = signal<Figures | null>(null);
  readonly firstPictureMs = signal<number | null>(null);
  /** How many legs were made; 1 after a plain start. */
  readonly joins = signal(0);
  readonly muted = signal(true);

  readonly #options: WhepOptions;
  #front: Leg | null = null;
  #back: Leg | null = null;
  #camera: string | null = null;
  #expected = false;
  #expectedAt = 0;
  #tries = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #poll: ReturnType<typeof setInterval> | undefined;
  #hiddenTimer: ReturnType<typeof setTimeout> | undefined;
  #destroyed = false;

  constructor(options: WhepOptions) {
    this.#options = options;
    for (const video of options.videos) {
      video.autoplay = true;
      video.muted = true;
      video.playsInline = true;
    }
    document.addEventListener("visibilitychange", this.#onVisibility);
    window.addEventListener("pagehide", this.#onPageHide);
    window.addEventListener("pageshow", this.#onPageShow);
  }

  start(): void {
    if (this.#destroyed || this.#poll) return;
    this.#poll = setInterval(() => void this.#look(), POLL_MS);
    void this.#join();
  }

  destroy(): void {
    this.#destroyed = true;
    this.#stop();
    document.removeEventListener("visibilitychange", this.#onVisibility);
    window.removeEventListener("pagehide", this.#onPageHide);
    window.removeEventListener("pageshow", this.#onPageShow);
  }

  /** What the bus says: whether the watched camera is live. Rising ends a wait at once. */
  setExpected(expected: boolean): void {
    if (expected && !this.#expected) {
      this.#expectedAt = performance.now();
      // A running session goes on by itself when its camera returns; #judgeFront sees to that.
      const isRunning =
        this.status.value === "waiting" && this.#front?.pc.connectionState === "connected";
      const isIdle = this.status.value === "waiting" || this.#timer !== undefined;
      if (this.#poll && isIdle && !isRunning) void this.#join();
    }
    this.#expected = expected;
  }

  /** Watch one camera, or the program (null), on the running session where there is one. */
  async setCamera(camera: string | null, expected: boolean): Promise<void> {
    this.#camera = camera;
    this.#expected = expected;
    this.#expectedAt = performance.now();
    if (!this.#poll) return;
    const leg = this.#back ?? this.#front;
    if (!leg?.url || this.status.value === "waiting") return this.#join();
    try {
      await putCamera(leg.url, camera, this.#options.token());
    } catch {
      // The session is gone or the server is: a new one starts on the right camera.
      if (this.#camera === camera) await this.#join();
    }
  }

  setMuted(muted: boolean): void {
    this.muted.value = muted;
    if (this.#front) {
      this.#front.video.muted = muted;
      void play(this.#front.video);
    }
  }

  /** Makes a new leg in the back element and shows it with its first frame. */
  async #join(): Promise<void> {
    this.#cancelTimer();
    this.#dropBack();
    const leg = this.#newLeg();
    this.#back = leg;
    this.joins.value++;
    if (this.status.value !== "playing") this.status.value = "joining";
    try {
      const { room, token } = this.#options;
      const offer = await leg.pc.createOffer();
      await leg.pc.setLocalDescription(offer);
      const camera = this.#camera;
      const path = `/whep/${encodeURIComponent(room)}${camera ? `/${encodeURIComponent(camera)}` : ""}`;
      leg.startedAt = performance.now();
      const { url, answer } = await postOffer(path, offer.sdp ?? "", token(), leg.abort.signal);
      leg.url = url;
      if (this.#back !== leg) return this.#close(leg);
      await leg.pc.setRemoteDescription({ type: "answer", sdp: answer });
      leg.packetsAt = performance.now();
      if (camera !== this.#camera) await this.setCamera(this.#camera, this.#expected);
    } catch (error) {
      if (this.#back === leg) this.#onJoinFailed(error);
    }
  }

  #newLeg(): Leg {
    const [first, second] = this.#options.videos;
    const video = this.#front?.video === first ? second : first;
    const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    const now = performance.now();
    const leg: Leg = {
      pc,
      video,
      url: null,
      startedAt: now,
      abort: new AbortController(),
      reading: null,
      packets: 0,
      packetsAt: now,
      shown: false,
    };
    const stream = new MediaStream();
    pc.addTransceiver("video", { direction: "recvonly" });
    pc.addTransceiver("audio", { direction: "recvonly" });
    pc.ontrack = ({ track, receiver }) => {
      // Interaction comes before smoothness: ask for the smallest buffer that holds.
      if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
      stream.addTrack(track);
      if (video.srcObject === stream) return;
      // Not before there is an answer: a video without data holds up the page's load event.
      video.srcObject = stream;
      void play(video);
    };
    pc.onconnectionstatechange = () => {
      if (pc.connectionState === "failed" || pc.connectionState === "closed") this.#onLost(leg);
    };
    video.muted = true;
    video.srcObject = null;
    onFirstFrame(video, () => this.#show(leg));
    return leg;
  }

  #show(leg: Leg): void {
    if (this.#back !== leg || leg.shown) return;
    leg.shown = true;
    if (this.firstPictureMs.value === null) {
      this.firstPictureMs.value = performance.now() - leg.startedAt;
    }
    const old = this.#front;
    this.#front = leg;
    this.#back = null;
    this.#tries = 0;
    if (old) old.video.muted = true;
    leg.video.muted = this.muted.value;
    void play(leg.video).then(() => {
      // A browser that wants a tap before sound pauses the element; picture first.
      if (leg.video.muted !== this.muted.value) this.muted.value = leg.video.muted;
    });
    this.#options.onFront(leg.video);
    this.status.value = "playing";
    if (old) this.#close(old);
  }

  #onJoinFailed(error: unknown): void {
    this.#dropBack();
    if (error instanceof SessionRefused) {
      if (error.reason === "not_live" || error.reason === "no_camera") {
        this.status.value = "waiting";
        this.#later(error.retryAfterMs ?? WAIT_MS);
        return;
      }
      if (error.status === 401 || error.status === 403) {
        this.status.value = "refused";
        return;
      }
    }
    this.#later(backoffMs(this.#tries++));
  }

  #onLost(leg: Leg): void {
    if (leg === this.#back) this.#onJoinFailed(null);
    else if (leg === this.#front && !this.#back) this.#rejoin();
  }

  #rejoin(): void {
    if (this.#destroyed || !this.#poll) return;
    // The first new leg at once, the next ones with growing patience.
    if (this.#tries++ === 0) void this.#join();
    else this.#later(backoffMs(this.#tries));
  }

  #later(ms: number): void {
    this.#cancelTimer();
    if (!this.#poll) return;
    this.#timer = setTimeout(() => void this.#join(), ms);
  }

  #cancelTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Reads both legs' statistics; notices silence and sound without picture. */
  async #look(): Promise<void> {
    const now = performance.now();
    for (const leg of [this.#front, this.#back]) {
      if (!leg || leg.pc.connectionState === "closed") continue;
      const reading = readReport(entriesOf(await leg.pc.getStats()), "inbound-rtp", now);
      if (reading.allPackets > leg.packets) {
        leg.packets = reading.allPackets;
        leg.packetsAt = now;
      }
      if (leg === this.#front) this.figures.value = figuresBetween(leg.reading, reading);
      leg.reading = reading;
    }
    if (document.visibilityState === "hidden") return;
    this.#judgeBack(now);
    this.#judgeFront(now);
  }

  #judgeBack(now: number): void {
    const leg = this.#back;
    if (!leg?.url) return;
    const age = now - leg.startedAt;
    const hasOnlySound = leg.packets > 0 && leg.reading?.packets === 0;
    if (hasOnlySound && age > AUDIO_ONLY_MS) this.#show(leg);
    else if (!this.#expected && leg.packets === 0 && age > STALL_MS) this.status.value = "waiting";
    else if (this.#expected && age > FIRST_FRAME_MS) this.#onJoinFailed(null);
  }

  #judgeFront(now: number): void {
    const leg = this.#front;
    if (!leg || this.#back || this.#timer) return;
    const silentMs = now - Math.max(leg.packetsAt, this.#expectedAt);
    const patienceMs = leg.packetsAt < this.#expectedAt ? RETURN_MS : STALL_MS;
    if (!this.#expected) {
      if (now - leg.packetsAt > STALL_MS) this.status.value = "waiting";
    } else if (silentMs > patienceMs) {
      leg.packetsAt = now;
      this.#rejoin();
    } else if (now - leg.packetsAt < POLL_MS && this.status.value === "waiting") {
      this.status.value = "playing";
    }
  }

  readonly #onVisibility = () => {
    clearTimeout(this.#hiddenTimer);
    if (document.visibilityState === "hidden") {
      if (this.muted.value) this.#hiddenTimer = setTimeout(() => this.#stop(true), HIDDEN_MS);
      return;
    }
    if (!this.#poll && !this.#destroyed && this.status.value !== "refused") {
      if (this.joins.value > 0) this.start();
      return;
    }
    const now = performance.now();
    for (const leg of [this.#front, this.#back]) if (leg) leg.packetsAt = now;
    if (this.#front) void play(this.#front.video);
  };

  readonly #onPageHide = () => {
    this.#stop(true);
  };

  readonly #onPageShow = ({ persisted }: PageTransitionEvent) => {
    if (persisted) this.start();
  };

  /** Ends every session; `keepPicture` leaves the last frame where it is. */
  #stop(keepPicture = false): void {
    clearInterval(this.#poll);
    clearTimeout(this.#hiddenTimer);
    this.#cancelTimer();
    this.#poll = undefined;
    this.#dropBack();
    if (!this.#front) return;
    this.#close(this.#front);
    if (!keepPicture) this.#front.video.srcObject = null;
  }

  #dropBack(): void {
    const leg = this.#back;
    if (!leg) return;
    this.#back = null;
    this.#close(leg);
  }

  #close(leg: Leg): void {
    leg.pc.onconnectionstatechange = null;
    leg.pc.ontrack = null;
    leg.abort.abort();
    if (leg.pc.connectionState !== "closed") leg.pc.close();
    if (leg.url) deleteSession(leg.url, this.#options.token());
    leg.url = null;
  }
}

/** `play` refuses when a tap is needed: then silently, the picture matters more. */
async function play(video: HTMLVideoElement): Promise<void> {
  try {
    await video.play();
  } catch (error) {
    if (!(error instanceof DOMException) || error.name !== "NotAllowedError") return;
    video.muted = true;
    await video.play().catch(() => {
      // Low-power mode may forbid even that; the next tap plays.
    });
  }
}

/** Calls `done` once `video` has really shown a frame of what it now plays. */
function onFirstFrame(video: HTMLVideoElement, done: () => void): void {
  if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(() => done());
  else (video as HTMLVideoElement).addEventListener("playing", () => done(), { once: true });
}

/** RTCStatsReport is map-like in every browser and typed as such in none. */
export function entriesOf(report: RTCStatsReport): [string, unknown][] {
  const entries: [string, unknown][] = [];
  report.forEach((entry, id) => {
    entries.push([id, entry]);
  });
  return entries;
}
