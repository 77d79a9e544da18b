"""What a room service has to do with the other workers of its server.

Only there with a shared engine. `on_people` is for the bridge: the people of a room at
other workers changed. `on_data_lost` is for the process: the store forgot what was
acknowledged, so everything in memory is wrong and it is best to start anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Final

from interact.cheering import counter_name
from interact.crew import EVERYBODY, Crew
from interact.engine import EngineUnavailable, SharedEngine
from interact.herald import Herald

log = logging.getLogger(__name__)

RETRY_S: Final = 0.25


class Others:
    """Crew and herald of one worker, and the catching up after an outage."""

    def __init__(
        self,
        engine: SharedEngine,
        now: Callable[[str], int],
        on_totals: Callable[[str, Mapping[str, int]], None],
        catch_up: Callable[[str | None], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._catch_up = catch_up
        self.herald = Herald(engine, now)
        self.crew = Crew(
            engine,
            on_people=self._people_changed,
            on_totals=on_totals,
            on_herald=self._herald_changed,
        )
        self.on_people: Callable[[str], None] | None = None
        self.on_data_lost: Callable[[], None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to talk to the others."""
        self.crew.start()

    async def close(self) -> None:
        """Say goodbye."""
        await self.herald.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.crew.stop()

    def count(self, room: str, kind: str, team: str | None, more: int) -> None:
        """Taps to add to what all workers count together."""
        self.crew.count(room, counter_name(kind), more)
        if team is not None:
            self.crew.count(room, counter_name(kind, team), more)

    async def totals(self, room: str) -> Mapping[str, int]:
        """What all workers counted. Raises EngineUnavailable."""
        return await self._engine.totals(room)

    def resynced(self, room: str | None) -> None:
        """SharedEngine's `on_resync`."""
        if room == EVERYBODY:
            return
        if room is None:
            self.crew.resynced()
            if self.herald.is_active:
                self._spawn(self._insist(self.herald.become_active))
        self._spawn(self._insist(lambda: self._catch_up(room)))

    def data_lost(self) -> None:
        """SharedEngine's `on_data_lost`."""
        if self.on_data_lost is not None:
            self.on_data_lost()

    def _people_changed(self, room: str) -> None:
        if self.on_people is not None:
            self.on_people(room)

    def _herald_changed(self, is_herald: bool) -> None:
        if is_herald:
            self._spawn(self._insist(self.herald.become_active))
        else:
            self.herald.resign()

    async def _insist(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it, as soon as the engine lets us."""
        while True:
            try:
                await work()
            except EngineUnavailable as error:
                log.info("catching up waits error=%s", error)
                await asyncio.sleep(RETRY_S)
            else:
                return

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
