"""ICE-lite as a pure core: answer connectivity checks, start none.

A lite agent with a public address never sends checks of its own; the peer nominates a
pair, and the address that an authentic check comes from is where media goes. So peers
are told apart by the user fragment they name, later by their address.

The password of a user fragment is derived from it and the worker's secret. A restarted
worker can therefore sign an answer to a check of a session it no longer has. That
answer is an error with code 400: Chromium then fails the connection at once and the
page joins again, where silence would cost it the 15-30 s of a consent time-out. (It
takes 401, 420 and 500 for passing trouble and goes on trying.)

Checks that do not verify get no answer, so nobody can make us send to a third party.
Role conflicts need no 487: a full agent facing a lite one is always controlling
(RFC 8445 §6.1.1), so whatever role it claims, we answer as controlled.

RFC 8445 (ICE), RFC 8489 (STUN), RFC 7983 (telling protocols apart by the first byte).
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from struct import error as StructError
from typing import Final

from aioice import stun

UNKNOWN_SESSION_CODE: Final = 400
_MAX_CHECK_BYTES: Final = 1500
_PASSWORD_BYTES: Final = 18
_MAPPED: Final = "::ffff:"


class StunError(Exception):
    """Not a check that we answer; the text says why. Count it and drop the packet."""


@dataclass(frozen=True, slots=True)
class Check:
    """A connectivity check whose signature holds, and the datagram that answers it."""

    local_ufrag: str
    remote_ufrag: str
    is_known: bool
    """Whether a session has these credentials; `reply` is an error if not."""
    is_nominated: bool
    """Whether the peer has chosen this address (USE-CANDIDATE)."""
    reply: bytes


def is_stun(first_byte: int) -> bool:
    """Whether a datagram with this first byte is STUN."""
    return first_byte < 4


def is_dtls(first_byte: int) -> bool:
    """Whether a datagram with this first byte is DTLS."""
    return 20 <= first_byte <= 63


def is_rtp_or_rtcp(first_byte: int) -> bool:
    """Whether a datagram with this first byte is RTP or RTCP (version 2)."""
    return 128 <= first_byte <= 191


def make_ufrag(entropy: bytes) -> str:
    """A user fragment from random bytes (9 or more, a multiple of 3), in ICE characters."""
    return base64.b64encode(entropy).decode("ascii")


class IceLite:
    """Answers checks for every session of one worker. Holds only the secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return "IceLite()"

    def password(self, ufrag: str) -> str:
        """The ice-pwd that belongs to `ufrag`: 24 ICE characters, 144 bits."""
        digest = hmac.digest(self._secret, b"ice-pwd:" + ufrag.encode(), "sha256")
        return base64.b64encode(digest[:_PASSWORD_BYTES]).decode("ascii")

    def receive(
        self,
        data: bytes,
        address: tuple[str, int],
        is_known: Callable[[str, str], bool],
    ) -> Check | None:
        """Verify one STUN datagram from `address` (IP, port) and make the answer.

        `is_known(local_ufrag, remote_ufrag)` says whether a session has them; it is asked
        only after the signature held. Returns None for a keep-alive (indication), which
        has no answer. Raises StunError for everything else, and nothing but that.
        """
        request = _parse(data)
        if request.message_class == stun.Class.INDICATION:
            return None
        if (
            request.message_class != stun.Class.REQUEST
            or request.message_method != stun.Method.BINDING
        ):
            raise StunError("not a binding request")
        local_ufrag, colon, remote_ufrag = request.attributes.get("USERNAME", "").partition(":")
        if not colon or not local_ufrag:
            raise StunError("no user name of the form ours:theirs")
        key = self.password(local_ufrag).encode()
        if not request.check_message_integrity(key):
            raise StunError("the signature does not hold")
        known = is_known(local_ufrag, remote_ufrag)
        return Check(
            local_ufrag,
            remote_ufrag,
            known,
            "USE-CANDIDATE" in request.attributes,
            _success(request, address, key) if known else _refusal(request, key),
        )


def _parse(data: bytes) -> stun.Message:
    if len(data) > _MAX_CHECK_BYTES:
        raise StunError("longer than a packet")
    try:
        return stun.parse_message(data)
    except (ValueError, StructError, IndexError) as error:
        raise StunError(f"not a STUN message: {error}") from None


def _success(request: stun.Message, address: tuple[str, int], key: bytes) -> bytes:
    host, port = address[0], address[1]
    # A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d; the peer wants its own form.
    mapped = host.removeprefix(_MAPPED) if "." in host else host.partition("%")[0]
    response = stun.Message(
        stun.Method.BINDING,
        stun.Class.RESPONSE,
        request.transaction_id,
        {"XOR-MAPPED-ADDRESS": (mapped, port)},
    )
    response.add_message_integrity(key)
    return bytes(response)


def _refusal(request: stun.Message, key: bytes) -> bytes:
    response = stun.Message(
        stun.Method.BINDING,
        stun.Class.ERROR,
        request.transaction_id,
        {"ERROR-CODE": (UNKNOWN_SESSION_CODE, "Bad Request")},
    )
    response.add_message_integrity(key)
    return bytes(response)
