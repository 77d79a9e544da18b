"""Rooms: who calls, what a call may do, and where its answer comes from.

`RoomService` is what the bus, the HTTP front and the media bridge see of everything
in this package. It owns the rooms; they own their lots.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from interact.engine import Engine
from interact.protocol import Reason, Refused, Role, RoomId

Clock = Callable[[], int]
"""Unix milliseconds by the server's wall clock."""

TickListener = Callable[[str, bytes], None]
"""Called with a `tick:` channel and the JSON object to send to it now."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody with a valid token, in one room. An admin's `room` is the room addressed."""

    room: str
    identity: str
    role: Role
    name: str = ""


@dataclass(frozen=True, slots=True)
class RoomInfo:
    """What is known of a room for ever. `is_open`: anybody may fetch a guest token."""

    room: RoomId
    title: str
    is_open: bool
    created_at: int


class RoomService:
    """Every room of this server. Use from one event loop only.

    `engine` is started and closed by its owner, before `start` and after `close`.
    """

    def __init__(self, engine: Engine, *, clock: Clock, on_tick: TickListener) -> None:
        self._engine = engine
        self._clock = clock
        self._on_tick = on_tick
        self._handlers: dict[str, Callable[[Caller, bytes], Awaitable[bytes]]] = {
            "clock.now": self._clock_now,
        }

    async def start(self) -> None:
        """Read what the ledger holds, hammer what fell due, start the timers."""

    async def close(self) -> None:
        """Stop the timers; what was accepted is finished first."""

    async def rpc(self, caller: Caller, method: str, params: bytes) -> bytes:
        """Answer one call with a JSON object.

        `params` is JSON, empty for none. Raises Refused for anything turned down;
        an unknown method is Refused with UNKNOWN_METHOD.
        """
        handler = self._handlers.get(method)
        if handler is None:
            raise Refused(Reason.UNKNOWN_METHOD, f"no method {method!r}")
        return await handler(caller, params)

    async def _clock_now(self, caller: Caller, params: bytes) -> bytes:
        return msgspec.json.encode({"now": self._clock()})
