"""What the ledger keeps of a room itself: that it exists, its title, which lots are over.

`room.lot_closed` is an index, not a fact: it is written after a lot's own stream says so,
and lets a restart skip that stream. Lost, it costs one read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from interact.engine import Conflict, Engine, EngineUnavailable, NewRecord, Record
from interact.protocol import Reason, Refused, RoomId

_TRIES: Final = 5
"""Appends of one event; each failure means that another worker's event was stored."""


@dataclass(frozen=True, slots=True)
class RoomInfo:
    """What is known of a room for ever. `is_open`: anybody may fetch a guest token."""

    room: RoomId
    title: str
    is_open: bool
    created_at: int


class RoomCreated(msgspec.Struct, frozen=True, tag="room.created"):
    """The room exists from now on."""

    at: int
    by: str
    title: str
    open: bool


class RoomConfigured(msgspec.Struct, frozen=True, tag="room.configured"):
    """Its options are these from now on."""

    at: int
    by: str
    title: str
    open: bool


class LotClosed(msgspec.Struct, frozen=True, tag="room.lot_closed"):
    """A lot of this room can change no more."""

    at: int
    lot: str


RoomEvent = RoomCreated | RoomConfigured | LotClosed

_decoder: msgspec.json.Decoder[RoomEvent] = msgspec.json.Decoder(RoomEvent)


def room_stream(room: str) -> str:
    """The stream that a room's own events are stored in."""
    return f"room:{room}"


class RoomLog:
    """One room's stream. Appends are rare and go one after the other."""

    def __init__(self, engine: Engine, room: RoomId) -> None:
        self.room = room
        self.info: RoomInfo | None = None
        self.closed: set[str] = set()
        self.last_at = 0  # Unix ms of the newest event
        self._engine = engine
        self._stream = room_stream(room)
        self._version = 0
        self._lock = asyncio.Lock()

    async def load(self) -> None:
        """Read what the ledger has beyond what is known here."""
        self.hear(await self._engine.read(self._stream, self._version))

    def hear(self, records: Sequence[Record]) -> None:
        """Take in stored records, of whatever worker, that are news."""
        for record in records:
            if record.version == self._version + 1:
                self._apply(_decoder.decode(record.data))

    async def create(self, event: RoomCreated) -> None:
        """Make the room exist; another call that was faster is as good."""
        async with self._lock:
            for _ in range(_TRIES):
                if self.info is not None or await self._append(event):
                    return
        raise Refused(Reason.BUSY, "the ledger is busy, try again")

    async def append(self, event: RoomEvent) -> None:
        """Store one event. Refused with BUSY where nothing could be written."""
        async with self._lock:
            for _ in range(_TRIES):
                if await self._append(event):
                    return
        raise Refused(Reason.BUSY, "the ledger is busy, try again")

    async def _append(self, event: RoomEvent) -> bool:
        """False where another worker's event came first; it is known then."""
        record = NewRecord(str(event.__struct_config__.tag), event.at, msgspec.json.encode(event))
        try:
            version = await self._engine.append(self._stream, self._version, [record])
        except Conflict:
            await self._reload()
            return False
        except EngineUnavailable as error:
            await self._reload()
            raise Refused(Reason.BUSY, "the ledger is busy, try again") from error
        if self._version < version:  # else it was heard before it was answered
            self._apply(event)
        return True

    async def _reload(self) -> None:
        try:
            await self.load()
        except EngineUnavailable:
            return  # the version stays; the next append conflicts and reads again

    def _apply(self, event: RoomEvent) -> None:
        self._version += 1
        self.last_at = max(self.last_at, event.at)
        if isinstance(event, LotClosed):
            self.closed.add(event.lot)
            return
        created_at = event.at if self.info is None else self.info.created_at
        self.info = RoomInfo(self.room, event.title, event.open, created_at)
