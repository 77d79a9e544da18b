"""Replays the ledger independently of the server and says of each lot whether it holds.

Reads the SQLite file alone, in one snapshot, beside a running server or without one.
Three views must agree: the records and their hash chain, the rules decided anew from
each record's inputs, and what was published to phones. `docs/ledger-and-rules.md` lists
the checks in prose.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from interact.auction import BrokenLedger, Lot
from interact.engine import Publication, Record
from interact.increments import increment_problem
from interact.ledger_checks import broken_invariants
from interact.ledger_file import (
    FILE_NAME,
    GENESIS,
    DataDirectoryError,
    chain_hash,
    open_for_reading,
    read_publications,
    read_records,
    read_streams,
)
from interact.lot_events import (
    BidTaken,
    LotCancelled,
    LotCreated,
    LotEvent,
    LotHammered,
    LotOpened,
    decode_event,
    kind_of,
)
from interact.lot_messages import publications
from interact.protocol import room_channel

MAX_PROBLEMS: Final = 10
"""Listed per lot; one wrong byte can put every later record in the wrong."""

WHOLE_ROOM: Final = "*"
"""Stands for the lot in a report about the room's own stream and channels."""


@dataclass(frozen=True, slots=True)
class LotReport:
    """What was found of one lot; `problems` empty means that everything holds."""

    room: str
    lot: str
    summary: str
    problems: tuple[str, ...]

    @property
    def is_ok(self) -> bool:
        """Whether every check held."""
        return not self.problems

    def line(self) -> str:
        """The report as one line for a person."""
        name = f"{self.room}/{self.lot}"
        if self.is_ok:
            return f"ok    {name}  {self.summary}"
        return f"FAIL  {name}  {self.summary}: {'; '.join(self.problems)}"


class _LotNamed(msgspec.Struct):
    lot: str = ""


_lot_named = msgspec.json.Decoder(_LotNamed)


def verify(path: Path, room: str | None = None) -> list[LotReport]:
    """Check every lot, or those of one room, in order of creation.

    `path` is the ledger file or the data directory that holds it. Raises
    DataDirectoryError where there is nothing that can be read.
    """
    if path.is_dir():
        path = path / FILE_NAME
    with closing(open_for_reading(path)) as db:
        try:
            db.execute("BEGIN")
            return list(_reports(db, room))
        except sqlite3.Error as error:
            raise DataDirectoryError(f"{path} is damaged: {error}") from None


def run_verify(path: Path, room: str | None, write: Callable[[str], object]) -> int:
    """`livehouse verify`: one line a lot through `write`, then the exit code.

    0 if all hold, 1 if something does not, 2 where there is nothing to read.
    """
    try:
        reports = verify(path, room)
    except DataDirectoryError as error:
        write(f"livehouse verify: {error}")
        return 2
    for report in reports:
        write(report.line())
    failed = sum(not report.is_ok for report in reports)
    if failed:
        write(f"{failed} of {len(reports)} do not hold")
    return 1 if failed else 0


def _reports(db: sqlite3.Connection, only_room: str | None) -> Iterable[LotReport]:
    prefix = "" if only_room is None else f"{only_room}:"
    channels = _Channels(db)
    rooms: dict[str, set[str]] = {}
    for stream in read_streams(db, f"lot:{prefix}"):
        _, room, lot = stream.split(":", 2)
        rooms.setdefault(room, set()).add(lot)
        yield _check_lot(db, channels, stream, room, lot)
    for stream in read_streams(db, "room:"):
        room = stream.removeprefix("room:")
        if only_room is None or room == only_room:
            rooms.setdefault(room, set())
    for room, lots in rooms.items():
        problems = list(_chain_problems(read_records(db, f"room:{room}")))
        problems += channels.gaps(room_channel(room))
        problems += [
            f"published but not in the ledger: {lot}"
            for lot in channels.lots(room_channel(room))
            if lot and lot not in lots
        ]
        if problems:
            yield LotReport(room, WHOLE_ROOM, "the room", tuple(problems[:MAX_PROBLEMS]))


def _check_lot(
    db: sqlite3.Connection, channels: _Channels, stream: str, room: str, name: str
) -> LotReport:
    records = read_records(db, stream)
    problems = list(_chain_problems(records))
    events: list[LotEvent] = []
    lot: Lot | None = None
    expected: dict[str, list[bytes]] = defaultdict(list)
    for record in records:
        where = f"record {record.version}"
        try:
            event = decode_event(record.data)
        except msgspec.DecodeError as error:
            problems.append(f"{where} is unreadable: {error}")
            break
        if record.kind != kind_of(event) or record.at_ms != event.at:
            problems.append(f"{where} contradicts its own label")
        try:
            if lot is None:
                problems += [f"{where}: {problem}" for problem in _origin(event, room, name)]
                lot = Lot.fold([event])
            else:
                problems += [f"{where}: {problem}" for problem in _redecide(lot, event)]
                lot.apply(event)
        except BrokenLedger as error:
            problems.append(f"{where}: {error}")
            break
        events.append(event)
        for outgoing in publications(room, name, lot.spec, event):
            expected[outgoing.channel].append(outgoing.data)
    problems += broken_invariants(events)
    for channel, messages in expected.items():
        problems += channels.differences(channel, name, messages)
    return LotReport(room, name, _summary(lot, len(records)), tuple(problems[:MAX_PROBLEMS]))


def _summary(lot: Lot | None, records: int) -> str:
    if lot is None:
        return f"{records} records"
    words = [str(lot.state)]
    if lot.price is not None:
        words.append(f"{lot.price} {lot.spec.currency}")
    if lot.winner is not None:
        words.append(f"to {lot.winner}")
    return f"{' '.join(words)}, {lot.seq} prices, {records} records"


def _chain_problems(records: Sequence[Record]) -> Iterable[str]:
    """Versions count from 1 without a gap, and each hash covers the one before."""
    previous = GENESIS
    for expected, record in enumerate(records, 1):
        if record.version != expected:
            yield f"record {expected} is missing"
            return
        previous = chain_hash(
            previous, record.stream, record.version, record.kind, record.at_ms, record.data
        )
        if previous != record.hash:
            yield f"record {expected} was changed: its hash does not fit"
            return


def _origin(event: LotEvent, room: str, name: str) -> Iterable[str]:
    """What must be true of a lot's first event."""
    if not isinstance(event, LotCreated):
        return
    spec = event.spec
    if (event.room, event.lot) != (room, name):
        yield f"created as {event.room}/{event.lot}"
    problem = increment_problem(spec.increment, spec.start_price)
    if problem is not None:
        yield problem
    if spec.reserve is not None and spec.reserve < spec.start_price:
        yield "reserve below start_price"
    if spec.buy_now is not None and spec.buy_now <= spec.start_price:
        yield "buy_now not above start_price"


def _redecide(lot: Lot, event: LotEvent) -> Iterable[str]:
    """Decide again from the event's inputs, and name every field that comes out different."""
    match event:
        case LotCreated():
            return
        case LotOpened():
            decided: object = lot.start(event.at, event.by)
        case BidTaken():
            earlier = lot.earlier(event.identity, event.key, event.kind, event.amount)
            if earlier is not None:
                yield f"key {event.key!r} of {event.identity} was used before"
            decided = lot.bid(
                event.at, event.identity, event.name, event.kind, event.amount, event.key
            )
        case LotHammered():
            decided = lot.handle_timer(event.at)
        case LotCancelled():
            decided = lot.cancel(event.at, event.by, event.reason)
    if decided == event:
        return
    if type(decided) is not type(event):
        yield f"the rules give {decided!r}, recorded is {kind_of(event)}"
        return
    for field in event.__struct_fields__:
        recorded, ruled = getattr(event, field), getattr(decided, field)
        if recorded != ruled:
            yield f"{field} is {recorded!r}, the rules give {ruled!r}"


class _Channels:
    """Kept publications, read once per channel and sorted by lot."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._read: dict[str, tuple[list[Publication], dict[str, list[bytes]]]] = {}

    def _channel(self, channel: str) -> tuple[list[Publication], dict[str, list[bytes]]]:
        known = self._read.get(channel)
        if known is None:
            kept = read_publications(self._db, channel, 0, -1)
            by_lot: dict[str, list[bytes]] = defaultdict(list)
            for publication in kept:
                by_lot[_lot_of(publication.data)].append(publication.data)
            known = self._read[channel] = (kept, dict(by_lot))
        return known

    def lots(self, channel: str) -> Iterable[str]:
        """Names of the lots that the channel speaks of; empty for other events."""
        return self._channel(channel)[1]

    def gaps(self, channel: str) -> Iterable[str]:
        """Offsets that are missing between the oldest kept and the newest."""
        kept, _ = self._channel(channel)
        for before, after in pairwise(kept):
            if after.offset != before.offset + 1:
                yield f"{channel}: nothing at offset {before.offset + 1}"

    def differences(self, channel: str, lot: str, expected: list[bytes]) -> Iterable[str]:
        """Where the kept publications of a lot are not the newest of those it caused."""
        kept, by_lot = self._channel(channel)
        published = by_lot.get(lot, [])
        is_trimmed = bool(kept) and kept[0].offset > 1
        if is_trimmed:
            expected = expected[len(expected) - len(published) :] if published else []
        if len(published) != len(expected):
            yield f"{channel} has {len(published)} of its messages, should be {len(expected)}"
        for one, other in zip(published, expected, strict=False):
            if one != other:
                was, should = one.decode(errors="replace"), other.decode(errors="replace")
                yield f"{channel} carries {was}, should be {should}"
                return


def _lot_of(data: bytes) -> str:
    try:
        return _lot_named.decode(data).lot
    except msgspec.DecodeError:
        return ""
