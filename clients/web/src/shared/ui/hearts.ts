/** Hearts that float up where people cheer. At most MAX_HEARTS at once; none with reduced motion. */
import { prefersReducedMotion } from "./controls";

const MAX_HEARTS = 28;
const FLIGHT_MS = 2_400;
const COLOURS = ["#ffb224", "#ff9482", "#f7f3ec", "#ff7a4d"];

export class Hearts {
  readonly element = document.createElement("div");

  constructor() {
    this.element.className = "hearts";
    this.element.setAttribute("aria-hidden", "true");
  }

  /** Lets `count` hearts fly, a few at a time. */
  fly(count: number): void {
    if (prefersReducedMotion() || document.visibilityState === "hidden") return;
    const free = MAX_HEARTS - this.element.childElementCount;
    for (let i = 0; i < Math.min(count, free, 8); i++) this.#flyOne(i * 90);
  }

  #flyOne(delayMs: number): void {
    const heart = document.createElement("i");
    const drift = (Math.random() - 0.5) * 90;
    const turn = (Math.random() - 0.5) * 50;
    const size = 18 + Math.random() * 16;
    heart.style.width = heart.style.height = "24px";
    heart.style.scale = String(size / 24);
    heart.style.background = COLOURS[Math.floor(Math.random() * COLOURS.length)] ?? "";
    this.element.append(heart);
    const rise = this.element.clientHeight;
    heart
      .animate(
        [
          { transform: "translate(0, 0) scale(.3)", opacity: 0 },
          {
            transform: `translate(${drift * 0.3}px, ${-rise * 0.2}px) scale(1)`,
            opacity: 1,
            offset: 0.2,
          },
          {
            transform: `translate(${drift}px, ${-rise}px) rotate(${turn}deg) scale(.9)`,
            opacity: 0,
          },
        ],
        { duration: FLIGHT_MS, delay: delayMs, easing: "cubic-bezier(.25,.6,.4,1)", fill: "both" },
      )
      .finished.catch(() => undefined)
      .finally(() => heart.remove());
  }
}
