"""Lots in memory over the ledger: decide now, answer when it is on disk.

A decision is made on the state that includes everything decided before it, durable or
not, so bids do not wait for each other's disk writes. If an append fails, everything
decided after it fails too; the lot is then forgotten and read anew from the ledger.

Where several workers decide, each lot is kept twice: as the ledger has it, fed by what the
engine hears of every worker, and as this worker's own decisions would make it. A decision
that lost the race is thrown away, and the next one starts from what the ledger has.

Open lots stay in memory. Others are read when asked for, and the longest unused are let go.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from interact.auction import BrokenLedger, Lot, Refusal
from interact.engine import Conflict, Engine, EngineUnavailable, NewRecord, Record
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


class Overtaken(Exception):
    """What was decided stood on something that never came to be: look, and decide again."""


class LotFile:
    """One lot in memory and what is under way for it. Changed by LotDesk only."""

    __slots__ = (
        "_snapshot",
        "base",
        "in_flight",
        "is_lost",
        "is_stale",
        "lot",
        "newest",
        "race",
        "refusals",
        "stream",
    )

    def __init__(self, stream: str, lot: Lot, base: Lot | None = None) -> None:
        self.stream = stream
        self.lot = lot
        self.base = base  # as the ledger has it; only where several workers decide
        self.race = 0  # lost so far
        self.is_stale = False  # the engine may have missed something: read anew
        self.in_flight = 0
        self.newest: asyncio.Future[int] | None = None  # the last append under way
        self.is_lost = False  # an append failed: what `lot` says never came to be
        self.refusals: OrderedDict[tuple[str, str], tuple[BidKind, int, Refusal]] = OrderedDict()
        self._snapshot: tuple[int, msgspec.Raw] | None = None

    def snapshot(self, identity: str) -> msgspec.Raw:
        """The lot as this person sees it, encoded; shared between all without a maximum.

        Where several workers decide this is what the ledger has; else wait for `shown`.
        """
        lot = self.base or self.lot
        if lot.hidden_max(identity) is not None:
            return msgspec.Raw(msgspec.json.encode(lot.snapshot(identity)))
        if self._snapshot is None or self._snapshot[0] != lot.version:
            encoded = msgspec.Raw(msgspec.json.encode(lot.snapshot()))
            self._snapshot = (lot.version, encoded)
        return self._snapshot[1]

    async def shown(self) -> None:
        """Wait until what `snapshot` said is on disk; raises as `settled`."""
        if self.base is None:
            await self.settled()

    def remember_refusal(
        self, identity: str, key: str, kind: BidKind, amount: int, refusal: Refusal
    ) -> None:
        """So that the same key and body hear it again."""
        self.refusals[identity, key] = (kind, amount, refusal)
        if len(self.refusals) > MAX_REFUSALS:
            self.refusals.popitem(last=False)

    async def settled(self) -> None:
        """Wait until everything decided so far is on disk.

        Raises Overtaken where something of it is not, Refused with BUSY where nothing can be.
        """
        if self.newest is not None:
            await durable(self.newest)
        if self.is_lost:
            raise Overtaken


async def durable(append: asyncio.Future[int]) -> None:
    """Wait for one append. Raises Overtaken, or Refused with BUSY where nothing can be written."""
    try:
        # A caller that goes away must not cancel what others wait for.
        await asyncio.shield(append)
    except Conflict:
        raise Overtaken from None
    except EngineUnavailable:
        raise busy() from None


def _has_failed(append: asyncio.Future[int]) -> bool:
    return append.done() and (append.cancelled() or append.exception() is not None)


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
        is_shared: bool = False,
    ) -> None:
        self._engine = engine
        self._is_shared = is_shared
        self._early: dict[str, list[Record]] = {}  # heard while the lot was being read
        self._on_lost = on_lost
        self._on_over = on_over
        self._active: dict[str, LotFile] = {}  # open, or with something under way
        self._idle: OrderedDict[str, LotFile] = OrderedDict()
        self._loading: dict[str, asyncio.Task[LotFile]] = {}
        self.lost = 0  # for /metrics
        self.races_lost = 0

    def stats(self) -> dict[str, int]:
        """Counters for `/metrics`."""
        return {
            "lots_active": len(self._active),
            "lots_idle": len(self._idle),
            "lots_lost": self.lost,
            "races_lost": self.races_lost,
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
            raise Overtaken
        return file

    async def _load(self, stream: str) -> LotFile:
        if self._is_shared:
            self._early[stream] = []
        try:
            records = await self._engine.read(stream)
        except EngineUnavailable:
            raise busy() from None
        finally:
            early = self._early.pop(stream, [])
        try:
            newer = [r for r in early if not records or r.version > records[-1].version]
            lot = Lot.fold(decode_event(record.data) for record in [*records, *newer])
        except (BrokenLedger, msgspec.DecodeError) as error:
            log.error("lot unreadable stream=%s error=%s", stream, error)
            raise Refused(Reason.UNAVAILABLE, "this lot's record is damaged") from None
        file = LotFile(stream, lot, lot.fork() if self._is_shared else None)
        self._place(file)
        return file

    def add(self, lot: Lot) -> None:
        """Take in a new lot whose creation is on disk."""
        if not self._is_shared:  # else others may have changed it by now
            self._place(LotFile(lot_stream(lot.room, lot.id), lot))

    def hear(self, records: Sequence[Record]) -> None:
        """Take in what a worker, this one or another, has stored of a lot."""
        stream = records[0].stream
        if stream in self._early:
            self._early[stream] += records
        file = self._active.get(stream) or self._idle.get(stream)
        if file is None or file.base is None:
            return
        for record in records:
            if record.version <= file.base.version:
                continue
            try:
                if record.version != file.base.version + 1:
                    raise BrokenLedger("something was missed")
                event = decode_event(record.data)
                file.base.apply(event)
                # Own decisions are in `lot` already; on top of some, others' come later.
                if not file.in_flight and file.lot.version < file.base.version:
                    file.lot.apply(event)
            except (BrokenLedger, msgspec.DecodeError) as error:
                log.warning("lot to be read anew stream=%s error=%s", stream, error)
                self._retire(file)
                return
        if not file.in_flight:
            self._place(file)

    def retire(self, room: str | None) -> None:
        """Something of this room, or of all, may have been missed: read its lots anew."""
        prefix = "" if room is None else lot_stream(room, "")
        for file in [*self._active.values(), *self._idle.values()]:
            if file.stream.startswith(prefix):
                self._retire(file)

    def _retire(self, file: LotFile) -> None:
        file.is_stale = True
        if not file.in_flight:
            self._active.pop(file.stream, None)
            self._idle.pop(file.stream, None)

    def commit(self, file: LotFile, event: LotEvent) -> asyncio.Future[int]:
        """Fold an event just decided and send it to the disk; wait for it with `durable`.

        Refused with BUSY where too much is under way already, Overtaken where the lot is no
        longer what was decided on; then nothing happened.
        """
        if file.in_flight >= MAX_IN_FLIGHT:
            raise busy()
        if file.is_lost or (file.newest is not None and _has_failed(file.newest)):
            raise Overtaken
        lot, race = file.lot, file.race
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
        append.add_done_callback(lambda done: self._done(file, done, race))
        return append

    def _done(self, file: LotFile, append: asyncio.Future[int], race: int) -> None:
        if race != file.race:
            return  # this decision was thrown away with the one before it
        file.in_flight -= 1
        if _has_failed(append):
            if file.base is not None and not file.is_stale and self._start_again(file):
                return
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
            if file.is_stale:
                self._retire(file)
                self._on_lost(file.lot)
            elif not file.is_lost:
                if file.base is not None and file.base.version > file.lot.version:
                    file.lot = file.base.fork()
                self._place(file)
                if file.lot.is_over:
                    self._on_over(file.lot)

    def _start_again(self, file: LotFile) -> bool:
        """Go back to what the ledger has, where another worker's news explains the failure."""
        assert file.base is not None
        if file.base.version <= file.lot.version - file.in_flight - 1:
            return False
        file.lot = file.base.fork()
        file.race += 1
        file.in_flight = 0
        file.newest = None
        self.races_lost += 1
        self._place(file)
        return True

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
