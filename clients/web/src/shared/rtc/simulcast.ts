/** Which encodings of one picture a publisher sends at once. Pure. */

export interface Quality {
  height: number;
  maxBitrateBps: number;
  maxFramerate: number;
}

/** Below this a small layer is a blur that no phone should be given. */
const MIN_HEIGHT_PX = 160;
const STEPS = [
  { rid: "q", scale: 4, share: 0.1 },
  { rid: "h", scale: 2, share: 0.3 },
  { rid: "f", scale: 1, share: 1 },
] as const;

/** From the smallest to the largest, as browsers want them. */
export function encodingsFor(quality: Quality): RTCRtpEncodingParameters[] {
  return STEPS.filter(({ scale }) => scale === 1 || quality.height / scale >= MIN_HEIGHT_PX).map(
    ({ rid, scale, share }) => ({
      rid,
      active: true,
      scaleResolutionDownBy: scale,
      maxBitrate: Math.round(quality.maxBitrateBps * share),
      maxFramerate: quality.maxFramerate,
    }),
  );
}

/** Sends the `wanted` encodings of a running sender and rests the others. */
export async function sendOnly(sender: RTCRtpSender, wanted: readonly string[]): Promise<void> {
  const parameters = sender.getParameters();
  if (parameters.encodings.length < 2) return;
  for (const encoding of parameters.encodings) {
    encoding.active = wanted.includes(encoding.rid ?? "");
  }
  await sender.setParameters(parameters);
}
