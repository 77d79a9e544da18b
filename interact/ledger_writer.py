"""The one thread that writes the ledger: group commit with compare-and-append.

It takes everything that waits, writes it as one transaction, and waits for the disk once
for all of them. While it waits, the next group gathers, so a busier server commits larger
groups, not more often. What it learnt is handed to the event loop in one call a group.

A failed append poisons its stream: whatever was queued behind it was decided on a state
that never came to be, so it fails too, even if its expected version happens to fit.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from itertools import chain
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

from interact.engine import Conflict, EngineUnavailable, NewRecord, Outgoing, Publication
from interact.ledger_file import GENESIS, chain_hash, read_bounds

log = logging.getLogger(__name__)

MAX_GROUP: Final = 1_000
"""Appends in one transaction; bounds how long the first of them waits."""

_MAX_HEADS: Final = 50_000
"""Streams and channels whose newest version the thread remembers."""

_TRIM_EVERY: Final = 8
"""A channel is trimmed each time it has outgrown its limit by one part in this many."""

_MAX_ROWS: Final = 5_000
"""Rows in one INSERT; six values a row stay below SQLite's limit of 32,766."""

KEPT_PUBLICATIONS: Final = {"room": 10_000, "user": 200}
_KEPT_OTHERWISE: Final = 1_000


def kept_publications(channel: str) -> int:
    """How many newest publications of `channel` stay on disk at least."""
    return KEPT_PUBLICATIONS.get(channel.partition(":")[0], _KEPT_OTHERWISE)


class Append:
    """One queued append, or publications alone where `stream` is empty."""

    __slots__ = ("expected_version", "future", "generation", "publications", "records", "stream")

    def __init__(
        self,
        stream: str,
        generation: int,
        expected_version: int,
        records: Sequence[NewRecord],
        publications: Sequence[Outgoing],
        future: asyncio.Future[int],
    ) -> None:
        self.stream = stream
        self.generation = generation
        self.expected_version = expected_version
        self.records = records
        self.publications = publications
        self.future = future


class Outcome(NamedTuple):
    """What became of an append: its new version and publications, or why nothing was written."""

    append: Append
    version: int
    publications: list[Publication]
    error: Conflict | EngineUnavailable | None


class _StreamHead:
    __slots__ = ("hash", "id", "version")

    def __init__(self, id: int, version: int, hash: bytes) -> None:
        self.id, self.version, self.hash = id, version, hash


class _ChannelHead:
    __slots__ = ("id", "kept", "offset", "oldest")

    def __init__(self, id: int, oldest: int, offset: int, kept: int) -> None:
        self.id, self.oldest, self.offset, self.kept = id, oldest, offset, kept


class LedgerWriter:
    """Owns the writing connection while it runs.

    `deliver` is called on this thread after each group, in commit order, under
    `commit_lock`; a reader that pins its snapshot under the same lock never sees a
    publication whose delivery has not been scheduled yet.
    """

    def __init__(self, db: sqlite3.Connection, deliver: Callable[[list[Outcome]], None]) -> None:
        self.commit_lock = threading.Lock()
        self.groups = 0  # transactions so far
        self._db = db
        self._deliver = deliver
        self._queue: SimpleQueue[Append | None] = SimpleQueue()
        self._streams: dict[str, _StreamHead] = {}
        self._channels: dict[str, _ChannelHead] = {}
        self._poisoned: dict[str, int] = {}  # stream → newest generation that must fail
        self._thread = threading.Thread(target=self._run, name="livehouse-ledger", daemon=True)

    def start(self) -> None:
        """Begin to commit."""
        self._thread.start()

    def put(self, append: Append) -> None:
        """Queue an append; from any thread."""
        self._queue.put(append)

    def stop(self) -> None:
        """Commit what is queued, then end. Blocks; the connection is the caller's again."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_running = True
        while is_running:
            group: list[Append] = []
            item = self._queue.get()
            while item is not None:
                group.append(item)
                if len(group) >= MAX_GROUP:
                    break
                try:
                    item = self._queue.get_nowait()
                except Empty:
                    break
            is_running = item is not None
            if group:
                with self.commit_lock:
                    self._deliver(self._commit(group))

    def _commit(self, group: list[Append]) -> list[Outcome]:
        try:
            return self._write(group)
        except Exception as error:
            # Whatever it was, the callers must hear that nothing of theirs was written.
            log.error("ledger commit failed appends=%d error=%r", len(group), error)
            self._roll_back()
            self._streams.clear()
            self._channels.clear()
            for append in group:
                self._poison(append)
            return [
                Outcome(append, 0, [], EngineUnavailable(f"the ledger cannot be written: {error}"))
                for append in group
            ]

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error as error:
                log.error("ledger rollback failed error=%s", error)

    def _poison(self, append: Append) -> None:
        if append.stream:
            worst = self._poisoned.get(append.stream, -1)
            self._poisoned[append.stream] = max(worst, append.generation)

    def _write(self, group: list[Append]) -> list[Outcome]:
        if len(self._streams) > _MAX_HEADS:
            self._streams.clear()
        if len(self._channels) > _MAX_HEADS:
            self._channels.clear()
        db = self._db
        outcomes: list[Outcome] = []
        record_rows: list[tuple[int, int, str, int, bytes, bytes]] = []
        publication_rows: list[tuple[int, int, bytes]] = []
        db.execute("BEGIN IMMEDIATE")
        for append in group:
            version = 0
            if append.stream:
                head = self._stream_head(append)
                if head is None:
                    self._poison(append)
                    conflict = Conflict(f"{append.stream} is not at {append.expected_version}")
                    outcomes.append(Outcome(append, 0, [], conflict))
                    continue
                for record in append.records:
                    head.version += 1
                    head.hash = chain_hash(
                        head.hash,
                        append.stream,
                        head.version,
                        record.kind,
                        record.at_ms,
                        record.data,
                    )
                    record_rows.append(
                        (head.id, head.version, record.kind, record.at_ms, record.data, head.hash)
                    )
                version = head.version
            published: list[Publication] = []
            for outgoing in append.publications:
                channel = self._channel_head(outgoing.channel)
                channel.offset += 1
                publication_rows.append((channel.id, channel.offset, outgoing.data))
                published.append(Publication(outgoing.channel, channel.offset, outgoing.data))
            outcomes.append(Outcome(append, version, published, None))
        if record_rows:
            self._insert("records", record_rows)
        if publication_rows:
            self._insert("publications", publication_rows)
            self._trim(outcomes)
        db.execute("COMMIT")
        self.groups += 1
        return outcomes

    def _insert(self, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        """All rows in as few statements as SQLite allows.

        Each statement lets go of the interpreter lock several times and must win it back
        from the event loop; row by row that took longer than the disk.
        """
        row = f"({', '.join('?' * len(rows[0]))})"
        for start in range(0, len(rows), _MAX_ROWS):
            some = rows[start : start + _MAX_ROWS]
            self._db.execute(
                f"INSERT INTO {table} VALUES {', '.join([row] * len(some))}",
                list(chain.from_iterable(some)),
            )

    def _stream_head(self, append: Append) -> _StreamHead | None:
        """The head to append to, or None where this append must not be written."""
        stream = append.stream
        if append.generation <= self._poisoned.get(stream, -1):
            return None
        head = self._streams.get(stream)
        if head is None:
            head = self._load_stream(stream)
        if head.version != append.expected_version:
            return None
        if not head.id and append.records:
            cursor = self._db.execute("INSERT INTO streams (name) VALUES (?)", (stream,))
            head.id = cursor.lastrowid or 0
        self._streams[stream] = head
        return head

    def _load_stream(self, stream: str) -> _StreamHead:
        row = self._db.execute("SELECT id FROM streams WHERE name = ?", (stream,)).fetchone()
        if row is None:
            return _StreamHead(0, 0, GENESIS)
        newest = self._db.execute(
            "SELECT version, hash FROM records WHERE stream = ? ORDER BY version DESC LIMIT 1", row
        ).fetchone()
        return _StreamHead(row[0], *(newest or (0, GENESIS)))

    def _channel_head(self, channel: str) -> _ChannelHead:
        head = self._channels.get(channel)
        if head is None:
            kept = kept_publications(channel)
            row = self._db.execute("SELECT id FROM channels WHERE name = ?", (channel,)).fetchone()
            if row is None:
                cursor = self._db.execute("INSERT INTO channels (name) VALUES (?)", (channel,))
                head = _ChannelHead(cursor.lastrowid or 0, 1, 0, kept)
            else:
                oldest, newest = read_bounds(self._db, channel)
                head = _ChannelHead(row[0], max(oldest, 1), newest, kept)
            self._channels[channel] = head
        return head

    def _trim(self, outcomes: list[Outcome]) -> None:
        """Delete publications beyond what channels keep, a slice at a time."""
        for channel in {pub.channel for outcome in outcomes for pub in outcome.publications}:
            head = self._channels[channel]
            excess = head.offset - head.oldest + 1 - head.kept
            if excess > head.kept // _TRIM_EVERY:
                self._db.execute(
                    "DELETE FROM publications WHERE channel = ? AND offset < ?",
                    (head.id, head.oldest + excess),
                )
                head.oldest += excess
