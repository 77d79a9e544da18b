"""Lots in memory over the ledger: decide now, answer when it is on disk.

A decision is made on the state that includes everything decided before it, durable or
not, so bids do not wait for each other's disk writes. If an append fails, everything
decided after it fails too; the lot is then forgotten and read anew from the ledger.

Open lots stay in memory. Others are read when asked for, and the longest unused are let go.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from interact.auction import BrokenLedger, Lot, Refusal
from interact.engine import Conflict, Engine, EngineUnavailable, NewRecord
from interact.lot_events import BidKind, LotEvent, decode_event, encode_event, kind_of
from interact.lot_messages import publications
from interact.protocol import Reason, Refused

log = logging.getLogger(__name__)

MAX_IDLE: Final = 512
"""Lots in memory that are not open; 50 lots of ten rooms whose pages are being opened."""

MAX_IN_FLIGHT: Final = 1_000
"""Decisions of one lot waiting for the disk; more are refused as busy, so that nobody waits
longer than a fifth of a second at the rate a lot can take."""

MAX_REFUSALS: Final = 2_000
"""Remembered refusals of one lot, so that a repeated key hears the same word."""


def lot_stream(room: str, lot: str) -> str:
    """The stream that a lot's facts are stored in. Neither name can hold a colon."""
    return f"lot:{room}:{lot}"


def busy() -> Refused:
    """What a caller hears whose decision did not reach the disk."""
    return Refused(Reason.BUSY, "the ledger is busy, try again", retry_after_ms=250)


class LotFile:
    """One lot in memory and what is under way for it. Changed by LotDesk only."""

    __slots__ = ("_snapshot", "in_flight", "is_lost", "lot", "newest", "refusals", "stream")

    def __init__(self, stream: str, lot: Lot) -> None:
        self.stream = stream
        self.lot = lot
        self.in_flight = 0
        self.newest: asyncio.Future[int] | None = None  # the last append under way
        self.is_lost = False  # an append failed: what `lot` says never came to be
        self.refusals: OrderedDict[tuple[str, str], tuple[BidKind, int, Refusal]] = OrderedDict()
        self._snapshot: tuple[int, msgspec.Raw] | None = None

    def snapshot(self, identity: str) -> msgspec.Raw:
        """The lot as this person sees it, encoded; shared between all without a maximum."""
        if self.lot.hidden_max(identity) is not None:
            return msgspec.Raw(msgspec.json.encode(self.lot.snapshot(identity)))
        if self._snapshot is None or self._snapshot[0] != self.lot.version:
            encoded = msgspec.Raw(msgspec.json.encode(self.lot.snapshot()))
            self._snapshot = (self.lot.version, encoded)
        return self._snapshot[1]

    def remember_refusal(
        self, identity: str, key: str, kind: BidKind, amount: int, refusal: Refusal
    ) -> None:
        """So that the same key and body hear it again."""
        self.refusals[identity, key] = (kind, amount, refusal)
        if len(self.refusals) > MAX_REFUSALS:
            self.refusals.popitem(last=False)

    async def settled(self) -> None:
        """Wait until everything decided so far is on disk. Refused with BUSY if it is not."""
        if self.newest is not None:
            await durable(self.newest)
        if self.is_lost:
            raise busy()


async def durable(append: asyncio.Future[int]) -> None:
    """Wait for one append. Refused with BUSY where nothing was written."""
    try:
        # A caller that goes away must not cancel what others wait for.
        await asyncio.shield(append)
    except (Conflict, EngineUnavailable):
        raise busy() from None


class LotDesk:
    """Finds lots and commits their events. Use from one event loop only.

    `on_lost` hears of a lot that must be read anew, `on_over` of one that has durably
    reached its end.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        on_lost: Callable[[Lot], None],
        on_over: Callable[[Lot], None],
    ) -> None:
        self._engine = engine
        self._on_lost = on_lost
        self._on_over = on_over
        self._active: dict[str, LotFile] = {}  # open, or with something under way
        self._idle: OrderedDict[str, LotFile] = OrderedDict()
        self._loading: dict[str, asyncio.Task[LotFile]] = {}
        self.lost = 0  # for /metrics

    def stats(self) -> dict[str, int]:
        """Counters for `/metrics`."""
        return {
            "lots_active": len(self._active),
            "lots_idle": len(self._idle),
            "lots_lost": self.lost,
        }

    async def find(self, stream: str) -> LotFile:
        """The lot, read from the ledger if need be; it must have been created.

        Refused with BUSY where the ledger cannot be read now, UNAVAILABLE where it is
        damaged.
        """
        file = self._active.get(stream)
        if file is not None:
            return file
        file = self._idle.get(stream)
        if file is not None:
            self._idle.move_to_end(stream)
            return file
        task = self._loading.get(stream)
        if task is None:
            task = self._loading[stream] = asyncio.create_task(self._load(stream))
            task.add_done_callback(lambda _: self._loading.pop(stream, None))
        file = await asyncio.shield(task)
        if file.is_lost:
            raise busy()
        return file

    async def _load(self, stream: str) -> LotFile:
        try:
            records = await self._engine.read(stream)
        except EngineUnavailable:
            raise busy() from None
        try:
            lot = Lot.fold(decode_event(record.data) for record in records)
        except (BrokenLedger, msgspec.DecodeError) as error:
            log.error("lot unreadable stream=%s error=%s", stream, error)
            raise Refused(Reason.UNAVAILABLE, "this lot's record is damaged") from None
        file = LotFile(stream, lot)
        self._place(file)
        return file

    def add(self, lot: Lot) -> LotFile:
        """Take in a new lot whose creation is on disk."""
        file = LotFile(lot_stream(lot.room, lot.id), lot)
        self._place(file)
        return file

    def commit(self, file: LotFile, event: LotEvent) -> asyncio.Future[int]:
        """Fold an event just decided and send it to the disk; wait for it with `durable`.

        Refused with BUSY where too much is under way already; then nothing happened.
        """
        if file.is_lost or file.in_flight >= MAX_IN_FLIGHT:
            raise busy()
        lot = file.lot
        record = NewRecord(kind_of(event), event.at, encode_event(event))
        append = asyncio.ensure_future(
            self._engine.append(
                file.stream,
                lot.version,
                (record,),
                publications(lot.room, lot.id, lot.spec, event),
            )
        )
        lot.apply(event)
        file.newest = append
        file.in_flight += 1
        if file.stream not in self._active:
            self._place(file)
        append.add_done_callback(lambda done: self._done(file, done))
        return append

    def _done(self, file: LotFile, append: asyncio.Future[int]) -> None:
        file.in_flight -= 1
        if append.cancelled() or append.exception() is not None:
            if not file.is_lost:
                file.is_lost = True
                self.lost += 1
                self._active.pop(file.stream, None)
                self._idle.pop(file.stream, None)
                log.warning("lot lost stream=%s version=%d", file.stream, file.lot.version)
                self._on_lost(file.lot)
            return
        if file.newest is append:
            file.newest = None
            if not file.is_lost:
                self._place(file)
                if file.lot.is_over:
                    self._on_over(file.lot)

    def _place(self, file: LotFile) -> None:
        """Put a lot where it belongs: with the active ones, or where it may be let go."""
        if file.newest is not None or file.lot.next_deadline() is not None:
            self._idle.pop(file.stream, None)
            self._active[file.stream] = file
            return
        self._active.pop(file.stream, None)
        self._idle[file.stream] = file
        self._idle.move_to_end(file.stream)
        if len(self._idle) > MAX_IDLE:
            self._idle.popitem(last=False)
