/** What every page does first: get in, open the bus, and say plainly when it cannot. */
import { signal } from "@preact/signals";
import { type Access, AccessRefused, givenAccess, obtainAccess } from "./access";
import { backoffMs, sleep } from "./backoff";
import { Bus, type BusHandlers } from "./bus";
import type { Reason } from "./protocol";

export interface Session {
  access: Access;
  bus: Bus;
}

/** Why the page cannot be used, or null. */
export const denied = signal<Reason | null>(null);

/**
 * Gets access to `room` (waiting for the server, or for a closed room, as long as it takes)
 * and opens the bus. Null when the given token is refused; `denied` says why meanwhile.
 */
export async function enterRoom(
  room: string,
  handlers: Omit<BusHandlers, "onDenied">,
  getAccess: (fresh?: boolean) => Promise<Access> = (fresh) => obtainAccess(room, fresh),
): Promise<Session | null> {
  const access = await firstAccess(room, getAccess);
  if (!access) return null;
  const session: Session = {
    access,
    bus: new Bus({
      room,
      token: access.token,
      renew: async () => {
        const renewed = await getAccess(true);
        Object.assign(access, renewed);
        return renewed.token;
      },
      handlers: {
        ...handlers,
        onDenied: (reason) => {
          denied.value = reason;
        },
      },
    }),
  };
  return session;
}

/** A guest of a room that is not open (yet) is let in by itself once it is. */
const CLOSED_RETRY_MS = 4_000;

async function firstAccess(room: string, getAccess: () => Promise<Access>): Promise<Access | null> {
  for (let tries = 0; ; tries++) {
    try {
      const access = await getAccess();
      denied.value = null;
      return access;
    } catch (error) {
      if (error instanceof AccessRefused && error.reason !== "unavailable") {
        denied.value = error.reason;
        if (givenAccess(room)) return null;
        await sleep(CLOSED_RETRY_MS);
      } else await sleep(backoffMs(tries));
    }
  }
}
