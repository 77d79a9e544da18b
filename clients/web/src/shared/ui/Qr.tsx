/** A QR code as one SVG path, dark on light with its quiet zone. */
import type { JSX } from "preact";
import { encode } from "uqr";

export function Qr({ text, label }: { text: string; label: string }): JSX.Element {
  const { data, size } = encode(text, { ecc: "M", border: 2 });
  let path = "";
  data.forEach((row, y) => {
    row.forEach((isDark, x) => {
      if (isDark) path += `M${x} ${y}h1v1h-1z`;
    });
  });
  return (
    <svg class="qr" viewBox={`0 0 ${size} ${size}`} role="img" aria-label={label} data-text={text}>
      <rect width={size} height={size} fill="#fff" />
      <path d={path} fill="#0b0a10" shape-rendering="crispEdges" />
    </svg>
  );
}
