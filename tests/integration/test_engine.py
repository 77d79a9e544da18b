"""What every engine must do. An engine joins by one line in ENGINES."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from interact.engine import (
    Conflict,
    Engine,
    NewRecord,
    Outgoing,
    Position,
    Publication,
)
from interact.engine_embedded import EmbeddedEngine
from interact.engine_redis import RedisEngine
from tests.support.valkey import Valkey, running_valkey


def embedded(place: Path) -> Engine:
    """The SQLite engine; `place` is its data directory."""
    return EmbeddedEngine(place)


def shared(place: Path) -> Engine:
    """The engine on a real Valkey whose address stands in `place`."""
    return RedisEngine((place / "url").read_text())


ENGINES: dict[str, Callable[[Path], Engine]] = {
    "embedded": embedded,
    "valkey": shared,
    "valkey-cluster": shared,
}

# Streams and channels of one room: what one append may write to.
S, T = "lot:r:s", "lot:r:t"


class Store:
    """One engine's storage, which can be opened again and again."""

    def __init__(self, make: Callable[[Path], Engine], place: Path) -> None:
        self._make = make
        self._place = place
        self.heard: list[Publication] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Engine]:
        """The engine, started; what it publishes is added to `heard`."""
        engine = self._make(self._place)
        await engine.start(self.heard.append)
        try:
            yield engine
        finally:
            await engine.close()


@pytest.fixture(scope="module", params=sorted(ENGINES))
def kind(request: pytest.FixtureRequest) -> Iterator[tuple[str, Valkey | None]]:
    """An engine's name, and the server it needs; one server for all tests of it."""
    if request.param == "embedded":
        yield request.param, None
        return
    with running_valkey(is_cluster=request.param == "valkey-cluster") as valkey:
        yield request.param, valkey


@pytest.fixture
def store(kind: tuple[str, Valkey | None], tmp_path: Path) -> Store:
    name, valkey = kind
    if valkey is not None:
        valkey.command("FLUSHALL")
        (tmp_path / "url").write_text(valkey.url)
    return Store(ENGINES[name], tmp_path)


def fact(number: int) -> NewRecord:
    return NewRecord("fact", 1_000 + number, b'{"n":%d}' % number)


def said(channel: str, number: int) -> Outgoing:
    return Outgoing(channel, b'{"n":%d}' % number)


async def outcome(append: Awaitable[int]) -> int | type[BaseException]:
    try:
        return await append
    except Exception as error:
        return type(error)


async def test_appended_records_are_read_in_order(store: Store) -> None:
    async with store.open() as engine:
        assert await engine.append(S, 0, [fact(1), fact(2)]) == 2
        assert await engine.append(S, 2, [fact(3)]) == 3
        records = await engine.read(S)
        assert [(r.version, r.kind, r.at_ms, r.data) for r in records] == [
            (n, "fact", 1_000 + n, b'{"n":%d}' % n) for n in (1, 2, 3)
        ]
        assert [r.version for r in await engine.read(S, 2)] == [3]
        assert await engine.read(S, 3) == []
        assert await engine.read("other") == []


async def test_each_hash_covers_the_one_before(store: Store) -> None:
    async with store.open() as engine:
        await engine.append(S, 0, [fact(1), fact(1)])
        await engine.append(T, 0, [fact(1)])
        one, two = await engine.read(S)
        [other] = await engine.read(T)
        assert len({one.hash, two.hash, other.hash}) == 3
        assert len(one.hash) == 32


async def test_wrong_version_is_a_conflict_and_writes_nothing(store: Store) -> None:
    async with store.open() as engine:
        await engine.append(S, 0, [fact(1)])
        for expected in (0, 2):
            with pytest.raises(Conflict):
                await engine.append(S, expected, [fact(9)], [said("room:r", 9)])
        assert len(await engine.read(S)) == 1
        assert store.heard == []
        assert await engine.append(S, 1, [fact(2)], [said("room:r", 2)]) == 2
        assert [p.offset for p in store.heard] == [1]


async def test_appends_queue_in_call_order(store: Store) -> None:
    async with store.open() as engine:
        appends = [
            engine.append(S, number, [fact(number)], [said("room:r", number)])
            for number in range(200)
        ]
        assert await asyncio.gather(*appends) == list(range(1, 201))
        assert [p.data for p in store.heard] == [b'{"n":%d}' % n for n in range(200)]
        assert [p.offset for p in store.heard] == list(range(1, 201))


async def test_everything_queued_behind_a_conflict_fails_even_where_it_would_fit(
    store: Store,
) -> None:
    async with store.open() as engine:
        await engine.append(S, 0, [fact(1)])
        # Decided on version 0, which is gone; the next two were decided on top of that.
        appends = [engine.append(S, version, [fact(9)]) for version in (0, 1, 2)]
        bystander = engine.append(T, 0, [fact(1)])
        assert [await outcome(append) for append in appends] == [Conflict] * 3
        assert await bystander == 1
        assert len(await engine.read(S)) == 1
        assert await engine.append(S, 1, [fact(2)]) == 2


async def test_listener_hears_before_the_append_is_answered(store: Store) -> None:
    async with store.open() as engine:
        await engine.append(S, 0, [fact(1)], [said("room:r", 1), said("user:r:a", 2)])
        assert [(p.channel, p.offset) for p in store.heard] == [("room:r", 1), ("user:r:a", 1)]
        await engine.publish([said("room:r", 3)])
        assert (store.heard[-1].channel, store.heard[-1].offset) == ("room:r", 2)


async def test_cancelled_caller_does_not_undo_the_append(store: Store) -> None:
    async with store.open() as engine:
        task = asyncio.ensure_future(engine.append(S, 0, [fact(1)], [said("room:r", 1)]))
        task.cancel()
        assert await engine.append(S, 1, [fact(2)]) == 2
        assert len(store.heard) == 1


async def test_streams_are_listed_by_prefix_in_order_of_creation(store: Store) -> None:
    async with store.open() as engine:
        for name in ("lot:b:1", "lot:a:1", "room:a", "lot:a:2", "lot:%:1"):
            await engine.append(name, 0, [fact(1)])
        assert await engine.streams("lot:a:") == ["lot:a:1", "lot:a:2"]
        assert await engine.streams("lot:") == ["lot:b:1", "lot:a:1", "lot:a:2", "lot:%:1"]
        assert await engine.streams("lot:%") == ["lot:%:1"]
        assert await engine.streams("none") == []


async def test_history_since_a_position(store: Store) -> None:
    async with store.open() as engine:
        for number in range(1, 11):
            await engine.publish([said("room:r", number)])
        position = (await engine.history("room:r", None, 0)).position
        assert position.offset == 10
        epoch = position.epoch
        for since, limit, offsets in (
            (Position(epoch, 7), -1, [8, 9, 10]),
            (Position(epoch, 7), 2, [8, 9]),
            (Position(epoch, 10), -1, []),
            (Position(epoch, 0), 3, [1, 2, 3]),
            (None, -1, list(range(1, 11))),
            (None, 2, [1, 2]),
        ):
            page = await engine.history("room:r", since, limit)
            assert page.recovered
            assert page.position == position
            assert [p.offset for p in page.publications] == offsets
        for since, limit, offsets in (
            (None, 3, [10, 9, 8]),
            (None, -1, list(range(10, 0, -1))),
            (Position(epoch, 8), -1, [10, 9]),
        ):
            page = await engine.history("room:r", since, limit, reverse=True)
            assert [p.offset for p in page.publications] == offsets


async def test_empty_channel_has_a_position_and_recovers_from_it(store: Store) -> None:
    async with store.open() as engine:
        page = await engine.history("user:r:a", None, -1)
        assert (page.position.offset, page.publications, page.recovered) == (0, (), True)
        again = await engine.history("user:r:a", page.position, -1)
        assert again.recovered
        await engine.publish([said("user:r:a", 1)])
        after = await engine.history("user:r:a", page.position, -1)
        assert [p.offset for p in after.publications] == [1]


@pytest.mark.parametrize("is_reopened", [False, True])
async def test_position_of_another_life_is_not_recovered(store: Store, is_reopened: bool) -> None:
    async with store.open() as engine:
        await engine.publish([said("room:r", 1)])
        epoch = (await engine.history("room:r", None, 0)).position.epoch
        if not is_reopened:
            await check_foreign_positions(engine, epoch)
    if is_reopened:
        async with store.open() as engine:
            await check_foreign_positions(engine, epoch)


async def check_foreign_positions(engine: Engine, epoch: str) -> None:
    for since in (Position("another", 1), Position("another", 0), Position(epoch, 2)):
        page = await engine.history("room:r", since, -1)
        assert not page.recovered
        assert page.publications == ()
        assert page.position == Position(epoch, 1)


async def test_reopened_store_goes_on_where_it_was(store: Store) -> None:
    async with store.open() as engine:
        await engine.append(S, 0, [fact(1)], [said("room:r", 1)])
        before = await engine.history("room:r", None, 0)
    async with store.open() as engine:
        page = await engine.history("room:r", Position(before.position.epoch, 0), -1)
        assert page.recovered
        assert page.position == before.position
        assert [p.data for p in page.publications] == [b'{"n":1}']
        with pytest.raises(Conflict):
            await engine.append(S, 0, [fact(9)])
        assert await engine.append(S, 1, [fact(2)], [said("room:r", 2)]) == 2
        assert [p.offset for p in store.heard] == [1, 2]
        assert len(await engine.read(S)) == 2


async def test_close_finishes_what_was_accepted(store: Store) -> None:
    async with store.open() as engine:
        appends = [engine.append(S, number, [fact(number)]) for number in range(50)]
    assert [await append for append in appends] == list(range(1, 51))
    async with store.open() as engine:
        assert len(await engine.read(S)) == 50


async def test_history_never_shows_what_the_listener_has_not_heard(store: Store) -> None:
    async with store.open() as engine:
        await engine.publish([said("room:r", 0)])
    store.heard.clear()
    async with store.open() as engine:
        # The channel is not in memory now: the first look reads the disk while others write.
        publishing = [asyncio.ensure_future(engine.publish([said("room:r", n)])) for n in range(99)]
        for _ in range(20):
            page = await engine.history("room:r", None, -1)
            assert page.position.offset == (store.heard[-1].offset if store.heard else 1)
            assert [p.offset for p in page.publications] == list(range(1, page.position.offset + 1))
        await asyncio.gather(*publishing)
