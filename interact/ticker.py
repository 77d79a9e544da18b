"""When to send a room's counters: soon after a change, at most ten times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

MIN_INTERVAL_S: Final = 0.1
HEARTBEAT_S: Final = 5.0
"""A counter that nobody touches is still sent this often, so a lost tick heals."""

AWAKE_S: Final = 60.0
"""A room without viewers gets heartbeats this long after its last sign of life."""


class Ticker:
    """Calls `send(room)` on the loop. All rooms share one timer."""

    def __init__(self, send: Callable[[str], None], has_viewers: Callable[[str], bool]) -> None:
        self._send = send
        self._has_viewers = has_viewers
        self._changed: set[str] = set()
        self._awake_until: dict[str, float] = {}
        self._last_flush = 0.0
        self._flush_timer: asyncio.TimerHandle | None = None
        self._heartbeat_timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to send."""
        self._loop = asyncio.get_running_loop()
        self._last_flush = self._loop.time() - MIN_INTERVAL_S
        self._heartbeat_timer = self._loop.call_later(HEARTBEAT_S, self._heartbeat)

    def stop(self) -> None:
        """Send nothing more."""
        self._loop = None
        for timer in (self._flush_timer, self._heartbeat_timer):
            if timer is not None:
                timer.cancel()

    def wake(self, room: str) -> None:
        """A sign of life: keep the room's heartbeat going."""
        if self._loop is not None:
            self._awake_until[room] = self._loop.time() + AWAKE_S

    def changed(self, room: str) -> None:
        """The room's counters changed: send them soon."""
        if self._loop is None:
            return
        self.wake(room)
        self._changed.add(room)
        if self._flush_timer is None:
            due = max(self._loop.time(), self._last_flush + MIN_INTERVAL_S)
            self._flush_timer = self._loop.call_at(due, self._flush)

    def _flush(self) -> None:
        self._flush_timer = None
        if self._loop is None:
            return
        self._last_flush = self._loop.time()
        rooms, self._changed = self._changed, set()
        for room in rooms:
            self._send(room)

    def _heartbeat(self) -> None:
        if self._loop is None:
            return
        now = self._loop.time()
        self._heartbeat_timer = self._loop.call_at(now + HEARTBEAT_S, self._heartbeat)
        for room, until in list(self._awake_until.items()):
            if until > now or self._has_viewers(room):
                self._send(room)
            else:
                del self._awake_until[room]
