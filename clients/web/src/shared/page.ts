/** What every page does first: get in, open the bus, and say plainly when it cannot. */
import { signal } from "@preact/signals";
import { type Access, AccessRefused, obtainAccess } from "./access";
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
 * Gets access to `room` (waiting for the server as long as it takes) and opens the bus.
 * Null when access is refused; `denied` then says why.
 */
export async function enterRoom(
  room: string,
  handlers: Omit<BusHandlers, "onDenied">,
  getAccess: (fresh?: boolean) => Promise<Access> = (fresh) => obtainAccess(room, fresh),
): Promise<Session | null> {
  const access = await firstAccess(getAccess);
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
        onDenied: () => {
          denied.value = "bad_token";
        },
      },
    }),
  };
  return session;
}

async function firstAccess(getAccess: () => Promise<Access>): Promise<Access | null> {
  for (let tries = 0; ; tries++) {
    try {
      return await getAccess();
    } catch (error) {
      if (error instanceof AccessRefused && error.reason !== "unavailable") {
        denied.value = error.reason;
        return null;
      }
      await sleep(backoffMs(tries));
    }
  }
}
