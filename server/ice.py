"""STUN and TURN servers as WHIP and WHEP announce them: `Link` headers with credentials.

A TURN server that shares a secret with us needs no account for each person: the user name
is the second at which it ends and who it is for, the password its HMAC. The TURN server
checks both without asking anybody (coturn's `use-auth-secret`; "TURN REST API",
draft-uberti-behave-turn-rest).

RFC 9725 §4.6 (Link), RFC 7064 and 7065 (stun: and turn: addresses).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final

from server.config import IceServer

TURN_TTL_S: Final = 43_200
"""How long made credentials last: a long show. TURN asks for them again at every refresh,
so an end within the show would cut the relayed viewer off."""

_PLAIN = re.compile(r"[A-Za-z0-9._@+-]{1,64}\Z")


def ice_links(servers: Iterable[IceServer], identity: str, now: float) -> list[str]:
    """One `Link` header value a server. `now` is Unix seconds, `identity` who asks."""
    return [_link(server, identity, now) for server in servers]


def turn_credentials(secret: str, identity: str, now: float) -> tuple[str, str]:
    """(user name, password) that a TURN server with `secret` takes until TURN_TTL_S."""
    # A header holds only ASCII, an identity any letter; the TURN server needs it for its log.
    who = identity if _PLAIN.match(identity) else hashlib.sha256(identity.encode()).hexdigest()[:16]
    username = f"{int(now) + TURN_TTL_S}:{who}"
    digest = hmac.digest(secret.encode(), username.encode(), "sha1")
    return username, base64.b64encode(digest).decode("ascii")


def _link(server: IceServer, identity: str, now: float) -> str:
    parts = [f"<{server.url}>", 'rel="ice-server"']
    username, credential = server.username, server.credential
    if server.secret is not None:
        username, credential = turn_credentials(server.secret, identity, now)
    if username is not None:
        parts += [f'username="{_quoted(username)}"']
        parts += [f'credential="{_quoted(credential or "")}"', 'credential-type="password"']
    return "; ".join(parts)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
