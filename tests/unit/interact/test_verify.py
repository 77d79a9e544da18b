"""Verify must find what was tampered with, and name it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from interact.auction import Lot, Refusal
from interact.engine import NewRecord, Outgoing
from interact.engine_embedded import EmbeddedEngine
from interact.ledger_file import FILE_NAME, GENESIS, chain_hash
from interact.lot_events import BidKind, LotCreated, LotEvent, encode_event, kind_of
from interact.lot_messages import publications
from interact.room_log import RoomCreated
from interact.verify import run_verify, verify
from tests.support.lots import OPENED_AT, spec


def write_ledger(directory: Path) -> None:
    """Room `r` with two lots: one sold after four bids, one open."""

    async def write() -> None:
        engine = EmbeddedEngine(directory)
        await engine.start(lambda publication: None)
        created = RoomCreated(OPENED_AT, "host", "", True)
        data = msgspec.json.encode(created)
        await engine.append("room:r", 0, [NewRecord("room.created", OPENED_AT, data)])
        for name, is_sold in (("sold", True), ("open", False)):
            await store(engine, name, is_sold)
        live = Outgoing("room:r", b'{"type":"camera.live","camera":"left"}')
        await engine.publish([live, live])
        await engine.close()

    asyncio.run(write())


async def store(engine: EmbeddedEngine, name: str, is_sold: bool) -> None:
    created = LotCreated(OPENED_AT, "r", name, "host", spec())
    lot = Lot(created)
    version = 0

    async def put(event: LotEvent | Refusal | None) -> None:
        nonlocal version
        assert event is not None
        assert not isinstance(event, Refusal)
        record = NewRecord(kind_of(event), event.at, encode_event(event))
        outgoing = publications("r", name, lot.spec, event)
        version = await engine.append(f"lot:r:{name}", version, [record], outgoing)
        if version > 1:
            lot.apply(event)

    await put(created)
    await put(lot.start(OPENED_AT, "host"))
    for number, (who, kind, amount) in enumerate(
        [
            ("ann", BidKind.MAX, 3_000),
            ("ben", BidKind.OPEN, 2_000),
            ("ben", BidKind.MAX, 4_000),
            ("ann", BidKind.OPEN, 5_000),
        ]
    ):
        await put(lot.bid(OPENED_AT + number, who, who, kind, amount, f"k{number}"))
    if is_sold:
        await put(lot.handle_timer(OPENED_AT + 60_000))


def rehash(db: sqlite3.Connection, stream: str) -> None:
    """What a clever forger does: make the whole chain fit again."""
    [identity] = db.execute("SELECT id FROM streams WHERE name = ?", (stream,)).fetchone()
    previous = GENESIS
    rows = db.execute(
        "SELECT version, kind, at_ms, data FROM records WHERE stream = ? ORDER BY version",
        (identity,),
    ).fetchall()
    for version, kind, at_ms, data in rows:
        previous = chain_hash(previous, stream, version, kind, at_ms, data)
        db.execute(
            "UPDATE records SET hash = ? WHERE stream = ? AND version = ?",
            (previous, identity, version),
        )


def change(db: sqlite3.Connection, version: int, old: str, new: str) -> None:
    """Replace text in one record of the sold lot, and make the chain fit."""
    stream = "lot:r:sold"
    [data] = db.execute(
        "SELECT data FROM records WHERE version = ?"
        " AND stream = (SELECT id FROM streams WHERE name = ?)",
        (version, stream),
    ).fetchone()
    assert old.encode() in data
    db.execute(
        "UPDATE records SET data = ? WHERE version = ?"
        " AND stream = (SELECT id FROM streams WHERE name = ?)",
        (data.replace(old.encode(), new.encode()), version, stream),
    )
    rehash(db, stream)


def sql(statement: str) -> Callable[[sqlite3.Connection], None]:
    """A tampering that is one statement."""

    def run(db: sqlite3.Connection) -> None:
        assert db.execute(statement).rowcount > 0

    return run


def forged(version: int, old: str, new: str) -> Callable[[sqlite3.Connection], None]:
    """A tampering that also repairs the hashes."""
    return lambda db: change(db, version, old, new)


SOLD = "(SELECT id FROM streams WHERE name = 'lot:r:sold')"
ROOM = "(SELECT id FROM channels WHERE name = 'room:r')"
ANN = "(SELECT id FROM channels WHERE name = 'user:r:ann')"


def test_untouched_ledger_holds(tmp_path: Path) -> None:
    write_ledger(tmp_path)
    reports = verify(tmp_path)
    assert [(r.room, r.lot, r.problems) for r in reports] == [("r", "sold", ()), ("r", "open", ())]
    assert reports == verify(tmp_path / FILE_NAME) == verify(tmp_path, "r")
    assert verify(tmp_path, "other") == []
    lines: list[str] = []
    assert run_verify(tmp_path, None, lines.append) == 0
    assert lines == [
        "ok    r/sold  sold 5000 TWD to ann, 4 prices, 7 records",
        "ok    r/open  open 5000 TWD, 4 prices, 6 records",
    ]


@pytest.mark.parametrize(
    ("tamper", "finding"),
    [
        (sql(f"UPDATE records SET at_ms = at_ms + 1 WHERE stream = {SOLD}"), "hash does not fit"),
        (
            sql(f"UPDATE records SET hash = zeroblob(32) WHERE stream = {SOLD} AND version = 3"),
            "record 3 was changed",
        ),
        (sql(f"DELETE FROM records WHERE stream = {SOLD} AND version = 4"), "record 4 is missing"),
        (sql(f"DELETE FROM records WHERE stream = {SOLD} AND version = 7"), "room:r has 7"),
        (forged(6, '"price":5000', '"price":4500'), "price is 4500, the rules give 5000"),
        (forged(6, '"leader":"ann"', '"leader":"ben"'), "leader is 'ben'"),
        (forged(3, '"amount":3000', '"amount":9000'), "the rules give"),
        (forged(5, '"seq":3', '"seq":4'), "seq is 4"),
        (forged(4, '"ends_at":1060000', '"ends_at":1060001'), "ends_at is 1060001"),
        (forged(7, '"winner":"ann"', '"winner":"ben"'), "who did not lead"),
        (forged(7, '"price":5000', '"price":1000'), "price is 1000"),
        (forged(5, '"key":"k2"', '"key":"k1"'), "repeats the key"),
        (forged(1, '"by":"host"', '"by":"ann"'), "a lot of their own"),
        (forged(1, '"lot":"sold"', '"lot":"other"'), "created as r/other"),
        (forged(6, '"kind":"open"', '"kind":"ajar"'), "record 6 is unreadable"),
        (
            sql(f'UPDATE publications SET data = \'{{"lot":"sold"}}\' WHERE channel = {ROOM}'),
            "carries",
        ),
        (sql(f"DELETE FROM publications WHERE channel = {ROOM} AND offset = 4"), "room:r has 6"),
        (sql(f"DELETE FROM publications WHERE channel = {ANN} AND offset = 2"), "user:r:ann has"),
    ],
)
def test_tampering_is_found(
    tmp_path: Path, tamper: Callable[[sqlite3.Connection], None], finding: str
) -> None:
    write_ledger(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        tamper(db)
        db.commit()
    reports = {report.lot: report for report in verify(tmp_path)}
    assert finding in reports["sold"].line()
    lines: list[str] = []
    assert run_verify(tmp_path, None, lines.append) == 1
    assert any(line.startswith("FAIL  r/sold") for line in lines)


@pytest.mark.parametrize(
    ("tamper", "finding"),
    [
        (
            sql(f"DELETE FROM publications WHERE channel = {ROOM} AND offset = 14"),
            "nothing at offset 14",
        ),
        (
            sql(f'INSERT INTO publications VALUES ({ROOM}, 99, \'{{"lot":"ghost"}}\')'),
            "not in the ledger: ghost",
        ),
        (sql("UPDATE records SET kind = 'x' WHERE stream = 1"), "record 1 was changed"),
    ],
)
def test_tampering_with_the_room_is_found(
    tmp_path: Path, tamper: Callable[[sqlite3.Connection], None], finding: str
) -> None:
    write_ledger(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        tamper(db)
        db.commit()
    report = verify(tmp_path)[-1]
    assert (report.room, report.lot) == ("r", "*")
    assert finding in report.line()


def test_nothing_to_read_is_exit_2(tmp_path: Path) -> None:
    lines: list[str] = []
    assert run_verify(tmp_path, None, lines.append) == 2
    assert "there is no ledger" in lines[0]
    (tmp_path / FILE_NAME).write_bytes(b"not a database at all" * 100)
    assert run_verify(tmp_path, None, lines.append) == 2
