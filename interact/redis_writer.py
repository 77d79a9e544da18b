"""Group commit to Redis: what waits goes out as one pipeline, answered after one fsync.

With `appendfsync always` a server writes and syncs everything that one turn of its loop
brought before it answers any of it. One group is under way at a time; while it is, the
next one gathers. An answer that never came is asked for again for `GRACE_S`, with the same
hashes, so nothing is written twice; after that the callers hear that the ledger is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from interact.engine import Conflict, EngineUnavailable, NewRecord, Outgoing
from interact.ledger_file import GENESIS
from interact.redis_feed import Feed, read_entries
from interact.redis_link import Link, LinkLost
from interact.redis_resp import Argument, Reply, ReplyError
from interact.redis_script import (
    Written,
    append_command,
    chained,
    pairs_of,
    room_of,
    stream_key,
)
from interact.redis_servers import Servers, gathered

log = logging.getLogger(__name__)

MAX_GROUP: Final = 500
GRACE_S: Final = 1.0
"""A blip shorter than this only slows bids down; a longer one refuses them as busy."""

_NEW: Final = (0, GENESIS)
_NOT_HERE: Final = frozenset(
    {"MOVED", "ASK", "READONLY", "LOADING", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "NOSCRIPT"}
)
"""Errors of a server that is not, or not yet, the one to write to."""


class Append:
    """One queued append, or publications alone where `stream` is empty."""

    __slots__ = (
        "expected",
        "future",
        "name",
        "previous",
        "publications",
        "records",
        "room",
        "stream",
        "written",
    )

    def __init__(
        self,
        room: str,
        stream: str,
        expected: int,
        records: Sequence[NewRecord],
        publications: Sequence[Outgoing],
        name: str,
        future: asyncio.Future[int],
    ) -> None:
        self.room = room
        self.stream = stream
        self.expected = expected
        self.records = records
        self.publications = publications
        self.name = name  # one of a kind
        self.future = future
        self.written: Written | None = None
        self.previous = b""


class RedisWriter:
    """The queue of one worker and the task that empties it."""

    def __init__(
        self,
        worker: str,
        database: int,
        feed: Feed,
        servers_by: Callable[[float], Awaitable[Servers]],
        begin: Callable[[str], Awaitable[object]],
    ) -> None:
        self._worker = worker
        self._database = database
        self._feed = feed
        self._servers_by = servers_by
        self._begin = begin
        self._queue: deque[Append] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self.waiting = 0
        self.groups = 0
        self.appended = 0
        self.conflicts = 0
        self.refused = 0

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="livehouse-redis-writer")

    async def stop(self, timeout_s: float) -> None:
        """Write what is queued, at most for `timeout_s`, then end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._fail(list(self._queue), EngineUnavailable("the ledger is closed"))
        self._queue.clear()

    def put(self, append: Append) -> None:
        """Queue an append."""
        self.waiting += 1
        self._queue.append(append)
        self._wake.set()
        self._idle.clear()

    def fail_all(self, error: EngineUnavailable) -> None:
        """The server is away for longer than anybody should wait."""
        queued, self._queue = list(self._queue), deque()
        self._fail(queued, error)

    async def _run(self) -> None:
        while True:
            if not self._queue:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            group = [self._queue.popleft() for _ in range(min(MAX_GROUP, len(self._queue)))]
            try:
                await self._commit(group)
            except BaseException as error:
                # Cancelled, or a mistake of ours: either way the callers must hear something.
                self._fail(group, EngineUnavailable("the ledger is closed"))
                if not isinstance(error, Exception):
                    raise
                log.exception("ledger commit failed appends=%d", len(group))

    async def _commit(self, group: list[Append]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + GRACE_S
        is_again = False
        while True:
            try:
                servers = await self._servers_by(deadline)
                conflicts = await self._prepare(servers, group)
                replies = await self._send(servers, group, conflicts, is_again=is_again)
                break
            except LinkLost as error:
                is_again = True
                if loop.time() >= deadline:
                    away = EngineUnavailable(f"the ledger is away: {error}")
                    self._fail(group, away)
                    self.fail_all(away)
                    return
        self.groups += 1
        self._deliver(group, replies)

    async def _prepare(self, servers: Servers, group: list[Append]) -> set[Append]:
        """Give every append its hashes, once; those decided on something outdated come back."""
        for room in {append.room for append in group}:
            await self._begin(room)
        first: dict[str, int] = {}
        for append in group:
            if append.stream and append.written is None:
                first.setdefault(append.stream, append.expected)
        known = self._feed.heads
        # Whoever expects more than we know may have heard of it elsewhere before we did.
        await self._look_up(servers, {s for s, v in first.items() if known.get(s, _NEW)[0] < v})
        heads: dict[str, tuple[int, bytes]] = {}
        conflicts: set[Append] = set()
        outdated: set[str] = set()
        for append in group:
            if append.written is not None:
                continue
            stored: tuple[tuple[str, int, bytes, bytes], ...] = ()
            if append.stream:
                version, digest = heads.get(append.stream) or known.get(append.stream, _NEW)
                if version != append.expected or append.stream in outdated:
                    outdated.add(append.stream)
                    conflicts.add(append)
                    continue
                append.previous = digest
                stored = chained(append.stream, version, digest, append.records)
                heads[append.stream] = (version + len(stored), stored[-1][3])
            append.written = Written(
                self._worker, append.stream, append.expected, stored, pairs_of(append.publications)
            )
        return conflicts

    async def _look_up(self, servers: Servers, streams: set[str]) -> None:
        for stream in streams:
            link = servers.of(room_of(stream))
            command: list[Argument] = ["XREVRANGE", stream_key(stream), "+", "-", "COUNT", 1]
            [reply] = await gathered(link.send([command]))
            if isinstance(reply, ReplyError):
                servers.cut()
                raise LinkLost(str(reply))
            for version, fields in read_entries(reply):
                self._feed.learn_head(stream, version, fields[b"h"])

    async def _send(
        self, servers: Servers, group: list[Append], conflicts: set[Append], *, is_again: bool
    ) -> dict[Append, Reply]:
        by_link: dict[Link, list[Append]] = {}
        for append in group:
            if append not in conflicts:
                by_link.setdefault(servers.of(append.room), []).append(append)
        futures: list[asyncio.Future[Reply]] = []
        sent: list[Append] = []
        for link, appends in by_link.items():
            commands = []
            for append in appends:
                assert append.written is not None
                commands.append(
                    append_command(
                        servers.append_sha,
                        append.room,
                        self._database,
                        append.written,
                        append.previous,
                        append.name,
                        is_again=is_again,
                    )
                )
            futures += link.send(commands)
            sent += appends
        replies = dict(zip(sent, await gathered(futures), strict=True)) if futures else {}
        for reply in replies.values():
            if isinstance(reply, ReplyError) and reply.kind in _NOT_HERE:
                servers.cut()
                raise LinkLost(str(reply))
        return replies

    def _deliver(self, group: list[Append], replies: dict[Append, Reply]) -> None:
        failed: set[str] = set()
        for append in group:
            reply = replies.get(append)
            version = reply[0] if isinstance(reply, list) else -1
            if isinstance(reply, ReplyError):
                log.error("ledger append refused by the server error=%s", reply)
                self._fail([append], EngineUnavailable(f"the ledger cannot be written: {reply}"))
                failed.add(append.stream)
            elif version == -1 or append.stream in failed:
                self._fail_one(append, Conflict(f"{append.stream} is not at {append.expected}"))
                failed.add(append.stream)
            else:
                assert isinstance(version, int)
                self.appended += 1
                self.waiting -= 1
                if not append.future.done():
                    append.future.set_result(version)
        failed.discard("")
        if failed:
            # Decided on top of what was turned down: never to be sent.
            behind = [append for append in self._queue if append.stream in failed]
            for append in behind:
                self._queue.remove(append)
                self._fail_one(append, Conflict(f"{append.stream} is not at {append.expected}"))

    def _fail(self, appends: list[Append], error: EngineUnavailable) -> None:
        for append in appends:
            self.refused += 1
            self._fail_one(append, error)

    def _fail_one(self, append: Append, error: Conflict | EngineUnavailable) -> None:
        if isinstance(error, Conflict):
            self.conflicts += 1
        self.waiting -= 1
        if not append.future.done():
            append.future.set_exception(error)
