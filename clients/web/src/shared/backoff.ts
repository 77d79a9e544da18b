/** Delay before try number `tries` (0 is the first retry), ms, with jitter so that a crowd spreads. */
export function backoffMs(
  tries: number,
  { baseMs = 250, capMs = 8_000, random = Math.random } = {},
): number {
  const full = Math.min(capMs, baseMs * 2 ** Math.min(tries, 16));
  return full * (0.5 + random() / 2);
}

/** Resolves after `ms`; rejects with the signal's reason when that comes first. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
