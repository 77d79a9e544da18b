/** Fetches what events left open: lots that are new to us, and whether a reserve is met by now. */
import { effect, type ReadonlySignal } from "@preact/signals";
import { backoffMs, sleep } from "./backoff";
import { type Bus, RpcRefused } from "./bus";
import type { LotSnapshot } from "./protocol";
import type { RoomAction, RoomModel } from "./room";

const MAX_TRIES = 5;

/**
 * Asks `lot.state` for every lot that `room` does not know well. `spreadMs` spreads a crowd of
 * phones over that long. Gives a function that asks for one lot now, and one that ends it all.
 */
export function describeLots(
  bus: Bus,
  room: ReadonlySignal<RoomModel>,
  dispatch: (action: RoomAction) => void,
  spreadMs: number,
): { ask: (lot: string) => void; stop: () => void } {
  const asked = new Set<string>();
  const stopped = new AbortController();

  async function ask(lot: string): Promise<void> {
    for (let tries = 0; tries < MAX_TRIES && !stopped.signal.aborted; tries++) {
      try {
        dispatch({ type: "room.lot", lot: await bus.call("lot.state", { lot }) });
        return;
      } catch (error) {
        if (error instanceof RpcRefused && error.detail.temporary !== true) return;
        await sleep(backoffMs(tries));
      }
    }
  }

  function askOnce(lot: string, about: string): void {
    const question = `${lot} ${about}`;
    if (asked.has(question)) return;
    asked.add(question);
    void sleep(Math.random() * spreadMs).then(() => ask(lot));
  }

  const stop = effect(() => {
    for (const lot of room.value.unknownLots) askOnce(lot, "new");
    for (const lot of room.value.lots) {
      if (mayHaveMetReserve(lot)) askOnce(lot.lot, `reserve ${lot.seq}`);
    }
  });
  return {
    ask: (lot) => void ask(lot),
    stop: () => {
      stopped.abort();
      stop();
    },
  };
}

/** Events do not carry the reserve's state; the first bids after a snapshot may have met it. */
function mayHaveMetReserve(lot: LotSnapshot): boolean {
  return (
    lot.state === "open" && lot.reserve === "unmet" && lot.bids[0]?.seq === lot.seq && lot.seq > 0
  );
}
