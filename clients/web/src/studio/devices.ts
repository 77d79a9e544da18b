/** Camera and microphone of this device: asking, choosing, hearing the level. */
import { signal } from "@preact/signals";

export type DeviceProblem = "denied" | "missing" | "busy" | "insecure";

export interface QualityPreset {
  name: string;
  width: number;
  height: number;
  maxFramerate: number;
  maxBitrateBps: number;
}

export const QUALITIES: readonly QualityPreset[] = [
  { name: "1080p", width: 1920, height: 1080, maxFramerate: 30, maxBitrateBps: 4_500_000 },
  { name: "720p", width: 1280, height: 720, maxFramerate: 30, maxBitrateBps: 2_500_000 },
  { name: "480p", width: 854, height: 480, maxFramerate: 30, maxBitrateBps: 1_000_000 },
];
export const DEFAULT_QUALITY = "720p";

export function qualityNamed(name: string): QualityPreset {
  return (QUALITIES.find((each) => each.name === name) ?? QUALITIES[1]) as QualityPreset;
}

/** "" stands for the system's choice, NO_MICROPHONE for none. */
export const NO_MICROPHONE = "none";

export interface DeviceChoice {
  camera: string;
  microphone: string;
  quality: string;
}

export class Devices {
  readonly stream = signal<MediaStream | null>(null);
  readonly problem = signal<DeviceProblem | null>(null);
  readonly list = signal<MediaDeviceInfo[]>([]);
  readonly #meter = new LevelMeter();
  #opening = 0;

  constructor(private readonly onTrack: (track: MediaStreamTrack) => void) {
    navigator.mediaDevices?.addEventListener("devicechange", () => void this.#enumerate());
  }

  /** Whether the browser would open the camera without a question. */
  async isAllowed(): Promise<boolean> {
    try {
      const answer = await navigator.permissions.query({ name: "camera" as PermissionName });
      return answer.state === "granted";
    } catch {
      return false;
    }
  }

  /** Opens what was chosen and stops what was open; the newest call wins. */
  async open(choice: DeviceChoice): Promise<void> {
    if (!navigator.mediaDevices) {
      this.problem.value = "insecure";
      return;
    }
    const opening = ++this.#opening;
    try {
      const stream = await getStream(choice);
      if (opening !== this.#opening) {
        stopTracks(stream);
        return;
      }
      const old = this.stream.value;
      this.stream.value = stream;
      this.problem.value = null;
      for (const track of stream.getTracks()) {
        track.addEventListener("ended", () => this.#onEnded(choice, stream));
        this.onTrack(track);
      }
      if (old) stopTracks(old);
      this.#meter.listen(stream);
      await this.#enumerate();
    } catch (error) {
      if (opening === this.#opening) this.problem.value = problemOf(error);
    }
  }

  /** The microphone's level now, 0-1. */
  level(): number {
    return this.#meter.level();
  }

  /** A device was unplugged while in use: go on with whatever is left. */
  #onEnded(choice: DeviceChoice, stream: MediaStream): void {
    if (this.stream.value !== stream) return;
    void this.open({ ...choice, camera: "", microphone: choice.microphone && "" });
  }

  async #enumerate(): Promise<void> {
    this.list.value = await navigator.mediaDevices.enumerateDevices();
  }
}

async function getStream(choice: DeviceChoice): Promise<MediaStream> {
  const { width, height, maxFramerate } = qualityNamed(choice.quality);
  const video: MediaTrackConstraints = {
    width: { ideal: width },
    height: { ideal: height },
    frameRate: { ideal: maxFramerate, max: maxFramerate },
    ...(choice.camera ? { deviceId: { exact: choice.camera } } : { facingMode: "environment" }),
  };
  const audio: MediaTrackConstraints = {
    // A shop is one voice among many: leave noise and level to the browser, keep the room.
    echoCancellation: false,
    noiseSuppression: true,
    autoGainControl: true,
    ...(choice.microphone ? { deviceId: { exact: choice.microphone } } : {}),
  };
  const wantsSound = choice.microphone !== NO_MICROPHONE;
  try {
    return await navigator.mediaDevices.getUserMedia({ video, audio: wantsSound && audio });
  } catch (error) {
    const isMissing = error instanceof DOMException && error.name === "NotFoundError";
    if (!wantsSound || !isMissing) throw error;
    // A camera without any microphone is still a camera.
    return navigator.mediaDevices.getUserMedia({ video, audio: false });
  }
}

function stopTracks(stream: MediaStream): void {
  for (const track of stream.getTracks()) track.stop();
}

function problemOf(error: unknown): DeviceProblem {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError" || name === "SecurityError") return "denied";
  if (name === "NotReadableError" || name === "AbortError") return "busy";
  return "missing";
}

class LevelMeter {
  #context: AudioContext | null = null;
  #source: MediaStreamAudioSourceNode | null = null;
  #analyser: AnalyserNode | null = null;
  #samples = new Float32Array(512);

  listen(stream: MediaStream): void {
    this.#source?.disconnect();
    this.#source = null;
    if (stream.getAudioTracks().length === 0) return;
    this.#context ??= new AudioContext();
    this.#analyser ??= new AnalyserNode(this.#context, { fftSize: 512 });
    this.#source = this.#context.createMediaStreamSource(stream);
    this.#source.connect(this.#analyser);
  }

  level(): number {
    if (!this.#analyser || !this.#source) return 0;
    if (this.#context?.state === "suspended") void this.#context.resume();
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    const db = 20 * Math.log10(Math.sqrt(sum / this.#samples.length) + 1e-7);
    // -60 dB is silence, -6 dB as loud as it should get.
    return Math.min(1, Math.max(0, (db + 60) / 54));
  }
}
