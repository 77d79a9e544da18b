"""What is particular to the shared engine: two workers, and a server that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from interact.engine import (
    Conflict,
    EngineUnavailable,
    NewRecord,
    Outgoing,
    Position,
    Publication,
    Record,
)
from interact.engine_redis import RedisEngine
from interact.redis_link import RedisError
from tests.support.valkey import Valkey, running_valkey

LOT = "lot:r:1"
ROOM = "room:r"


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    with running_valkey() as server:
        yield server


def fact(number: int) -> NewRecord:
    return NewRecord("fact", number, b'{"n":%d}' % number)


def said(number: int) -> Outgoing:
    return Outgoing(ROOM, b'{"n":%d}' % number)


class Worker:
    """An engine and everything it was told."""

    def __init__(self, url: str, **options: bool) -> None:
        self.engine = RedisEngine(url, **options)
        self.heard: list[Publication] = []
        self.records: list[Record] = []
        self.told: list[tuple[str, bytes]] = []
        self.resyncs = 0
        self.losses = 0
        self.engine.follow(
            self.records.extend,
            lambda room, data: self.told.append((room, data)),
            self._resynced,
            self._lost,
        )

    def _resynced(self, room: str | None) -> None:
        self.resyncs += 1

    def _lost(self) -> None:
        self.losses += 1

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Worker]:
        await self.engine.start(self.heard.append)
        await self.engine.history(ROOM, None, 0)  # whoever reads a room listens to it
        try:
            yield self
        finally:
            await self.engine.close()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something that no single event tells."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come true"
        await asyncio.sleep(0.01)


async def test_each_worker_hears_everything_in_one_order(valkey: Valkey) -> None:
    async with Worker(valkey.url).open() as one, Worker(valkey.url).open() as two:
        await one.engine.append(LOT, 0, [fact(0)], [said(0)])
        await until(lambda: len(two.heard) == 1)
        for number in range(1, 51):
            worker = (one, two)[number % 2]
            await worker.engine.append(LOT, number, [fact(number)], [said(number)])
        await until(lambda: len(one.heard) == len(two.heard) == 51)
        assert one.heard == two.heard
        assert [p.offset for p in one.heard] == list(range(1, 52))
        assert one.records == two.records == await one.engine.read(LOT)


async def test_a_lost_race_writes_nothing_and_fails_what_stood_on_it(valkey: Valkey) -> None:
    async with Worker(valkey.url).open() as one, Worker(valkey.url).open() as two:
        await one.engine.append(LOT, 0, [fact(0)], [said(0)])
        await until(lambda: len(two.records) == 1)
        # Both decide on version 1 at once, and each adds a second decision on top.
        appends = [
            worker.engine.append(LOT, 1 + step, [fact(10 * name + step)], [said(10 * name + step)])
            for name, worker in ((1, one), (2, two))
            for step in (0, 1)
        ]
        results = await asyncio.gather(*appends, return_exceptions=True)
        winner = 0 if results[0] == 2 else 2
        assert results[winner : winner + 2] == [2, 3]
        assert [type(r) for r in results[2 - winner : 4 - winner]] == [Conflict, Conflict]
        stored = await one.engine.read(LOT)
        assert [r.at_ms for r in stored[1:]] == ([10, 11] if winner == 0 else [20, 21])
        await until(lambda: len(one.heard) == len(two.heard) == 3)


async def test_server_that_could_lose_writes_is_refused_unless_told_otherwise() -> None:
    with running_valkey(settings=["--appendfsync", "everysec"]) as valkey:
        with pytest.raises(RedisError, match="appendfsync is everysec, it must be always"):
            await RedisEngine(valkey.url).start(print)
        async with Worker(valkey.url, allow_weak_durability=True).open() as worker:
            assert worker.engine.stats()["weak_durability"] == 1
            assert await worker.engine.append(LOT, 0, [fact(0)]) == 1
    with (
        running_valkey(settings=["--appendonly", "no"]) as valkey,
        pytest.raises(RedisError, match="appendonly is no"),
    ):
        await RedisEngine(valkey.url).start(print)


async def test_nobody_there_is_one_clear_line() -> None:
    with pytest.raises(RedisError, match=r"127\.0\.0\.1:1 does not answer"):
        await RedisEngine("redis://127.0.0.1:1").start(print)
    with pytest.raises(RedisError, match="not redis://HOST:PORT/DB"):
        RedisEngine("http://127.0.0.1")


async def test_wrong_password_is_one_clear_line() -> None:
    with running_valkey(settings=["--requirepass", "right"]) as valkey:
        # The helper's own PING is refused too, which is how it knows that the server is up.
        url = valkey.url.replace("unix://", "unix://:wrong@")
        with pytest.raises(RedisError, match="refuses"):
            await RedisEngine(url).start(print)
        async with Worker(valkey.url.replace("unix://", "unix://:right@")).open() as worker:
            assert await worker.engine.append(LOT, 0, [fact(0)]) == 1


async def test_kill_9_of_the_server_under_load_loses_nothing_acknowledged(valkey: Valkey) -> None:
    async with Worker(valkey.url).open() as one, Worker(valkey.url).open() as two:
        acknowledged: list[int] = []
        busy = 0

        async def write(worker: Worker, stream: str) -> None:
            """Append on and on; after a failure look where the stream is."""
            nonlocal busy
            version = 0
            while len(acknowledged) < 3_000:
                outgoing = Outgoing(ROOM, b'{"s":"%b","v":%d}' % (stream.encode(), version + 1))
                try:
                    version = await worker.engine.append(
                        stream, version, [fact(version + 1)], [outgoing]
                    )
                    acknowledged.append(version)
                except EngineUnavailable:
                    busy += 1
                    await asyncio.sleep(0.02)
                    version = await newest(worker, stream)
                except Conflict:
                    version = await newest(worker, stream)

        async def newest(worker: Worker, stream: str) -> int:
            while True:
                try:
                    return len(await worker.engine.read(stream))
                except EngineUnavailable:
                    await asyncio.sleep(0.02)

        def has_acknowledged(count: int) -> bool:
            return len(acknowledged) >= count

        async def kill() -> None:
            for pause_s in (0.0, 1.5):
                wanted = len(acknowledged) + 300
                await until(partial(has_acknowledged, wanted))
                valkey.kill()
                await asyncio.sleep(pause_s)
                await asyncio.to_thread(valkey.start)

        async with asyncio.TaskGroup() as group:
            for name in range(4):
                group.create_task(write((one, two)[name % 2], f"lot:r:{name}"))
            group.create_task(kill())
        assert busy > 0, "an outage of 1.5 s must be felt"
        stored = [await one.engine.read(f"lot:r:{name}") for name in range(4)]
        assert sum(map(len, stored)) >= len(acknowledged)
        top = sum(map(len, stored))
        await until(lambda: one.heard[-1].offset == two.heard[-1].offset == top)
        for worker in (one, two):  # once, in order, whatever was missed
            assert [p.offset for p in worker.heard] == list(range(1, top + 1))
            assert worker.resyncs >= 2
            assert worker.losses == 0
        assert one.heard == two.heard


async def test_paused_server_is_given_up_and_found_again(valkey: Valkey) -> None:
    async with Worker(valkey.url).open() as worker:
        await worker.engine.append(LOT, 0, [fact(0)], [said(0)])
        valkey.pause()
        append = asyncio.ensure_future(worker.engine.append(LOT, 1, [fact(1)], [said(1)]))
        with pytest.raises(EngineUnavailable):
            async with asyncio.timeout(10):
                await append
        valkey.resume()
        await until(lambda: worker.engine.is_up)
        # What was refused may have been written all the same; whoever asks is told.
        version = len(await worker.engine.read(LOT))
        assert await worker.engine.append(LOT, version, [fact(9)], [said(9)]) == version + 1
        assert [p.offset for p in worker.heard] == list(range(1, version + 2))


async def test_append_whose_answer_was_lost_is_written_once(valkey: Valkey) -> None:
    async with Worker(valkey.url).open() as one, Worker(valkey.url).open() as two:
        await one.engine.append(LOT, 0, [fact(0)], [said(0)])
        await until(lambda: len(two.heard) == 1)
        for number in range(1, 30):
            append = asyncio.ensure_future(
                one.engine.append(LOT, number, [fact(number)], [said(number)])
            )
            publish = asyncio.ensure_future(one.engine.publish([said(100 + number)]))
            await asyncio.sleep(0.0005 * (number % 5))
            servers = one.engine._servers
            if servers is not None:
                servers.cut()  # the answer may be on its way
            assert await append == number + 1
            await publish
        await until(lambda: len(two.heard) == 59)
        assert one.heard == two.heard
        assert len(await two.engine.read(LOT)) == 30


async def test_history_is_read_from_the_server_where_another_worker_knew_more(
    valkey: Valkey,
) -> None:
    async with Worker(valkey.url).open() as one:
        await one.engine.append(LOT, 0, [fact(0)], [said(0)])
        async with Worker(valkey.url).open() as two:
            await two.engine.publish([said(1)])
            epoch = (await two.engine.history(ROOM, None, 0)).position.epoch
            page = await one.engine.history(ROOM, Position(epoch, 2), -1)
            assert page.recovered
            assert page.position == Position(epoch, 2)


async def test_forgetful_server_gets_a_new_epoch(valkey: Valkey) -> None:
    async with Worker(valkey.url).open() as worker:
        await worker.engine.append(LOT, 0, [fact(0)], [said(0)])
        before = (await worker.engine.history(ROOM, None, 0)).position
        valkey.command("FLUSHALL")
        valkey.command("CLIENT KILL TYPE normal")
        servers = worker.engine._servers
        assert servers is not None
        servers.cut()
        await until(lambda: worker.losses == 1)
        page = await worker.engine.history(ROOM, before, -1)
        assert not page.recovered
        assert page.position.epoch != before.epoch


async def test_workers_tell_each_other_and_count_together(valkey: Valkey) -> None:
    async with Worker(valkey.url).open() as one, Worker(valkey.url).open() as two:
        await two.engine.tell("r", b"hello")
        assert await one.engine.add("r", {"heart": 2}) == {"heart": 2}
        assert await two.engine.add("r", {"heart": 3, "wow": 1}) == {"heart": 5, "wow": 1}
        assert await one.engine.totals("r") == {"heart": 5, "wow": 1}
        await two.engine.append("lot:new:1", 0, [fact(0)])
        await until(lambda: one.resyncs >= 1)  # it heard of the new room
        await one.engine.tell("r", b"again")
        await until(lambda: two.told[-1:] == [("r", b"again")])


async def test_clock_is_the_servers(valkey: Valkey) -> None:
    async with Worker(valkey.url).open() as worker:
        reply = valkey.command("TIME").split(b"\r\n")
        server_ms = int(reply[2]) * 1000 + int(reply[4]) // 1000
        assert abs(worker.engine.clock() - server_ms) < 50
