/**
 * The place where the picture is: two video elements and the light they throw.
 *
 * The light ("ambient") is the running picture drawn very small a few times a second and
 * stretched far beyond its edges, so that the room around the video takes its colour.
 */
import { effect } from "@preact/signals";
import { WhepPlayer } from "./whep";

export type Fit = "auto" | "contain" | "cover";

/** Filling the frame may cut away this much of the picture, no more. */
const MAX_CROP = 0.3;
const AMBIENT_MS = 250;
/** So small that stretching it is all the blur it needs. */
const AMBIENT_WIDTH_PX = 10;
const AMBIENT_HEIGHT_PX = 6;

/** The share of a picture of aspect `video` that is lost when it fills a frame of aspect `frame`. */
export function cropToFill(video: number, frame: number): number {
  return 1 - Math.min(video / frame, frame / video);
}

export class Stage {
  readonly element = document.createElement("div");
  readonly player: WhepPlayer;
  readonly #videos: [HTMLVideoElement, HTMLVideoElement];
  readonly #ambient: CanvasRenderingContext2D | null = null;
  readonly #resize: ResizeObserver;
  #front: HTMLVideoElement;
  #fit: Fit = "auto";
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(options: {
    room: string;
    token: () => string;
    label: () => string;
    ambient: boolean;
  }) {
    this.element.className = "stage";
    this.element.dataset.testid = "stage";
    if (options.ambient) {
      const canvas = document.createElement("canvas");
      canvas.className = "stage-ambient";
      canvas.width = AMBIENT_WIDTH_PX;
      canvas.height = AMBIENT_HEIGHT_PX;
      canvas.setAttribute("aria-hidden", "true");
      this.element.append(canvas);
      this.#ambient = canvas.getContext("2d", { alpha: false });
      this.#timer = setInterval(() => this.#drawAmbient(), AMBIENT_MS);
    }
    const makeVideo = () => {
      const video = document.createElement("video");
      video.disablePictureInPicture = true;
      effect(() => video.setAttribute("aria-label", options.label()));
      video.addEventListener("resize", () => this.#applyFit());
      this.element.append(video);
      return video;
    };
    this.#videos = [makeVideo(), makeVideo()];
    this.#front = this.#videos[0];
    this.player = new WhepPlayer({
      room: options.room,
      token: options.token,
      videos: this.#videos,
      onFront: (video) => this.#setFront(video),
    });
    this.#resize = new ResizeObserver(() => this.#applyFit());
    this.#resize.observe(this.element);
  }

  /** `auto` fills the frame unless that cuts away more than MAX_CROP. */
  setFit(fit: Fit): void {
    this.#fit = fit;
    this.#applyFit();
  }

  destroy(): void {
    clearInterval(this.#timer);
    this.#resize.disconnect();
    this.player.destroy();
    this.element.remove();
  }

  #setFront(video: HTMLVideoElement): void {
    this.#front = video;
    for (const each of this.#videos) {
      each.classList.toggle("is-front", each === video);
      each.toggleAttribute("data-front", each === video);
      each.setAttribute("aria-hidden", String(each !== video));
    }
    this.#applyFit();
  }

  #applyFit(): void {
    const { videoWidth, videoHeight } = this.#front;
    const { clientWidth, clientHeight } = this.element;
    if (videoHeight === 0 || clientHeight === 0) return;
    const crop = cropToFill(videoWidth / videoHeight, clientWidth / clientHeight);
    const fit = this.#fit === "auto" ? (crop <= MAX_CROP ? "cover" : "contain") : this.#fit;
    this.element.dataset.fit = fit;
    // Read by the page's layout too, which makes room for a picture that stands whole.
    const root = document.documentElement;
    root.dataset.fit = fit;
    root.style.setProperty("--aspect", String(videoWidth / videoHeight));
  }

  #drawAmbient(): void {
    if (this.element.dataset.fit === "cover") return;
    if (document.visibilityState === "hidden" || this.#front.readyState < 2 || !this.#ambient)
      return;
    // Each drawing is mostly see-through: the light follows the picture without flicker.
    this.#ambient.globalAlpha = 0.3;
    this.#ambient.drawImage(this.#front, 0, 0, AMBIENT_WIDTH_PX, AMBIENT_HEIGHT_PX);
  }
}
