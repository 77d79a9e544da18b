"""The port under rooms and the bus: an append-only ledger and recoverable channels.

Two kinds of thing are stored. A *stream* is an ordered list of records; it is what
the rules replay, and its hash chain is what `livehouse verify` checks. A *channel*
is what phones see; each publication has a gap-free offset within the channel's epoch.
One append writes both at once, so nothing is ever published that is not durable and
nothing durable stays unpublished. Private facts (a hidden maximum) live in records only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A fact to append. `data` is JSON and opaque to the engine."""

    kind: str
    at_ms: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """A stored fact; `version` counts from 1 within its stream, `hash` covers the one before."""

    stream: str
    version: int
    kind: str
    at_ms: int
    data: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A publication to be: `data` is a JSON object, encoded once for everybody."""

    channel: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Publication:
    """A stored publication; `offset` counts from 1 within the channel's epoch, no gaps."""

    channel: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Position:
    """Where a channel's reader stands."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """`position` is the channel's newest; `recovered` is false when some are gone for good."""

    position: Position
    publications: tuple[Publication, ...]
    recovered: bool


class Conflict(Exception):
    """The stream is not at the expected version: re-read, decide again."""


class EngineUnavailable(Exception):
    """Nothing was written (disk full, server away): refuse with `busy`, try later."""


PublicationListener = Callable[[Publication], None]
RecordListener = Callable[[Sequence[Record]], None]


class Engine(Protocol):
    """What rooms and the bus need of storage. One conformance suite tests every engine."""

    async def start(self, listener: PublicationListener) -> None:
        """Open; `listener` is then called on the event loop for every publication, in order."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, then close."""
        ...

    def append(
        self,
        stream: str,
        expected_version: int,
        records: Sequence[NewRecord],
        publications: Sequence[Outgoing] = (),
    ) -> Awaitable[int]:
        """Append all or nothing; the awaitable gives the new version once it is on disk.

        Queued in call order: a later append to the same stream may already expect the
        version this one will make. Raises Conflict or EngineUnavailable; after either,
        every append queued behind it on that stream fails with Conflict too.
        """
        ...

    def publish(self, publications: Sequence[Outgoing]) -> Awaitable[None]:
        """Store and publish without a ledger record; durable like an append."""
        ...

    async def read(self, stream: str, after_version: int = 0) -> list[Record]:
        """The stream's durable records after `after_version`, oldest first."""
        ...

    async def streams(self, prefix: str) -> list[str]:
        """Names of the streams that start with `prefix`, in order of creation."""
        ...

    async def history(
        self, channel: str, since: Position | None, limit: int, *, reverse: bool = False
    ) -> HistoryPage:
        """Publications after `since`, oldest first (or the newest first).

        `since=None` starts from the oldest kept (or newest). `limit` 0 gives the position
        alone, a negative one no limit. Wrong epoch or a gap: `recovered` is false.
        """
        ...


class SharedEngine(Engine, Protocol):
    """An engine that several workers write to: what they need to hear of each other."""

    @property
    def worker(self) -> str:
        """This worker, one of a kind."""
        ...

    def follow(
        self,
        on_records: RecordListener,
        on_told: Callable[[str, bytes], None],
        on_resync: Callable[[str | None], None],
        on_data_lost: Callable[[], None],
    ) -> None:
        """Hear of every append, before its publications; call this before `start`.

        `on_records` gets the records of one append, of any worker, in the order of each
        stream. `on_told` gets a room and what a worker said by `tell`. `on_resync`:
        look at the streams of this room again, which is new here; of all rooms (None)
        after an outage.
        `on_data_lost`: the store forgot what was published; positions mean nothing now.
        """
        ...

    async def tell(self, room: str, data: bytes) -> None:
        """Say something to every worker, this one included; it is not stored.

        Raises EngineUnavailable.
        """
        ...

    async def add(self, room: str, deltas: Mapping[str, int]) -> dict[str, int]:
        """Add to counters of the room; gives their totals. Raises EngineUnavailable."""
        ...

    async def totals(self, room: str) -> dict[str, int]:
        """Every counter of the room. Raises EngineUnavailable."""
        ...
