"""This worker among others: says who is here, hears of the rest, keeps shared counters.

The shell of `Fleet`, over a SharedEngine. One timer: twice a second a sign of life, ten
times a second whatever has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from interact.engine import EngineUnavailable, SharedEngine
from interact.fleet import Fleet, Person, Word, decode_word, encode_word

log = logging.getLogger(__name__)

EVERYBODY: Final = "*"
"""The place, no room's name, where workers talk of themselves."""

STEP_S: Final = 0.1
ALIVE_EVERY: Final = 5
"""Steps between two signs of life."""

Totals = dict[str, int]


class Crew:
    """Runs while the worker does. Use from the event loop only.

    `on_people` is called with a room whose people elsewhere changed, `on_totals` with a room
    and all its counters, `on_herald` when this worker begins or ceases to publish notices.
    """

    def __init__(
        self,
        engine: SharedEngine,
        *,
        on_people: Callable[[str], None],
        on_totals: Callable[[str, Totals], None],
        on_herald: Callable[[bool], None],
    ) -> None:
        self._engine = engine
        self._on_people = on_people
        self._on_totals = on_totals
        self._on_herald = on_herald
        self.fleet = Fleet(engine.worker)
        self.own: dict[tuple[str, str], Person] = {}  # connections here, by room and client
        self._came: dict[tuple[str, str], Person] = {}
        self._left: dict[tuple[str, str], None] = {}
        self._deltas: dict[str, Counter[str]] = {}
        self._is_asking = True
        self._is_asked = True
        self._was_herald = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to talk."""
        self._task = asyncio.create_task(self._run(), name="livehouse-crew")

    async def stop(self) -> None:
        """Say goodbye, so that nobody has to wait for the silence."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        with contextlib.suppress(EngineUnavailable, TimeoutError):
            async with asyncio.timeout(1):
                await self._engine.tell(
                    EVERYBODY, encode_word(Word(self.fleet.worker, is_leaving=True))
                )
                await self._flush_counters()

    # -- what happens here --------------------------------------------------------------

    def came(self, person: Person) -> None:
        """A connection entered a room here."""
        key = (person.room, person.client)
        self.own[key] = self._came[key] = person
        self._left.pop(key, None)

    def left(self, room: str, client: str) -> None:
        """It left."""
        key = (room, client)
        self.own.pop(key, None)
        if self._came.pop(key, None) is None:
            self._left[key] = None

    def count(self, room: str, name: str, more: int) -> None:
        """Add to a counter that all workers share."""
        self._deltas.setdefault(room, Counter())[name] += more

    # -- what happens elsewhere ---------------------------------------------------------

    def hear(self, room: str, data: bytes) -> None:
        """SharedEngine's `on_told`."""
        if room != EVERYBODY:
            self._on_totals(room, msgspec.msgpack.decode(data, type=Totals))
            return
        word = decode_word(data)
        now = asyncio.get_running_loop().time()
        if word.is_asking and word.worker != self.fleet.worker:
            self._is_asked = True
        self._tell_people(self.fleet.hear(word, now))

    def resynced(self) -> None:
        """Words may have been missed: ask everybody for everything."""
        self.fleet.excuse(asyncio.get_running_loop().time())
        self._is_asking = self._is_asked = True

    def _tell_people(self, rooms: Iterable[str]) -> None:
        for room in rooms:
            self._on_people(room)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        step = 0
        while True:
            try:
                await self._speak(is_due=step % ALIVE_EVERY == 0)
                await self._flush_counters()
            except EngineUnavailable:
                # While nobody can be heard, nobody is silent.
                self.fleet.excuse(loop.time())
            self._tell_people(self.fleet.expire(loop.time()))
            if step > ALIVE_EVERY * 2:  # the others have had time to speak
                is_herald = self.fleet.is_herald
                if is_herald != self._was_herald:
                    self._was_herald = is_herald
                    self._on_herald(is_herald)
            step += 1
            await asyncio.sleep(STEP_S)

    @property
    def is_herald(self) -> bool:
        """Whether this worker publishes what all workers learn."""
        return self._was_herald

    async def _speak(self, *, is_due: bool) -> None:
        is_whole, is_asking = self._is_asked, self._is_asking
        if not (is_due or is_whole or self._came or self._left):
            return
        word = Word(
            self.fleet.worker,
            list((self.own if is_whole else self._came).values()),
            [] if is_whole else list(self._left),
            is_whole,
            is_asking,
        )
        came, left = self._came, self._left
        self._came, self._left = {}, {}
        self._is_asked = self._is_asking = False
        try:
            await self._engine.tell(EVERYBODY, encode_word(word))
        except EngineUnavailable:
            self._is_asked, self._is_asking = True, is_asking
            self._came, self._left = came | self._came, left | self._left
            raise

    async def _flush_counters(self) -> None:
        deltas, self._deltas = self._deltas, {}
        for room in list(deltas):
            try:
                await self._engine.add(room, deltas[room])
                del deltas[room]
                totals = await self._engine.totals(room)
                await self._engine.tell(room, msgspec.msgpack.encode(totals))
            except EngineUnavailable:
                for name, counts in deltas.items():
                    self._deltas.setdefault(name, Counter()).update(counts)
                raise
