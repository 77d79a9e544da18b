/**
 * The server's clock on this device.
 *
 * Each exchange gives the offset between the clocks with an error of at most half its
 * round trip, so the slower half of the exchanges is thrown away and the rest averaged.
 * Local time is the page's monotonic clock: a phone that sets its wall clock meanwhile
 * does not move a countdown.
 */

export interface Exchange {
  /** Local time when the question left and the answer came, ms. */
  sentAt: number;
  receivedAt: number;
  /** What the server's clock said, Unix ms. */
  serverAt: number;
}

/** Server time minus local time, ms, from the best half of `exchanges` by round trip. */
export function estimateOffset(exchanges: readonly Exchange[]): number {
  if (exchanges.length === 0) return 0;
  const byTrip = [...exchanges].sort((a, b) => trip(a) - trip(b));
  const best = byTrip.slice(0, Math.ceil(byTrip.length / 2));
  const sum = best.reduce((total, e) => total + e.serverAt - (e.sentAt + e.receivedAt) / 2, 0);
  return sum / best.length;
}

const trip = (exchange: Exchange) => exchange.receivedAt - exchange.sentAt;

const KEPT_EXCHANGES = 16;
const BURST = 6;
const BURST_GAP_MS = 120;
/** Quartz in phones drifts up to 50 ppm: 1.5 ms in this time. */
const REFRESH_MS = 30_000;

export const localNow = () => performance.timeOrigin + performance.now();

/** Keeps the offset fresh by asking `ask` now and then. Call `sync` whenever a link is new. */
export class ServerClock {
  #exchanges: Exchange[] = [];
  #offset = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #run = 0;

  constructor(private readonly ask: () => Promise<number>) {}

  /** The server's time, Unix ms. The device's own until the first exchange. */
  now(): number {
    return localNow() + this.#offset;
  }

  /** A first guess from a message that carries the server's time, until exchanges are better. */
  hint(serverAt: number): void {
    if (this.#exchanges.length === 0) this.#offset = serverAt - localNow();
  }

  /** A burst of exchanges now, then one every half minute; replaces a running one. */
  async sync(): Promise<void> {
    const run = ++this.#run;
    clearTimeout(this.#timer);
    // After sleep or a lost link the old samples may be of another truth.
    this.#exchanges = [];
    for (let left = BURST; left > 0 && run === this.#run; left--) {
      if (!(await this.#exchange())) break;
      await new Promise((resolve) => setTimeout(resolve, BURST_GAP_MS));
    }
    if (run === this.#run) this.#schedule(run);
  }

  destroy(): void {
    this.#run++;
    clearTimeout(this.#timer);
  }

  #schedule(run: number): void {
    this.#timer = setTimeout(async () => {
      await this.#exchange();
      if (run === this.#run) this.#schedule(run);
    }, REFRESH_MS);
  }

  async #exchange(): Promise<boolean> {
    const sentAt = localNow();
    try {
      const serverAt = await this.ask();
      this.#exchanges.push({ sentAt, receivedAt: localNow(), serverAt });
    } catch {
      // The link is down; the bus calls sync again when it is back.
      return false;
    }
    this.#exchanges = this.#exchanges.slice(-KEPT_EXCHANGES);
    this.#offset = estimateOffset(this.#exchanges);
    return true;
  }
}
