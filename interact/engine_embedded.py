"""The engine for one machine and no other service: SQLite, one writer thread, memory rings.

Everything is durable in SQLite (WAL, synchronous FULL). What phones ask for most, the
newest publications of a channel, is kept in memory as well, so that a thousand phones
that reconnect at once do not read the disk.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from interact.channel_rings import Rings
from interact.engine import (
    EngineUnavailable,
    HistoryPage,
    NewRecord,
    Outgoing,
    Position,
    Publication,
    PublicationListener,
    Record,
)
from interact.ledger_file import (
    FILE_NAME,
    DirectoryLock,
    open_for_reading,
    open_for_writing,
    read_bounds,
    read_epoch,
    read_publications,
    read_records,
    read_streams,
)
from interact.ledger_writer import Append, LedgerWriter, Outcome

log = logging.getLogger(__name__)

MAX_WAITING: Final = 4_000
"""Appends on their way to disk; more are refused. About a second's worth."""

_SWITCH_INTERVAL_S: Final = 0.000_5
"""How long a busy event loop may keep the interpreter from the writing thread. Python's own
5 ms, paid several times a commit, made a saturated loop starve its ledger."""

_T = TypeVar("_T")


class EmbeddedEngine:
    """Implements interact.engine.Engine over one data directory.

    `start` raises ledger_file.DataDirectoryError, one line for the operator, where the
    directory is unwritable, of another version, or in use by another server.
    """

    def __init__(self, directory: Path, *, max_waiting: int = MAX_WAITING) -> None:
        self._directory = directory
        self._max_waiting = max_waiting
        self._waiting = 0  # appends not yet delivered; event loop only
        self._appended = 0
        self._refused = 0
        self._epoch = ""
        self._generations: dict[str, int] = {}  # stream → failures delivered so far
        self._rings = Rings()
        self._listener: PublicationListener | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: LedgerWriter | None = None
        self._reader: sqlite3.Connection | None = None
        self._read_thread: ThreadPoolExecutor | None = None
        self._close_files: Callable[[], None] | None = None

    async def start(self, listener: PublicationListener) -> None:
        """Open or make the ledger."""
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL_S))
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._read_thread = ThreadPoolExecutor(1, "livehouse-ledger-read")
        try:
            await self._loop.run_in_executor(self._read_thread, self._open)
        except BaseException:
            self._read_thread.shutdown(wait=False)
            raise

    def _open(self) -> None:
        lock = DirectoryLock(self._directory)
        try:
            db = open_for_writing(self._directory)
            self._reader = open_for_reading(self._directory / FILE_NAME)
        except BaseException:
            lock.release()
            raise
        self._epoch = read_epoch(db)
        writer = LedgerWriter(db, self._hand_over)

        def close_files() -> None:
            writer.stop()
            if self._reader is not None:
                self._reader.close()
            db.close()
            lock.release()

        self._close_files = close_files
        writer.start()
        self._writer = writer

    async def close(self) -> None:
        """Commit and deliver what was accepted, then let go of the directory."""
        self._writer = None
        if self._close_files is None or self._loop is None or self._read_thread is None:
            return
        close_files, self._close_files = self._close_files, None
        await self._loop.run_in_executor(self._read_thread, close_files)
        self._read_thread.shutdown(wait=False)

    @property
    def epoch(self) -> str:
        """The epoch of every channel of this ledger."""
        return self._epoch

    def stats(self) -> dict[str, int]:
        """Counters for `/metrics`."""
        return {
            "waiting": self._waiting,
            "appended": self._appended,
            "refused": self._refused,
            "channels_in_memory": len(self._rings),
            "groups": self._writer.groups if self._writer is not None else 0,
        }

    # -- writing --------------------------------------------------------------------

    def append(
        self,
        stream: str,
        expected_version: int,
        records: Sequence[NewRecord],
        publications: Sequence[Outgoing] = (),
    ) -> Awaitable[int]:
        """As Engine.append."""
        if not stream or not records:
            raise ValueError("an append needs a stream and a record")
        return self._put(stream, expected_version, records, publications)

    def publish(self, publications: Sequence[Outgoing]) -> Awaitable[None]:
        """As Engine.publish. Queued by the call itself, so order is call order."""
        return _without_result(self._put("", 0, (), publications))

    def _put(
        self,
        stream: str,
        expected_version: int,
        records: Sequence[NewRecord],
        publications: Sequence[Outgoing],
    ) -> asyncio.Future[int]:
        if self._loop is None:
            raise RuntimeError("the engine was not started")
        future: asyncio.Future[int] = self._loop.create_future()
        if self._writer is None or self._waiting >= self._max_waiting:
            self._refused += 1
            what = "closed" if self._writer is None else f"{self._waiting} appends behind"
            future.set_exception(EngineUnavailable(f"the ledger is {what}"))
            return future
        self._waiting += 1
        generation = self._generations.get(stream, 0)
        self._writer.put(
            Append(stream, generation, expected_version, records, publications, future)
        )
        return future

    def _hand_over(self, outcomes: list[Outcome]) -> None:
        """From the writer's thread to the loop, one call a group."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, outcomes)

    def _deliver(self, outcomes: list[Outcome]) -> None:
        listener = self._listener
        self._waiting -= len(outcomes)
        for append, version, publications, error in outcomes:
            for publication in publications:
                self._rings.remember(publication)
                if listener is not None:
                    try:
                        listener(publication)
                    except Exception:
                        # One broken listener call must not cost the others their answer.
                        log.exception("listener failed channel=%s", publication.channel)
            if error is None:
                self._appended += 1
            elif append.stream:
                self._generations[append.stream] = append.generation + 1
            if append.future.done():
                continue
            if error is None:
                append.future.set_result(version)
            else:
                append.future.set_exception(error)

    # -- reading --------------------------------------------------------------------

    async def read(self, stream: str, after_version: int = 0) -> list[Record]:
        """As Engine.read. Raises EngineUnavailable where the disk cannot be read."""
        return await self._in_snapshot(lambda db: read_records(db, stream, after_version))

    async def streams(self, prefix: str) -> list[str]:
        """As Engine.streams."""
        return await self._in_snapshot(lambda db: read_streams(db, prefix))

    async def history(
        self, channel: str, since: Position | None, limit: int, *, reverse: bool = False
    ) -> HistoryPage:
        """As Engine.history. From memory where it reaches back far enough.

        What was not recovered comes without publications: the reader must start anew.
        """
        while True:
            known = self._rings.get(channel)
            if known is not None:
                page = known.page(self._epoch, since, limit, reverse=reverse)
                if page is not None:
                    return page
            if self._reader is None:
                raise EngineUnavailable("the ledger is closed")
            after = since.offset if since is not None else 0

            def look(
                db: sqlite3.Connection, after: int = after
            ) -> tuple[int, int, list[Publication]]:
                bounds = read_bounds(db, channel)
                return (*bounds, read_publications(db, channel, after, limit, reverse=reverse))

            oldest, head, found = await self._in_snapshot(look)
            ring = self._rings.get(channel) or self._rings.open(channel, head)
            newer = ring.newer(head)
            if newer is None:
                continue  # more came while we read than memory holds: read again
            head = ring.head
            found = [*reversed(newer), *found] if reverse else [*found, *newer]
            is_recovered = since is None or (
                since.epoch == self._epoch and oldest - 1 <= since.offset <= head
            )
            kept = tuple(found if limit < 0 else found[:limit]) if is_recovered else ()
            return HistoryPage(Position(self._epoch, head), kept, is_recovered)

    async def _in_snapshot(self, look: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `look` in the reading thread, on one snapshot of the file."""
        if self._loop is None or self._read_thread is None:
            raise EngineUnavailable("the ledger was not started")

        def run() -> _T:
            db, writer = self._reader, self._writer
            if db is None or writer is None:
                raise EngineUnavailable("the ledger is closed")
            with writer.commit_lock:
                db.execute("BEGIN")
                db.execute("SELECT 1 FROM meta").fetchone()  # pins the snapshot
            try:
                return look(db)
            finally:
                db.execute("COMMIT")

        try:
            return await self._loop.run_in_executor(self._read_thread, run)
        except (sqlite3.Error, RuntimeError) as error:
            raise EngineUnavailable(f"the ledger cannot be read: {error}") from None


async def _without_result(future: asyncio.Future[int]) -> None:
    await future
