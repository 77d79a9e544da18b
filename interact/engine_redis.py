"""The engine for several workers and machines: Redis 7, Valkey 8 or later, or a cluster.

One connection to each server carries everything: appends, reads, and what other workers
write. Replies and messages share one order on it, the order in which the server acted, so
when an append is answered its publications were heard already, and no page of history is
ever ahead of what the listener knows.

A connection that breaks makes appends wait for a second, then refuses them; it is tried
again for ever. What was missed meanwhile is read from the streams before anything newer is
passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from interact.engine import (
    EngineUnavailable,
    HistoryPage,
    NewRecord,
    Outgoing,
    Position,
    Publication,
    PublicationListener,
    Record,
    RecordListener,
)
from interact.redis_clock import SharedClock
from interact.redis_feed import Feed, RoomFeed, read_entries
from interact.redis_link import Address, LinkLost, RedisError
from interact.redis_resp import Argument, Reply, ReplyError
from interact.redis_script import (
    ROOMS_KEY,
    TOLD,
    channel_key,
    feed_of,
    room_key,
    room_of,
    stream_key,
)
from interact.redis_servers import Servers, gathered
from interact.redis_writer import Append, RedisWriter

log = logging.getLogger(__name__)

MAX_WAITING: Final = 4_000
RETRY_S: Final = 0.1
PULSE_S: Final = 1.0
SILENCE_S: Final = 3.0
"""A server that does not answer for this long is given up: paused, or the network is gone."""

FIRST_SAMPLES: Final = 5
CHECK_EVERY: Final = 10
"""Pulses between two looks at whether the server is still set to lose nothing."""

READ_PAGE: Final = 500
CLOSE_S: Final = 3.0


class RedisEngine:
    """Implements interact.engine.SharedEngine.

    `start` raises RedisError, one line for the operator, where this Redis cannot be used.
    """

    def __init__(
        self, url: str, *, allow_weak_durability: bool = False, max_waiting: int = MAX_WAITING
    ) -> None:
        self._address = Address.parse(url)
        self._allow_weak = allow_weak_durability
        self._max_waiting = max_waiting
        self.worker = secrets.token_hex(6)
        self.weakness = ""
        """Why an acknowledged write could be lost; empty where it cannot."""
        self._database = self._address.database
        self._feed = Feed(self.worker, self._database)
        self._feed.on_new_room = self._hear_of_room
        self._clock = SharedClock()
        self._servers: Servers | None = None
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self._beginning: dict[str, asyncio.Task[RoomFeed]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._is_closed = True
        self._count = 0
        self._outages = 0
        self._on_resync: Callable[[str | None], None] | None = None
        self._on_data_lost: Callable[[], None] | None = None
        self._writer = RedisWriter(
            self.worker, self._database, self._feed, self._servers_by, self._room
        )

    # -- life -------------------------------------------------------------------------

    def follow(
        self,
        on_records: RecordListener,
        on_told: Callable[[str, bytes], None],
        on_resync: Callable[[str | None], None],
        on_data_lost: Callable[[], None],
    ) -> None:
        """As SharedEngine.follow."""
        self._feed.on_records = on_records
        self._feed.on_told = on_told
        self._on_resync = on_resync
        self._on_data_lost = on_data_lost

    async def start(self, listener: PublicationListener) -> None:
        """Connect, check, listen to every room there is."""
        self._feed.listener = listener
        try:
            servers = await self._connect()
            self.weakness = await servers.weakness()
            if self.weakness and not self._allow_weak:
                servers.close()
                raise RedisError(
                    f"redis {self._address.shown} could lose what was acknowledged:"
                    f" {self.weakness}; set it (CONFIG SET) or give --allow-weak-durability"
                )
            await self._feed.begin_all(servers)
            for name in await self._feed.names(servers):
                await self._feed.begin(servers, name)
            for _ in range(FIRST_SAMPLES):
                await self._pulse(servers)
        except LinkLost as error:
            raise RedisError(f"redis {self._address.shown} does not answer: {error}") from None
        self._is_closed = False
        self._servers = servers
        self._up.set()
        self._writer.start()
        for work, name in ((self._keep(), "keeper"), (self._beat(), "pulse")):
            self._tasks.append(asyncio.create_task(work, name=f"livehouse-redis-{name}"))

    async def close(self) -> None:
        """Write what was accepted, then disconnect."""
        if self._is_closed:
            return
        self._is_closed = True
        await self._writer.stop(CLOSE_S)
        for task in [*self._tasks, *self._beginning.values()]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._beginning.values(), return_exceptions=True)
        if self._servers is not None:
            self._servers.close()
            self._servers = None
        await asyncio.sleep(0)  # lets the transports go

    @property
    def is_up(self) -> bool:
        """Whether the server can be reached now."""
        return self._up.is_set()

    def clock(self) -> int:
        """Unix milliseconds by the server's clock."""
        return self._clock.now_ms(asyncio.get_running_loop().time())

    def stats(self) -> dict[str, int]:
        """Counters for `/metrics`."""
        writer = self._writer
        return {
            "waiting": writer.waiting,
            "appended": writer.appended,
            "refused": writer.refused,
            "conflicts": writer.conflicts,
            "groups": writer.groups,
            "channels_in_memory": len(self._feed.rings),
            "feed_messages": self._feed.messages,
            "outages": self._outages,
            "up": int(self.is_up),
            "weak_durability": int(bool(self.weakness)),
            "clock_error_us": int(self._clock.error_ms * 1000),
        }

    async def _connect(self) -> Servers:
        servers = Servers(self._address, self._feed.push, self._lost)
        await servers.open()
        return servers

    def _lost(self) -> None:
        self._up.clear()
        self._down.set()

    async def _keep(self) -> None:
        """Connect again whenever the connection was lost."""
        while True:
            await self._down.wait()
            self._down.clear()
            self._outages += 1
            log.warning("redis lost address=%s", self._address.shown)
            while not self._up.is_set():
                try:
                    await self._reconnect()
                except (LinkLost, RedisError) as error:
                    log.info("redis still away error=%s", error)
                    await asyncio.sleep(RETRY_S)
            log.warning("redis back address=%s", self._address.shown)
            if self._on_resync is not None:
                self._on_resync(None)

    async def _reconnect(self) -> None:
        servers = await self._connect()
        try:
            await self._check_durability(servers)
            is_whole = await self._feed.resume(servers)
            await self._pulse(servers)
        except BaseException:
            servers.close()
            raise
        if not all(link.is_up for link in servers.links):
            raise LinkLost("lost again")
        self._down.clear()
        self._servers = servers
        self._up.set()
        if not is_whole and self._on_data_lost is not None:
            self._on_data_lost()

    async def _beat(self) -> None:
        """Sample the clock, notice silence, look at the durability now and then."""
        for count in range(1, 2**62):
            await asyncio.sleep(PULSE_S)
            servers = self._servers
            if not self._up.is_set() or servers is None:
                continue
            try:
                async with asyncio.timeout(SILENCE_S):
                    await self._pulse(servers)
                    if count % CHECK_EVERY == 0:
                        await self._check_durability(servers)
            except (TimeoutError, LinkLost):
                servers.cut()

    async def _pulse(self, servers: Servers) -> None:
        loop = asyncio.get_running_loop()
        link = servers.of(ROOMS_KEY)
        others = [other for other in servers.links if other is not link]
        asked = loop.time()
        [reply] = await gathered(link.send([["TIME"]]))
        heard = loop.time()
        if isinstance(reply, list) and len(reply) == 2:
            seconds, micros = (int(part) for part in reply if isinstance(part, bytes))
            self._clock.sample(asked, heard, seconds + micros / 1e6)
        for other in others:
            await gathered(other.send([["PING"]]))

    async def _check_durability(self, servers: Servers) -> None:
        weakness = await servers.weakness()
        if weakness and not self.weakness:
            log.error("redis may lose acknowledged writes now reason=%s", weakness)
            if not self._allow_weak:
                raise LinkLost(weakness)
        self.weakness = weakness if self._allow_weak or not weakness else self.weakness

    async def _servers_by(self, deadline: float) -> Servers:
        """The servers, waiting for them until `deadline` of the loop. Raises LinkLost."""
        if not self._up.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._up.wait()
        return self._present()

    def _present(self) -> Servers:
        if self._servers is None or not self._up.is_set():
            raise LinkLost("the server is away")
        return self._servers

    # -- rooms ------------------------------------------------------------------------

    async def _room(self, name: str) -> RoomFeed:
        """The room, listened to. Raises LinkLost."""
        room = self._feed.rooms.get(name)
        if room is not None:
            return room
        task = self._beginning.get(name)
        if task is None:
            task = asyncio.create_task(self._feed.begin(self._present(), name))
            self._beginning[name] = task
            task.add_done_callback(lambda done: self._begun(name, done))
        return await asyncio.shield(task)

    def _begun(self, name: str, done: asyncio.Task[RoomFeed]) -> None:
        self._beginning.pop(name, None)
        if not done.cancelled() and done.exception() is not None:
            log.info("room not begun room=%s error=%s", name, done.exception())

    def _hear_of_room(self, name: str) -> None:
        """Another worker made a room known."""
        if name not in self._feed.rooms and self.is_up:
            task = asyncio.create_task(self._meet(name))
            self._tasks.append(task)
            task.add_done_callback(self._tasks.remove)

    async def _meet(self, name: str) -> None:
        with contextlib.suppress(LinkLost):  # then the resync after the outage finds it
            await self._room(name)
            if self._on_resync is not None:
                self._on_resync(name)

    async def _ask(self, room: str, commands: list[list[Argument]]) -> list[Reply]:
        """Replies about one room. Raises EngineUnavailable."""
        try:
            servers = self._present()
            replies = await gathered(servers.of(room).send(commands))
        except LinkLost as error:
            raise EngineUnavailable(f"the ledger is away: {error}") from None
        for reply in replies:
            if isinstance(reply, ReplyError):
                servers.cut()
                raise EngineUnavailable(f"the ledger cannot be read: {reply}")
        return replies

    async def _entered(self, room: str) -> RoomFeed:
        try:
            return await self._room(room)
        except LinkLost as error:
            raise EngineUnavailable(f"the ledger is away: {error}") from None

    # -- writing ----------------------------------------------------------------------

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
        return self._put(room_of(stream), stream, expected_version, records, publications)

    def publish(self, publications: Sequence[Outgoing]) -> Awaitable[None]:
        """As Engine.publish. Publications of one call go to one room."""
        if not publications:
            return _nothing()
        room = room_of(publications[0].channel)
        return _without_result(self._put(room, "", 0, (), publications))

    def _put(
        self,
        room: str,
        stream: str,
        expected: int,
        records: Sequence[NewRecord],
        publications: Sequence[Outgoing],
    ) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        writer = self._writer
        if self._is_closed or writer.waiting >= self._max_waiting:
            writer.refused += 1
            what = "closed" if self._is_closed else f"{writer.waiting} appends behind"
            future.set_exception(EngineUnavailable(f"the ledger is {what}"))
            return future
        self._count += 1
        name = f"{self.worker}-{self._count}"
        writer.put(Append(room, stream, expected, records, publications, name, future))
        return future

    # -- reading ----------------------------------------------------------------------

    async def read(self, stream: str, after_version: int = 0) -> list[Record]:
        """As Engine.read. Raises EngineUnavailable."""
        found: list[Record] = []
        room = room_of(stream)
        await self._entered(room)
        while True:
            start = f"({after_version}-0" if after_version else "-"
            [reply] = await self._ask(
                room, [["XRANGE", stream_key(stream), start, "+", "COUNT", READ_PAGE]]
            )
            page = read_entries(reply)
            for version, item in page:
                kind, data = item[b"k"].decode(), item[b"d"]
                found.append(Record(stream, version, kind, int(item[b"t"]), data, item[b"h"]))
            if len(page) < READ_PAGE:
                break
            after_version = found[-1].version
        if found:
            self._feed.learn_head(stream, found[-1].version, found[-1].hash)
        return found

    async def streams(self, prefix: str) -> list[str]:
        """As Engine.streams."""
        if prefix.count(":") > 1:
            rooms = [room_of(prefix)]
        else:
            try:
                rooms = await self._feed.names(self._present())
            except LinkLost as error:
                raise EngineUnavailable(f"the ledger is away: {error}") from None
        dated: list[tuple[float, str]] = []
        for room in rooms:
            command: list[Argument] = ["ZRANGE", room_key(room, "streams"), 0, -1, "WITHSCORES"]
            [reply] = await self._ask(room, [command])
            assert isinstance(reply, list)
            for pair in reply:
                assert isinstance(pair, list)
                name, score = pair
                assert isinstance(name, bytes) and isinstance(score, float | int)
                if name.decode().startswith(prefix):
                    dated.append((score, name.decode()))
        return [name for _, name in sorted(dated)]

    async def history(
        self, channel: str, since: Position | None, limit: int, *, reverse: bool = False
    ) -> HistoryPage:
        """As Engine.history. From memory where it reaches back, and forward, far enough."""
        room = await self._entered(room_of(channel))
        while True:
            ring = self._feed.rings.get(channel)
            epoch = room.epoch
            # A phone may come from a worker that heard more: memory cannot judge that.
            if ring is not None and (
                since is None or since.epoch != epoch or since.offset <= ring.head
            ):
                page = ring.page(epoch, since, limit, reverse=reverse)
                if page is not None:
                    return page
            oldest, head, found = await self._look(channel, since, limit, reverse=reverse)
            ring = self._feed.rings.get(channel) or self._feed.rings.open(channel, head)
            newer = ring.newer(head)
            if newer is None:
                continue  # more came while we read than memory holds: read again
            head = max(ring.head, head)
            if room.epoch != epoch:
                continue
            found = [*reversed(newer), *found] if reverse else [*found, *newer]
            is_recovered = since is None or (
                since.epoch == epoch and oldest - 1 <= since.offset <= head
            )
            kept = tuple(found if limit < 0 else found[:limit]) if is_recovered else ()
            return HistoryPage(Position(epoch, head), kept, is_recovered)

    async def _look(
        self, channel: str, since: Position | None, limit: int, *, reverse: bool
    ) -> tuple[int, int, list[Publication]]:
        """(oldest kept offset, newest offset, the publications asked for) from the server."""
        key = channel_key(channel)
        after = f"({since.offset}-0" if since is not None else "-"
        wanted: list[Argument] = (
            ["XREVRANGE", key, "+", after] if reverse else ["XRANGE", key, after, "+"]
        )
        commands: list[list[Argument]] = [
            ["XRANGE", key, "-", "+", "COUNT", 1],
            ["XREVRANGE", key, "+", "-", "COUNT", 1],
        ]
        if limit != 0:
            commands.append([*wanted, "COUNT", limit] if limit > 0 else wanted)
        # One transaction: the three must speak of the same moment.
        replies = await self._ask(room_of(channel), [["MULTI"], *commands, ["EXEC"]])
        results = replies[-1]
        assert isinstance(results, list)
        oldest, newest = read_entries(results[0]), read_entries(results[1])
        found = read_entries(results[2]) if limit != 0 else []
        return (
            oldest[0][0] if oldest else 0,
            newest[0][0] if newest else 0,
            [Publication(channel, offset, fields[b"d"]) for offset, fields in found],
        )

    # -- between workers --------------------------------------------------------------

    async def tell(self, room: str, data: bytes) -> None:
        """As SharedEngine.tell."""
        await self._entered(room)
        await self._ask(room, [["SPUBLISH", feed_of(room, self._database), TOLD + data]])

    async def add(self, room: str, deltas: Mapping[str, int]) -> dict[str, int]:
        """As SharedEngine.add."""
        await self._entered(room)
        key = room_key(room, "count")
        names = list(deltas)
        replies = await self._ask(room, [["HINCRBY", key, n, deltas[n]] for n in names])
        return {n: total for n, total in zip(names, replies, strict=True) if isinstance(total, int)}

    async def totals(self, room: str) -> dict[str, int]:
        """As SharedEngine.totals."""
        await self._entered(room)
        [reply] = await self._ask(room, [["HGETALL", room_key(room, "count")]])
        assert isinstance(reply, list)
        flat = [item for item in reply if isinstance(item, bytes)]
        return {n.decode(): int(v) for n, v in zip(flat[::2], flat[1::2], strict=True)}


async def _without_result(future: asyncio.Future[int]) -> None:
    await future


async def _nothing() -> None:
    return None
