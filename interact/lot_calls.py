"""The calls on lots: `lot.*` and `bid.*`, and the hammer that nobody calls.

Order of checks for a bid: who may, what it says, its key, the rate limit, then the rules.
The key comes before the limit and the rules, so a client that repeats a bid after a
broken connection hears the answer it missed, whatever has happened since.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Final, TypeVar

import msgspec

from interact.auction import Lot, Receipt, Refusal
from interact.deadlines import Deadlines
from interact.engine import Conflict, Engine, EngineUnavailable, NewRecord, Record
from interact.limits import TokenBuckets
from interact.lot_desk import LotDesk, LotFile, Overtaken, busy, durable, lot_stream
from interact.lot_events import BidKind, LotCreated, LotOpened, decode_event, encode_event, kind_of
from interact.lot_messages import publications
from interact.protocol import Reason, Refused, Role
from interact.requests import (
    BidMaxParams,
    BidPlaceParams,
    LotCancelParams,
    LotCreateParams,
    LotParams,
    check_key,
    check_text,
    lot_spec,
    parse,
    reader,
)
from interact.room import Caller, Clock, Room
from interact.room_log import LotClosed

log = logging.getLogger(__name__)

BIDS_PER_S: Final = 20
BID_BURST: Final = 40
"""Of one identity in one room; contract §4."""

SHOWN_LOTS: Final = 50
"""Lots in `room.state`, newest first."""

RETRY_MS: Final = 250
"""Before a lot whose ledger could not be written or read is looked at again."""

PATIENCE_S: Final = 2.0
"""How long a decision that other workers keep overtaking is made again."""

_SNAPSHOT_TRIES: Final = 10
_OPENED: Final = "lot.opened"

BIDDERS: Final = frozenset({Role.VIEWER, Role.HOST, Role.DIRECTOR, Role.MODERATOR, Role.ADMIN})
AUCTIONEERS: Final = frozenset({Role.HOST, Role.ADMIN})

_T = TypeVar("_T")

Handler = Callable[[Caller, bytes], Awaitable[bytes]]


class BidReply(msgspec.Struct, frozen=True):
    """`bid.place` and `bid.max`."""

    seq: int
    price: int
    leader: str
    ends_at: int


class LotReply(msgspec.Struct, frozen=True):
    """`lot.create`, `lot.cancel`."""

    lot: str


class LotStarted(msgspec.Struct, frozen=True):
    """`lot.start`."""

    lot: str
    opened_at: int
    ends_at: int


_encode = msgspec.json.Encoder().encode
_read_create = reader(LotCreateParams)
_read_lot = reader(LotParams)
_read_cancel = reader(LotCancelParams)
_read_place = reader(BidPlaceParams)
_read_max = reader(BidMaxParams)


def new_lot_id() -> str:
    """Short enough to read out, random enough never to meet another."""
    return secrets.token_hex(6)


class LotCalls:
    """Every lot of every room. `rooms` is the service's; it adds, this reads."""

    def __init__(
        self,
        engine: Engine,
        rooms: dict[str, Room],
        clock: Clock,
        *,
        bids_per_s: float = BIDS_PER_S,
        bid_burst: int = BID_BURST,
        is_shared: bool = False,
    ) -> None:
        self._engine = engine
        self._rooms = rooms
        self._clock = clock
        self._limits = TokenBuckets(bids_per_s, bid_burst)
        self._desk = LotDesk(
            engine, on_lost=self._on_lost, on_over=self._on_over, is_shared=is_shared
        )
        self._deadlines = Deadlines(clock, self._on_due)
        self._tasks: set[asyncio.Task[None]] = set()
        self.handlers: dict[str, Handler] = {
            "lot.create": self._create,
            "lot.start": _again(self._start),
            "lot.cancel": _again(self._cancel),
            "lot.state": _again(self._state),
            "bid.place": self._place,
            "bid.max": self._max,
        }

    async def start(self) -> None:
        """Take up the lots that are not over; hammer those whose time passed meanwhile."""
        await self.catch_up(None)
        self._deadlines.start()

    async def catch_up(self, only_room: str | None) -> None:
        """Look at the lots of one room, or of all, again: something may have been missed."""
        self._desk.retire(only_room)
        prefix = "lot:" if only_room is None else lot_stream(only_room, "")
        for stream in await self._engine.streams(prefix):
            _, room_name, lot = stream.split(":", 2)
            room = self._rooms.get(room_name)
            if room is None:
                log.error("lot without a room stream=%s", stream)
                continue
            room.lots[lot] = None
            if lot not in room.log.closed:
                await self._take_up(room, stream)

    def hear(self, room: Room, records: Sequence[Record]) -> None:
        """Take in what any worker has stored of a lot of this room."""
        _, _, lot = records[0].stream.split(":", 2)
        room.lots.setdefault(lot, None)
        room.has_seen(records[-1].at_ms)
        self._desk.hear(records)
        for record in records:
            if record.kind == _OPENED:
                event = decode_event(record.data)
                assert isinstance(event, LotOpened)
                self._deadlines.arm(event.ends_at, record.stream)

    async def _take_up(self, room: Room, stream: str) -> None:
        try:
            file = await self._desk.find(stream)
        except (Refused, Overtaken) as refused:
            log.error("lot not taken up stream=%s reason=%s", stream, refused)
            return
        room.has_seen(file.lot.last_at)
        deadline = file.lot.next_deadline()
        if file.lot.is_over:
            self._on_over(file.lot)
        elif deadline is not None and deadline <= room.now():
            await self._hammer(stream)
        elif deadline is not None:
            self._deadlines.arm(deadline, stream)

    async def close(self) -> None:
        """Stop the timer and finish what it began."""
        await self._deadlines.stop()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def stats(self) -> dict[str, int]:
        """Counters for `/metrics`."""
        return self._desk.stats()

    # -- the host's calls -------------------------------------------------------------

    async def _create(self, caller: Caller, params: bytes) -> bytes:
        room = self._auctioneers_room(caller)
        spec = lot_spec(parse(_read_create, params))
        created = LotCreated(
            at=room.now(), room=room.name, lot=new_lot_id(), by=caller.identity, spec=spec
        )
        record = NewRecord(kind_of(created), created.at, encode_event(created))
        outgoing = publications(room.name, created.lot, spec, created)
        try:
            await self._engine.append(lot_stream(room.name, created.lot), 0, [record], outgoing)
        except (Conflict, EngineUnavailable):
            raise busy() from None
        self._desk.add(Lot(created))
        room.lots.setdefault(created.lot, None)
        return _encode(LotReply(created.lot))

    async def _start(self, caller: Caller, params: bytes) -> bytes:
        room = self._auctioneers_room(caller)
        file = await self._find(room, parse(_read_lot, params).lot)
        event = _granted(file.lot.start(room.now(), caller.identity))
        append = self._desk.commit(file, event)
        self._deadlines.arm(event.ends_at, file.stream)
        await durable(append)
        return _encode(LotStarted(file.lot.id, event.at, event.ends_at))

    async def _cancel(self, caller: Caller, params: bytes) -> bytes:
        room = self._auctioneers_room(caller)
        wish = parse(_read_cancel, params)
        reason = check_text("reason", wish.reason)
        file = await self._find(room, wish.lot)
        event = _granted(file.lot.cancel(room.now(), caller.identity, reason))
        await durable(self._desk.commit(file, event))
        return _encode(LotReply(file.lot.id))

    def _auctioneers_room(self, caller: Caller) -> Room:
        room = self._rooms.get(caller.room)
        if caller.role not in AUCTIONEERS or room is None:
            raise Refused(Reason.NOT_ALLOWED, "only the room's host runs its lots")
        return room

    async def _find(self, room: Room | None, lot: str) -> LotFile:
        if room is None or lot not in room.lots:
            raise Refused(Reason.NO_LOT, "there is no such lot in this room")
        return await self._desk.find(lot_stream(room.name, lot))

    # -- anybody's calls --------------------------------------------------------------

    async def _state(self, caller: Caller, params: bytes) -> bytes:
        wish = parse(_read_lot, params)
        room = self._rooms.get(caller.room)
        for _ in range(_SNAPSHOT_TRIES):
            file = await self._find(room, wish.lot)
            snapshot = file.snapshot(caller.identity)
            try:
                await file.shown()
            except (Refused, Overtaken):
                continue  # what it showed never came to be: look again
            return bytes(snapshot)
        raise busy()

    async def newest(self, room: Room, identity: str) -> list[msgspec.Raw]:
        """Snapshots of the room's newest lots, newest first, all of it on disk."""
        names = list(room.lots)[: -SHOWN_LOTS - 1 : -1]
        for _ in range(_SNAPSHOT_TRIES):
            files = await self._readable(lot_stream(room.name, name) for name in names)
            snapshots = [file.snapshot(identity) for file in files]
            try:
                for file in files:
                    await file.shown()
            except (Refused, Overtaken):
                continue
            return snapshots
        raise busy()

    async def _readable(self, streams: Iterable[str]) -> list[LotFile]:
        """These lots, without those whose record is damaged."""
        files: list[LotFile] = []
        for stream in streams:
            try:
                files.append(await self._desk.find(stream))
            except Refused as refused:
                if refused.reason is not Reason.UNAVAILABLE:
                    raise
        return files

    async def _place(self, caller: Caller, params: bytes) -> bytes:
        self._check_bidder(caller)
        wish = parse(_read_place, params)
        return await self._bid_again(
            caller, wish.lot, BidKind.OPEN, wish.amount, check_key(wish.key)
        )

    async def _max(self, caller: Caller, params: bytes) -> bytes:
        self._check_bidder(caller)
        wish = parse(_read_max, params)
        return await self._bid_again(caller, wish.lot, BidKind.MAX, wish.max, check_key(wish.key))

    async def _bid_again(
        self, caller: Caller, lot_id: str, kind: BidKind, amount: int, key: str
    ) -> bytes:
        """Bid until no other worker is faster; the rate limit counts it once."""
        is_charged = False

        def charge(room: Room) -> None:
            nonlocal is_charged
            who, now = (room.name, caller.identity), room.now()
            if not is_charged and not self._limits.take(who, now):
                raise Refused(
                    Reason.RATE_LIMITED,
                    "too many bids at once",
                    retry_after_ms=self._limits.retry_after_ms(who, now),
                )
            is_charged = True

        return await _until_settled(lambda: self._bid(caller, lot_id, kind, amount, key, charge))

    def _check_bidder(self, caller: Caller) -> None:
        if caller.role not in BIDDERS:
            raise Refused(Reason.NOT_ALLOWED, f"a {caller.role} token cannot bid")

    async def _bid(
        self,
        caller: Caller,
        lot_id: str,
        kind: BidKind,
        amount: int,
        key: str,
        charge: Callable[[Room], None],
    ) -> bytes:
        room = self._rooms.get(caller.room)
        if room is None or lot_id not in room.lots:
            raise Refused(Reason.NOT_OPEN, "there is no such lot in this room")
        file = await self._desk.find(lot_stream(room.name, lot_id))
        lot, identity = file.lot, caller.identity
        earlier = lot.earlier(identity, key, kind, amount)
        if isinstance(earlier, Receipt):
            await file.settled()
            return _encode(BidReply(earlier.seq, earlier.price, earlier.leader, earlier.ends_at))
        if earlier is not None:
            raise _refused(earlier)
        remembered = file.refusals.get((identity, key))
        if remembered is not None:
            if remembered[:2] != (kind, amount):
                raise Refused(Reason.BAD_KEY, "this key was used for another bid")
            raise _refused(remembered[2])
        charge(room)
        event = lot.bid(room.now(), identity, caller.shown_name, kind, amount, key)
        if isinstance(event, Refusal):
            await file.settled()
            file.remember_refusal(identity, key, kind, amount, event)
            raise _refused(event)
        await durable(self._desk.commit(file, event))
        return _encode(BidReply(event.seq, event.price, event.leader, event.ends_at))

    # -- deadlines --------------------------------------------------------------------

    def _on_due(self, stream: str) -> None:
        self._spawn(self._hammer(stream))

    async def _hammer(self, stream: str) -> None:
        """Close the lot if its time is up, else come back when it will be."""
        try:
            file = await self._desk.find(stream)
            deadline = file.lot.next_deadline()
            if deadline is None:
                return
            event = file.lot.handle_timer(self._rooms[file.lot.room].now())
            if event is None:
                self._deadlines.arm(deadline, stream)
                return
            await durable(self._desk.commit(file, event))
        except Overtaken:  # perhaps by another worker's hammer: look once more
            self._deadlines.arm(self._clock(), stream)
        except Refused as refused:
            if refused.reason is Reason.BUSY:
                self._deadlines.arm(self._clock() + RETRY_MS, stream)

    def _on_lost(self, lot: Lot) -> None:
        """An append failed. The ledger decides whether the lot is still open: look there."""
        self._deadlines.arm(self._clock() + RETRY_MS, lot_stream(lot.room, lot.id))

    def _on_over(self, lot: Lot) -> None:
        self._spawn(self._note_closed(self._rooms[lot.room], lot.id))

    async def _note_closed(self, room: Room, lot: str) -> None:
        if lot in room.log.closed:
            return
        try:
            await room.log.append(LotClosed(at=room.now(), lot=lot))
        except Refused:
            log.warning("closed lot not indexed room=%s lot=%s", room.name, lot)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _again(handler: Handler) -> Handler:
    """The handler, called until nobody was faster."""

    async def handle(caller: Caller, params: bytes) -> bytes:
        return await _until_settled(lambda: handler(caller, params))

    return handle


async def _until_settled(decide: Callable[[], Awaitable[bytes]]) -> bytes:
    """Decide again whenever another worker was faster. Refused with BUSY after `PATIENCE_S`."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + PATIENCE_S
    while True:
        try:
            return await decide()
        except Overtaken:
            if loop.time() >= give_up_at:
                raise busy() from None
            await asyncio.sleep(0)  # what failed may not have been cleared away yet


def _refused(refusal: Refusal) -> Refused:
    if refusal.minimum is None:
        return Refused(refusal.reason, refusal.message)
    return Refused(refusal.reason, refusal.message, minimum=refusal.minimum)


def _granted(outcome: _T | Refusal) -> _T:
    if isinstance(outcome, Refusal):
        raise _refused(outcome)
    return outcome
