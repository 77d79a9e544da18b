"""The checking side of ICE towards a lite agent, as a pure core.

Who connects to a media worker (another worker that pulls a camera, a load client) knows
the worker's candidates and password and needs no candidates of its own: the worker sends
to where authentic checks come from. So the whole agent is: check every candidate until
one answers, nominate that one, and go on checking it so that both ends know the path and
the session are still there.

    CHECKING ── first signed answer ──► CONNECTED ── silence, signed error ──► FAILED
        └────────── nobody answered, signed error ──────────────────────────────┘

An answer counts only if it is signed, belongs to an open check and comes from where that
check was sent. A signed error says that the other end no longer knows the session.

RFC 8445 (ICE; §7.2.5 for answers), RFC 7675 (consent), RFC 8489 (STUN).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import StrEnum
from struct import error as StructError
from typing import Final, TypeAlias

from aioice import stun

Address: TypeAlias = tuple[str, int]

FIRST_CHECK_S: Final = 0.02
"""Until the first repeat; doubled each time, up to `SLOWEST_CHECK_S`."""

SLOWEST_CHECK_S: Final = 0.4

CONSENT_S: Final = 1.0
"""Between checks of a path in use, varied by a fifth so that many sessions do not beat."""

_OPEN_CHECKS: Final = 64
"""Checks that may still be answered; older ones are forgotten."""

_PRIORITY: Final = 126 << 24 | 65535 << 8 | 255


class IceState(StrEnum):
    """Where the agent stands; FAILED is final."""

    CHECKING = "checking"
    CONNECTED = "connected"
    FAILED = "failed"


class IceClient:
    """One session's checks. Send what `poll` gives, tell `receive` what STUN comes in."""

    def __init__(
        self,
        local_ufrag: str,
        remote_ufrag: str,
        remote_pwd: str,
        candidates: Sequence[Address],
        now: float,
        rng: random.Random,
        *,
        connect_timeout_s: float = 4.0,
        consent_timeout_s: float = 5.0,
    ) -> None:
        """`candidates` are the remote (IP, port) pairs, the likeliest first; times in seconds."""
        self.state = IceState.CHECKING
        self.selected: Address | None = None
        """The path in use; None before the first answer."""
        self.failure = ""
        """Why it failed, in a word: `no_answer`, `unknown_session` or `consent_lost`."""
        self.round_trip_s: float | None = None
        self._user = f"{remote_ufrag}:{local_ufrag}"
        self._key = remote_pwd.encode()
        self._candidates = tuple(dict.fromkeys(candidates))
        self._rng = rng
        self._tie_breaker = rng.getrandbits(64)
        self._open: dict[bytes, tuple[Address, float]] = {}
        self._due = now
        self._interval_s = FIRST_CHECK_S
        self.heard_at = now
        """When the other end last answered a check."""
        self._connect_timeout_s = connect_timeout_s
        self._consent_timeout_s = consent_timeout_s

    def next_deadline(self) -> float | None:
        """When to call `poll`, monotonic seconds; None when it is over."""
        return None if self.state is IceState.FAILED else self._due

    def poll(self, now: float) -> list[tuple[bytes, Address]]:
        """The checks due now, and where to send each; notices a path that went silent."""
        if self.state is IceState.FAILED or now < self._due:
            return []
        is_checking = self.state is IceState.CHECKING
        limit_s = self._connect_timeout_s if is_checking else self._consent_timeout_s
        if now - self.heard_at > limit_s:
            self._fail("no_answer" if is_checking else "consent_lost")
            return []
        if self.selected is not None:
            self._due = now + CONSENT_S * self._rng.uniform(0.8, 1.2)
            return [self._check(self.selected, now)]
        self._due = now + self._interval_s
        self._interval_s = min(self._interval_s * 2, SLOWEST_CHECK_S)
        return [self._check(address, now) for address in self._candidates]

    def receive(self, data: bytes, address: Address, now: float) -> bool:
        """Take one STUN datagram from `address`; whether it changed the state.

        What is not an answer to an open check is passed over without a word.
        """
        if self.state is IceState.FAILED:
            return False
        try:
            message = stun.parse_message(data)
        except (ValueError, IndexError, StructError):
            return False
        sent = self._open.get(message.transaction_id)
        if sent is None or sent[0] != address or not message.check_message_integrity(self._key):
            return False
        del self._open[message.transaction_id]
        if message.message_class is stun.Class.ERROR:
            self._fail("unknown_session")
            return True
        if message.message_class is not stun.Class.RESPONSE:
            return False
        self.heard_at = now
        self.round_trip_s = now - sent[1]
        if self.state is IceState.CONNECTED:
            return False
        self.state = IceState.CONNECTED
        self.selected = address
        self._due = now  # the nominating check leaves at once
        return True

    def _fail(self, why: str) -> None:
        self.state = IceState.FAILED
        self.failure = why
        self._open.clear()

    def _check(self, address: Address, now: float) -> tuple[bytes, Address]:
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, self._rng.randbytes(12))
        request.attributes["USERNAME"] = self._user
        request.attributes["PRIORITY"] = _PRIORITY
        request.attributes["ICE-CONTROLLING"] = self._tie_breaker
        if self.selected is not None:
            request.attributes["USE-CANDIDATE"] = None
        request.add_message_integrity(self._key)
        self._open[request.transaction_id] = (address, now)
        while len(self._open) > _OPEN_CHECKS:
            del self._open[next(iter(self._open))]
        return bytes(request), address
