"""Channels in memory: for tests that need an engine to misbehave on purpose.

History can be held back (`hold`), fail, or be cut short, and publications can be lost;
the real engines do none of that on request.
"""

from __future__ import annotations

import asyncio

from interact.engine import (
    EngineUnavailable,
    HistoryPage,
    Position,
    Publication,
    PublicationListener,
)


class MemoryEngine:
    """What the bus uses of an engine."""

    def __init__(self, epoch: str = "e1") -> None:
        self.epoch = epoch
        self.is_failing = False
        self._channels: dict[str, list[Publication]] = {}
        self._forgotten: dict[str, int] = {}
        self._listener: PublicationListener | None = None
        self._gate = asyncio.Event()
        self._gate.set()
        self.reads = 0

    def start(self, listener: PublicationListener) -> None:
        self._listener = listener

    async def history(
        self, channel: str, since: Position | None, limit: int, *, reverse: bool = False
    ) -> HistoryPage:
        self.reads += 1
        await self._gate.wait()
        if self.is_failing:
            raise EngineUnavailable
        kept = self._channels.get(channel, [])
        newest = kept[-1].offset if kept else 0
        oldest = self._forgotten.get(channel, 0)
        recovered = since is None or (
            since.epoch == self.epoch and oldest <= since.offset <= newest
        )
        after = since.offset if since is not None else 0
        page = [p for p in kept if p.offset > after and p.offset > oldest]
        if reverse:
            page = [p for p in kept if since is None or p.offset < since.offset][::-1]
        if limit >= 0:
            page = page[:limit]
        return HistoryPage(
            Position(self.epoch, newest), tuple(page) if recovered else (), recovered
        )

    # --- misbehaviour ----------------------------------------------------------------

    def put(self, channel: str, data: bytes, *, is_heard: bool = True) -> Publication:
        """Store a publication; `is_heard=False` keeps it from the listener."""
        kept = self._channels.setdefault(channel, [])
        publication = Publication(channel, len(kept) + 1, data)
        kept.append(publication)
        if is_heard and self._listener is not None:
            self._listener(publication)
        return publication

    def forget(self, channel: str, up_to: int) -> None:
        """History up to this offset has expired."""
        self._forgotten[channel] = up_to

    def hold(self) -> None:
        """Let history reads wait until `release`."""
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()
