/** Line icons on a 24-unit grid, drawn for this house. Decorative: the button carries the label. */
import type { JSX } from "preact";

const PATHS = {
  sound: "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5zM15.5 9a4 4 0 0 1 0 6M18 6.5a8 8 0 0 1 0 11",
  silent: "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5zM16 9.5l5 5M21 9.5l-5 5",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  close: "M6 6l12 12M18 6L6 18",
  check: "M5 12.5l4.5 4.5L19 7.5",
  cameras: "M3 7.5h11v9H3zM14 11l6-3v8l-6-3",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12zM12 14.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5z",
  chart: "M4 19V5M4 19h16M8 15l3.5-4 3 2.5L20 7",
  expand: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  mic: "M12 3.5a3 3 0 0 0-3 3v5a3 3 0 0 0 6 0v-5a3 3 0 0 0-3-3zM5.5 11a6.5 6.5 0 0 0 13 0M12 17.5V21",
  share: "M12 15V3.5M8 7l4-3.5L16 7M5 12v8h14v-8",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  up: "M12 19V5M6 11l6-6 6 6",
  screen: "M3 5h18v12H3zM8 21h8M12 17v4",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  crown: "M4 17.5h16M4.5 14.5L3.5 7l5 3.5L12 5l3.5 5.5 5-3.5-1 7.5z",
} as const;

const SOLID = {
  heart:
    "M12 20.5S3.5 15.5 3.5 9.3A4.8 4.8 0 0 1 12 6.3a4.8 4.8 0 0 1 8.5 3c0 6.2-8.5 11.2-8.5 11.2z",
  stop: "M6.5 6.5h11v11h-11z",
} as const;

export type IconName = keyof typeof PATHS | keyof typeof SOLID;

export function Icon({ name }: { name: IconName }): JSX.Element {
  const isSolid = name in SOLID;
  const path = isSolid ? SOLID[name as keyof typeof SOLID] : PATHS[name as keyof typeof PATHS];
  return (
    <svg class={isSolid ? "icon icon-solid" : "icon"} viewBox="0 0 24 24" aria-hidden="true">
      <path d={path} />
    </svg>
  );
}

/** The house with its lamp on: the mark without the tile that the browser's tab needs. */
export function Mark(): JSX.Element {
  return (
    <svg class="mark" viewBox="6 4 20 23" aria-hidden="true">
      <path
        fill="var(--lamp)"
        fill-rule="evenodd"
        d="M8 25V12.5L16 6l8 6.5V25h-5.5v-6.5a2.5 2.5 0 0 0-5 0V25zM16 14.9a1.9 1.9 0 1 0 0-3.8 1.9 1.9 0 0 0 0 3.8z"
      />
    </svg>
  );
}
