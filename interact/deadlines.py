"""One timer for every deadline: a heap, and a task that sleeps until its top is due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

_LONGEST_SLEEP_S: Final = 1.0
"""While anything is armed. The wall clock may be set; a deadline is late by this at most."""


class Deadlines:
    """Calls `on_due(key)` on the loop once `clock()` (Unix ms) reaches an armed time.

    Arming a key twice calls twice; `on_due` looks whether there is something to do.
    """

    def __init__(self, clock: Callable[[], int], on_due: Callable[[str], None]) -> None:
        self._clock = clock
        self._on_due = on_due
        self._heap: list[tuple[int, str]] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to fire."""
        self._task = asyncio.create_task(self._run(), name="livehouse-deadlines")

    async def stop(self) -> None:
        """Fire nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def arm(self, at_ms: int, key: str) -> None:
        """Fire `key` at `at_ms`; at once where that is past."""
        heappush(self._heap, (at_ms, key))
        if self._heap[0][0] == at_ms:
            self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            now = self._clock()
            while self._heap and self._heap[0][0] <= now:
                self._on_due(heappop(self._heap)[1])
            sleep_s = None
            if self._heap:
                sleep_s = min(_LONGEST_SLEEP_S, max(0, self._heap[0][0] - now) / 1000)
            try:
                async with asyncio.timeout(sleep_s):
                    await self._changed.wait()
            except TimeoutError:
                continue
