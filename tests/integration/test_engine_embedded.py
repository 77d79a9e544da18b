"""What is particular to the SQLite engine: its directory, its limits, its rings."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from interact import channel_rings, ledger_writer
from interact.engine import Conflict, EngineUnavailable, NewRecord, Outgoing, Position, Publication
from interact.engine_embedded import EmbeddedEngine
from interact.ledger_file import FILE_NAME, DataDirectoryError, open_for_reading, read_publications


def ignore(publication: Publication) -> None:
    """A listener that nobody needs."""


def fact(number: int) -> NewRecord:
    return NewRecord("fact", number, b"{}")


async def test_second_server_on_the_same_directory_is_told_so(tmp_path: Path) -> None:
    first, second = EmbeddedEngine(tmp_path), EmbeddedEngine(tmp_path)
    await first.start(ignore)
    with pytest.raises(DataDirectoryError, match="another Livehouse server"):
        await second.start(ignore)
    await first.close()
    await second.start(ignore)
    await second.close()


async def test_directory_is_free_again_after_kill_9(tmp_path: Path) -> None:
    script = (
        "import asyncio,os,pathlib,signal,sys\n"
        "from interact.engine_embedded import EmbeddedEngine\n"
        "async def main():\n"
        "  await EmbeddedEngine(pathlib.Path(sys.argv[1])).start(print)\n"
        "  os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script, str(tmp_path)], check=False
    )
    assert done.returncode == -9
    engine = EmbeddedEngine(tmp_path)
    await engine.start(ignore)
    await engine.close()


async def test_unusable_directory_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(DataDirectoryError, match="cannot write to the data directory"):
        await EmbeddedEngine(tmp_path / "file" / "data").start(ignore)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_unwritable_directory_is_one_clear_line(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o500)
    with pytest.raises(DataDirectoryError, match="cannot write to the data directory"):
        await EmbeddedEngine(tmp_path).start(ignore)


async def test_file_that_is_no_database_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"this is not a database" * 100)
    engine = EmbeddedEngine(tmp_path)
    with pytest.raises(DataDirectoryError, match="not a database"):
        await engine.start(ignore)
    (tmp_path / FILE_NAME).unlink()
    await engine.start(ignore)  # the lock was let go
    await engine.close()


async def test_schema_of_another_version_is_refused(tmp_path: Path) -> None:
    engine = EmbeddedEngine(tmp_path)
    await engine.start(ignore)
    await engine.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(DataDirectoryError, match="schema 99"):
        await EmbeddedEngine(tmp_path).start(ignore)


async def test_every_commit_reaches_the_disk_before_its_answer(tmp_path: Path) -> None:
    engine = EmbeddedEngine(tmp_path)
    await engine.start(ignore)
    writer = engine._writer
    assert writer is not None
    assert writer._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert writer._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await engine.append("s", 0, [fact(1)])
    db = open_for_reading(tmp_path / FILE_NAME)
    assert db.execute("SELECT count(*) FROM records").fetchone() == (1,)
    db.close()
    await engine.close()


async def test_too_many_waiting_appends_are_refused(tmp_path: Path) -> None:
    engine = EmbeddedEngine(tmp_path, max_waiting=3)
    await engine.start(ignore)
    appends = [engine.append("s", number, [fact(number)]) for number in range(4)]
    assert [await append for append in appends[:3]] == [1, 2, 3]
    with pytest.raises(EngineUnavailable):
        await appends[3]
    assert await engine.append("s", 3, [fact(4)]) == 4
    assert engine.stats()["refused"] == 1
    await engine.close()
    with pytest.raises(EngineUnavailable):
        await engine.append("s", 4, [fact(5)])


async def test_failed_commit_writes_nothing_and_poisons_what_is_behind(tmp_path: Path) -> None:
    heard: list[Publication] = []
    engine = EmbeddedEngine(tmp_path)
    await engine.start(heard.append)
    await engine.append("s", 0, [fact(1)], [Outgoing("room:r", b"1")])
    writer = engine._writer
    assert writer is not None
    # A full disk, as SQLite tells it: no page may be added to the file.
    pages = writer._db.execute("PRAGMA page_count").fetchone()[0]
    writer._db.execute(f"PRAGMA max_page_count={pages}")
    big = NewRecord("fact", 2, b"x" * 100_000)
    failing = engine.append("s", 1, [big], [Outgoing("room:r", b"2")])
    behind = engine.append("s", 2, [fact(3)])
    with pytest.raises(EngineUnavailable):
        await failing
    with pytest.raises((Conflict, EngineUnavailable)):
        await behind
    writer._db.execute("PRAGMA max_page_count=1000000")
    assert await engine.append("s", 1, [fact(2)], [Outgoing("room:r", b"2")]) == 2
    assert [(p.offset, p.data) for p in heard] == [(1, b"1"), (2, b"2")]
    assert (await engine.history("room:r", None, -1)).position.offset == 2
    await engine.close()


async def test_old_publications_are_trimmed_and_a_gap_is_owned_up_to(tmp_path: Path) -> None:
    engine = EmbeddedEngine(tmp_path)
    await engine.start(ignore)
    kept = ledger_writer.kept_publications("user:r:a")
    for _ in range(6):
        await engine.publish([Outgoing("user:r:a", b"{}")] * 100)
    await engine.close()
    await engine.start(ignore)
    page = await engine.history("user:r:a", None, -1)
    offsets = [p.offset for p in page.publications]
    assert kept <= len(offsets) <= kept * 9 / 8
    assert offsets == list(range(offsets[0], 601))
    oldest = Position(engine.epoch, offsets[0] - 1)
    assert (await engine.history("user:r:a", oldest, 1)).recovered
    missing = Position(engine.epoch, offsets[0] - 2)
    assert not (await engine.history("user:r:a", missing, 1)).recovered
    await engine.close()
    db = open_for_reading(tmp_path / FILE_NAME)
    assert len(read_publications(db, "user:r:a", 0, -1)) == len(offsets)
    db.close()


async def test_history_joins_disk_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_rings, "_SIZE_OTHERWISE", 5)
    engine = EmbeddedEngine(tmp_path)
    await engine.start(ignore)
    for number in range(20):
        await engine.publish([Outgoing("other:r", b"%d" % number)])
    for since in range(21):
        page = await engine.history("other:r", Position(engine.epoch, since), -1)
        assert page.recovered
        assert [p.offset for p in page.publications] == list(range(since + 1, 21))
    await engine.close()


async def test_broken_listener_costs_nobody_the_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(publication: Publication) -> None:
        raise ValueError("a bug")

    engine = EmbeddedEngine(tmp_path)
    await engine.start(broken)
    assert await engine.append("s", 0, [fact(1)], [Outgoing("room:r", b"1")]) == 1
    assert "listener failed" in caplog.text
    await engine.close()
