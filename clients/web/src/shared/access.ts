/**
 * Who we are: the token from the address, the one remembered, or a guest's.
 *
 * A token given in the address stays with this tab only; a guest's stays with the device,
 * so that somebody who closes the page in mid-auction comes back as the same bidder.
 */
import { isReason, type Reason, ROLES, type Role } from "./protocol";

export interface Access {
  token: string;
  identity: string;
  role: Role;
  name: string;
  /** Camera name that the token is limited to. */
  camera: string | null;
  /** Unix seconds. */
  expiresAt: number;
}

/** No token can be had, or the one we hold is refused; `reason` says why. */
export class AccessRefused extends Error {
  constructor(readonly reason: Reason) {
    super(reason);
  }
}

/** The room in `/v/{room}`, `/studio/{room}` or `/screen/{room}`. */
export function roomOfPath(pathname: string): string {
  return decodeURIComponent(pathname.split("/").filter(Boolean)[1] ?? "");
}

/** Claims of `token`, unchecked: the server checks, the page only shows. Null if it is no JWT. */
export function readToken(token: string): Access | null {
  const payload = token.split(".")[1];
  if (!payload) return null;
  try {
    const base64 = payload.replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
    const { sub, role, exp, name, camera } = claims;
    if (typeof sub !== "string" || typeof exp !== "number") return null;
    if (!(ROLES as readonly unknown[]).includes(role)) return null;
    return {
      token,
      identity: sub,
      role: role as Role,
      name: typeof name === "string" ? name : sub,
      camera: typeof camera === "string" ? camera : null,
      expiresAt: exp,
    };
  } catch {
    return null;
  }
}

const tabKey = (room: string) => `livehouse.token.${room}`;
const guestKey = (room: string) => `livehouse.guest.${room}`;
/** A token this close to its end is replaced rather than used. */
const MIN_LEFT_S = 60;

/** Storage may be switched off; then nothing is remembered. */
function stored(area: "localStorage" | "sessionStorage", key: string): string | null {
  try {
    return window[area].getItem(key);
  } catch {
    return null;
  }
}

function store(area: "localStorage" | "sessionStorage", key: string, value: string | null): void {
  try {
    if (value === null) window[area].removeItem(key);
    else window[area].setItem(key, value);
  } catch {
    // Private windows and full disks: the page works, it only forgets.
  }
}

/** Takes `#token=` or `?token=` out of the address bar (it is a secret) and remembers it. */
function takeTokenFromAddress(room: string): void {
  const url = new URL(location.href);
  const hash = new URLSearchParams(url.hash.slice(1));
  const token = hash.get("token") ?? url.searchParams.get("token");
  if (token === null) return;
  store("sessionStorage", tabKey(room), token);
  givenToken = token;
  hash.delete("token");
  url.searchParams.delete("token");
  url.hash = hash.toString();
  history.replaceState(history.state, "", url);
}

let givenToken: string | null = null;

/** The token given for this tab, if one was; never asks the server. */
export function givenAccess(room: string): Access | null {
  takeTokenFromAddress(room);
  const token = givenToken ?? stored("sessionStorage", tabKey(room));
  return token === null ? null : readToken(token);
}

/**
 * A token for `room`: the given one, the remembered guest's, or a fresh guest's.
 * Raises AccessRefused, or TypeError when the server cannot be reached.
 */
export async function obtainAccess(room: string, fresh = false): Promise<Access> {
  const given = givenAccess(room);
  if (given) {
    if (given.expiresAt * 1000 < Date.now()) throw new AccessRefused("expired_token");
    if (fresh) throw new AccessRefused("bad_token");
    return given;
  }
  const guest = fresh ? null : readToken(stored("localStorage", guestKey(room)) ?? "");
  if (guest && guest.expiresAt - MIN_LEFT_S > Date.now() / 1000) return guest;
  const response = await fetch(`/api/v1/rooms/${encodeURIComponent(room)}/join`);
  if (!response.ok) throw new AccessRefused(await problemReason(response));
  const { token } = (await response.json()) as { token: string };
  const access = readToken(token);
  if (!access) throw new AccessRefused("bad_token");
  store("localStorage", guestKey(room), token);
  return access;
}

/** The reason word of a problem+json answer. */
export async function problemReason(response: Response): Promise<Reason> {
  try {
    const { reason } = (await response.json()) as { reason?: unknown };
    if (isReason(reason)) return reason;
  } catch {
    // Not ours: a proxy answered. The status has to do.
  }
  if (response.status === 401) return "no_token";
  if (response.status === 403) return "not_allowed";
  if (response.status === 404) return "not_found";
  return response.status >= 500 ? "unavailable" : "bad_request";
}
