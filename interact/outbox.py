"""What leaves one connection, in two bounded lanes.

Events and replies must all arrive: they go into the socket's write buffer, and a client
that lets more than `limit_bytes` pile up is cut off (it comes back and recovers what it
missed from history). Ticks are latest-wins: a congested connection is sent none, and
the newest once its buffer has drained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

LIMIT_BYTES: Final = 1_048_576
"""Unsent bytes that end a connection: some 5,000 bids, minutes of a busy auction. Above the
largest recovery reply, so that recovering never looks like being slow."""


class Socket(Protocol):
    """The socket under a connection, as the bus sees it."""

    def writer(self) -> Callable[[bytes], None]:
        """The function that takes a ready frame; fetched once, called for every frame."""
        ...

    def unsent_bytes(self) -> int: ...

    def close(self, code: int, reason: str) -> None:
        """Send a close frame; nothing is written afterwards."""
        ...

    def abort(self) -> None:
        """Cut, closing handshake or not."""
        ...


class Outbox:
    """One connection's way out. `write` takes ready frames and never blocks."""

    __slots__ = ("_limit_bytes", "_skipped", "_socket", "is_congested", "write")

    def __init__(self, socket: Socket, limit_bytes: int = LIMIT_BYTES) -> None:
        self.write = socket.writer()
        self.is_congested = False  # written by the shell: pause_writing, resume_writing
        self._socket = socket
        self._limit_bytes = limit_bytes
        self._skipped: set[str] | None = None

    def is_overflowing(self) -> bool:
        """Whether too much waits to be sent; asked only while congested."""
        return self.is_congested and self._socket.unsent_bytes() > self._limit_bytes

    def skip_tick(self, channel: str) -> None:
        """A tick was not sent; remember that the client lacks the newest."""
        if self._skipped is None:
            self._skipped = set()
        self._skipped.add(channel)

    def drained(self) -> set[str]:
        """The buffer is empty enough again: the channels whose newest tick is now due."""
        self.is_congested = False
        skipped, self._skipped = self._skipped, None
        return skipped or set()
