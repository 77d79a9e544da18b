"""Four web workers on one Valkey: any of them serves any phone and decides any bid."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

from interact.protocol import Role
from loadtest.bus import BusClient, CallRefused, Disconnected
from tests.integration.test_signaling import publishing
from tests.support.server import ROOT, Server, clean_environment, running_server
from tests.support.valkey import Valkey, running_valkey

ROOM = "shop"
WORKERS = 4
LOT = {
    "format": "english",
    "currency": "TWD",
    "start_price": 1_000,
    "increment": 100,
    "title": "Teapot",
}


class Phone:
    """One connected person, everything they heard, and every bid they were answered."""

    def __init__(self, server: Server, identity: str, role: Role = Role.VIEWER) -> None:
        token = server.token(ROOM, role, identity=identity)

        async def fetch() -> str:
            return token

        self.identity = identity
        self.events: list[dict[str, Any]] = []
        self.tick: dict[str, Any] = {}
        self.accepted: dict[tuple[str, str, int], dict[str, Any]] = {}
        self.busy = 0
        self.bus = BusClient(server.ws_url, fetch, self._hear)
        self.bus.on_connected = self._watch_ticks
        self.watching: set[asyncio.Task[Any]] = set()
        self.task = asyncio.create_task(self.bus.run())

    def _watch_ticks(self) -> None:
        """Subscribe, after every connect, as a page's SDK does."""
        self.tick = {}
        task = asyncio.create_task(self.bus._command({"subscribe": {"channel": f"tick:{ROOM}"}}))
        self.watching.add(task)
        task.add_done_callback(self._watched)

    def _watched(self, task: asyncio.Task[Any]) -> None:
        self.watching.discard(task)
        if not task.cancelled() and task.exception() is not None:
            assert isinstance(task.exception(), Disconnected | TimeoutError)

    def _hear(self, channel: str, event: dict[str, Any], _now: float) -> None:
        if channel == f"room:{ROOM}":
            self.events.append(event)
        elif channel == f"tick:{ROOM}":
            self.tick = event

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A call that survives a broken connection, as a page's calls do."""
        while True:
            await self.bus.connected.wait()
            try:
                return await self.bus.call(method, params)
            except Disconnected:
                await asyncio.sleep(0.02)

    async def bid(self, lot: str, amount: int, key: str) -> dict[str, Any] | str:
        """An open bid, repeated with the same key while the answer is `busy`."""
        while True:
            try:
                reply = await self.call("bid.place", lot=lot, amount=amount, key=key)
            except CallRefused as refused:
                if refused.reason in ("busy", "rate_limited"):
                    self.busy += refused.reason == "busy"
                    await asyncio.sleep(0.1)
                    continue
                return refused.reason
            self.accepted[lot, key, amount] = reply
            return reply

    def of_lot(self, lot: str) -> list[dict[str, Any]]:
        """What the room was told of a lot."""
        return [event for event in self.events if event.get("lot") == lot]


@asynccontextmanager
async def shop(valkey: Valkey, *, phones: int) -> AsyncIterator[tuple[Server, list[Phone]]]:
    """Four workers, a host (first) and phones, spread over all of them."""
    arguments = ["--redis", valkey.url, "--web-workers", str(WORKERS)]
    async with running_server(arguments=arguments) as server:
        people = [Phone(server, "host", Role.HOST)]
        people += [Phone(server, f"phone-{number}") for number in range(phones)]
        try:
            for phone in people:
                await asyncio.wait_for(phone.bus.connected.wait(), 20)
            while min(await workers_with_phones(server)) == 0:
                assert len(people) < 200
                people.append(Phone(server, f"phone-{len(people)}"))
                await asyncio.wait_for(people[-1].bus.connected.wait(), 20)
            yield server, people
        finally:
            for phone in people:
                phone.task.cancel()
            await asyncio.gather(*(phone.task for phone in people), return_exceptions=True)


async def workers_with_phones(server: Server) -> list[int]:
    """Viewers connected to each worker."""
    return [
        int(await server.metric("livehouse_bus_connections", role="viewer", web=str(index)))
        for index in range(WORKERS)
    ]


async def reconnected(phone: Phone) -> None:
    """Lose the connection and be back, at any worker."""
    connects = phone.bus.counts.connects
    phone.bus.drop()
    await until(lambda: phone.bus.counts.connects > connects)


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait for something that no single event tells."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come true"
        await asyncio.sleep(0.02)


async def bid_war(phones: list[Phone], lot: str, rounds: int, seed: int) -> None:
    """Every phone bids the least it may, against all others, `rounds` times."""

    async def fight(phone: Phone, rng: random.Random) -> None:
        for number in range(rounds):
            state = await phone.call("lot.state", lot=lot)
            amount = state["minimum"] + 100 * rng.randrange(3)
            await phone.bid(lot, amount, f"{number}")
            await asyncio.sleep(rng.random() * 0.05)

    async with asyncio.TaskGroup() as group:
        for number, phone in enumerate(phones):
            group.create_task(fight(phone, random.Random(seed * 1_000 + number)))


async def news(phone: Phone, lot: str, count: int) -> None:
    """Wait for so many more events of a lot."""
    wanted = len(phone.of_lot(lot)) + count
    await until(lambda: len(phone.of_lot(lot)) >= wanted)


def check_one_story(people: list[Phone], lot: str) -> list[dict[str, Any]]:
    """Everybody heard the same, and it is what the bidders were answered."""
    story = people[0].of_lot(lot)
    for phone in people:
        assert phone.of_lot(lot) == story, phone.identity
        assert phone.bus.counts.gaps == 0
        assert phone.bus.counts.unrecovered == 0
    bids = [event for event in story if event["type"] == "bid.accepted"]
    assert [bid["seq"] for bid in bids] == list(range(1, len(bids) + 1))
    prices = [bid["price"] for bid in bids]
    assert all(low < high for low, high in pairwise(prices))
    by_seq = {bid["seq"]: bid for bid in bids}
    for phone in people:
        for (of, _, amount), reply in phone.accepted.items():
            if of == lot:
                assert by_seq[reply["seq"]]["price"] == reply["price"] == amount
                assert by_seq[reply["seq"]]["leader"] == phone.identity
    answered = sum(of == lot for phone in people for of, _, _ in phone.accepted)
    assert answered == len(bids)
    return story


async def check_ledger(valkey: Valkey) -> None:
    """`livehouse verify --redis`, as an operator would."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-P", "-m", "server", "verify", "--redis", valkey.url],
        capture_output=True,
        text=True,
        env=clean_environment() | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok " in done.stdout


async def new_lot(host: Phone, duration_ms: int = 60_000) -> str:
    """A lot that is open."""
    reply = await host.call("lot.create", duration_ms=duration_ms, **LOT)
    await host.call("lot.start", lot=reply["lot"])
    return str(reply["lot"])


async def test_any_worker_decides_and_everybody_sees_one_order() -> None:
    with running_valkey() as valkey:
        async with shop(valkey, phones=24) as (_, people):
            host, *phones = people
            lot = await new_lot(host, duration_ms=6_000)
            await bid_war(phones, lot, rounds=8, seed=1)
            await until(lambda: all(p.of_lot(lot)[-1]["type"] == "lot.sold" for p in people))
            story = check_one_story(people, lot)
            assert sum(event["type"] == "lot.sold" for event in story) == 1
            bids = [event for event in story if event["type"] == "bid.accepted"]
            assert story[-1]["winner"] == bids[-1]["leader"]

            # A key that was answered by one worker is answered alike by any other.
            phone = max(phones, key=lambda p: len(p.accepted))
            (_, key, amount), reply = next(iter(phone.accepted.items()))
            for _ in range(6):
                await reconnected(phone)
                assert await phone.bid(lot, amount, key) == reply

            # Counters and presence are exact wherever one asks.
            await asyncio.gather(*(p.call("cheer.tap", kind="heart", count=3) for p in phones))
            wanted = {"heart": 3 * len(phones)}
            await until(
                lambda: all(
                    p.tick.get("cheers") == wanted and p.tick["viewers"] == len(phones)
                    for p in people
                )
            )
            for p in people:
                stats = await p.bus._command({"presence_stats": {"channel": f"room:{ROOM}"}})
                assert stats["presence_stats"]["num_clients"] == len(people)
            await check_ledger(valkey)


async def test_killed_worker_loses_nothing_and_its_phones_go_elsewhere() -> None:
    with running_valkey() as valkey:
        async with shop(valkey, phones=24) as (server, people):
            host, *phones = people
            lot = await new_lot(host)
            children = server.children()
            war = asyncio.create_task(bid_war(phones, lot, rounds=12, seed=2))
            for index in (1, 3):
                await news(host, lot, 10)
                os.kill(children[f"web{index}"], signal.SIGKILL)
            await war
            await host.call("lot.cancel", lot=lot, reason="enough")
            await until(lambda: all(p.of_lot(lot)[-1]["type"] == "lot.cancelled" for p in people))
            check_one_story(people, lot)
            assert sum(p.bus.counts.connects > 1 for p in people) > 0
            # The dead workers' phones are not counted twice for long.
            await until(lambda: all(p.tick.get("viewers") == len(phones) for p in people))
            await server.wait_ready()
            await check_ledger(valkey)


async def test_valkey_killed_is_busy_then_goes_on() -> None:
    with running_valkey() as valkey:
        async with shop(valkey, phones=16) as (server, people):
            host, *phones = people
            lot = await new_lot(host)
            war = asyncio.create_task(bid_war(phones, lot, rounds=12, seed=3))
            await news(host, lot, 20)
            valkey.kill()
            await until(lambda: any(p.busy for p in phones))
            assert (await server.http.get("/readyz")).status_code == 503
            await asyncio.to_thread(valkey.start)
            await war
            await server.wait_ready()
            await host.call("lot.cancel", lot=lot, reason="enough")
            await until(lambda: all(p.of_lot(lot)[-1]["type"] == "lot.cancelled" for p in people))
            check_one_story(people, lot)
            await check_ledger(valkey)


async def test_each_notice_of_a_camera_is_published_once() -> None:
    with running_valkey() as valkey:
        async with shop(valkey, phones=4) as (server, people):

            def notices(*types: str) -> list[dict[str, Any]]:
                return [event for event in people[-1].events if event["type"] in types]

            async with publishing(server, "left"):
                await until(lambda: len(notices("program.changed")) == 1)
                assert [n["camera"] for n in notices("camera.live")] == ["left"]
                # Whoever takes over publishing says nothing that was said already.
                for index in range(WORKERS - 1):
                    os.kill(server.children()[f"web{index}"], signal.SIGKILL)
                await until(lambda: all(p.bus.connected.is_set() for p in people))
                await server.wait_ready()
                state = await people[-1].call("room.state")
                assert [c["live"] for c in state["cameras"]] == [True]
            await until(lambda: len(notices("camera.offline")) == 1)
            await asyncio.sleep(1.0)  # whoever wanted to say it again has had the time
            history = await people[-1].bus._command(
                {"history": {"channel": f"room:{ROOM}", "limit": -1}}
            )
            told = [p["data"] for p in history["history"]["publications"]]
            assert [n["type"] for n in told if n["type"].startswith("camera.")] == [
                "camera.live",
                "camera.offline",
            ]
            programs = [n["camera"] for n in told if n["type"] == "program.changed"]
            assert programs in (["left"], ["left", None])
