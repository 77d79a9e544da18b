/** WHIP and WHEP over fetch: the verbs that both ends of a session share (RFC 9725). */
import { problemReason } from "../access";
import type { Reason } from "../protocol";

/** The server answered an offer or a session verb with a refusal. */
export class SessionRefused extends Error {
  constructor(
    readonly reason: Reason,
    readonly status: number,
    readonly retryAfterMs: number | null,
  ) {
    super(reason);
  }
}

export interface SessionResource {
  url: string;
  answer: string;
}

const POST_TIMEOUT_MS = 8_000;

/** Posts an offer. Raises SessionRefused, or what fetch raises when nobody answers. */
export async function postOffer(
  path: string,
  offer: string,
  token: string,
  signal: AbortSignal,
): Promise<SessionResource> {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/sdp", Authorization: `Bearer ${token}` },
    body: offer,
    signal: anySignal([signal, AbortSignal.timeout(POST_TIMEOUT_MS)]),
  });
  if (response.status !== 201) throw await refusalOf(response);
  const location = response.headers.get("Location") ?? "";
  return { url: new URL(location, response.url).href, answer: await response.text() };
}

/** `PUT {session}/camera`: move a running WHEP session, null for the program. */
export async function putCamera(url: string, camera: string | null, token: string): Promise<void> {
  const response = await fetch(`${url}/camera`, {
    method: "PUT",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
    body: JSON.stringify({ camera }),
  });
  if (!response.ok) throw await refusalOf(response);
}

/** Ends a session; also while the page is closing. Nobody waits for the answer. */
export function deleteSession(url: string, token: string): void {
  void fetch(url, {
    method: "DELETE",
    headers: { Authorization: `Bearer ${token}` },
    keepalive: true,
  }).catch(() => {
    // The server forgets a silent session by itself.
  });
}

async function refusalOf(response: Response): Promise<SessionRefused> {
  const seconds = Number(response.headers.get("Retry-After") ?? Number.NaN);
  const retryAfterMs = Number.isFinite(seconds) ? seconds * 1000 : null;
  return new SessionRefused(await problemReason(response), response.status, retryAfterMs);
}

/** AbortSignal.any, which Safari 16 lacks. */
function anySignal(signals: AbortSignal[]): AbortSignal {
  const controller = new AbortController();
  for (const each of signals) {
    if (each.aborted) controller.abort(each.reason);
    each.addEventListener("abort", () => controller.abort(each.reason), { once: true });
  }
  return controller.signal;
}
