const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/;

/**
 * The address to share. A page opened on the server's own machine (where browsers hand out
 * cameras without TLS) shares the one that phones can reach, which the server wrote into it.
 */
export function publicOrigin(page: Document = document, here: Location = location): string {
  const given = page.querySelector<HTMLMetaElement>('meta[name="livehouse-url"]')?.content;
  return given && LOOPBACK.test(here.hostname) ? given.replace(/\/+$/, "") : here.origin;
}

/** The link that viewers of `room` open. */
export function viewerUrl(room: string): string {
  return `${publicOrigin()}/v/${encodeURIComponent(room)}`;
}
