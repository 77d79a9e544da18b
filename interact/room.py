"""One room in memory: its own log, its lots by name, what is going on, its time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from interact.protocol import Role, RoomId
from interact.room_board import RoomBoard
from interact.room_log import RoomLog

Clock = Callable[[], int]
"""Unix milliseconds by the server's wall clock."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody with a valid token, in one room. An admin's `room` is the room addressed."""

    room: str
    identity: str
    role: Role
    name: str = ""

    @property
    def shown_name(self) -> str:
        """What others read: the name, or the identity of somebody without one."""
        return self.name or self.identity


class Room:
    """State has one owner: RoomService and its calls, on the event loop."""

    def __init__(self, name: RoomId, log: RoomLog, clock: Clock) -> None:
        self.name = name
        self.log = log
        self.board = RoomBoard()
        self.lots: dict[str, None] = {}  # names, oldest first
        self._clock = clock
        self._last_at = 0

    def now(self) -> int:
        """The room's time, Unix ms: the wall clock's, but never before what was seen."""
        self._last_at = max(self._last_at, self._clock())
        return self._last_at

    def has_seen(self, at: int) -> None:
        """Something of this room happened at `at`; time goes on from there."""
        self._last_at = max(self._last_at, at)
