"""The unmodified SDKs against the real rooms, ledger and bus."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from interact.bus import Bus
from interact.engine import Outgoing
from interact.engine_embedded import EmbeddedEngine
from interact.hub import Hub
from interact.protocol import Channel, Disconnect, Role, room_channel, tick_channel
from interact.rooms import RoomService
from server.auth import Tokens
from server.ws import BUS_PATH, token_checker
from tests.integration.sdk.clients import Json, Refusal, publications, sdk_client, seen
from tests.support.bus_server import now_ms, serving
from tests.support.tcp_relay import TcpRelay, tcp_relay

ROOM = "shop"
CHANNEL: Channel = room_channel(ROOM)


@dataclass
class House:
    """Rooms, ledger and bus behind a link that can be cut."""

    bus: Bus
    engine: EmbeddedEngine
    tokens: Tokens
    relay: TcpRelay

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.relay.port}{BUS_PATH}"

    def token(self, identity: str, role: Role = Role.VIEWER, ttl_s: int = 600) -> str:
        return self.tokens.issue(
            room=ROOM, role=role, identity=identity, now=time.time(), ttl_s=ttl_s
        )

    async def publish(self, *numbers: int) -> None:
        await self.engine.publish([Outgoing(CHANNEL, b'{"n":%d}' % n) for n in numbers])


@contextlib.asynccontextmanager
async def house(data: Path, relay: TcpRelay) -> AsyncIterator[House]:
    """Open the house behind `relay`, which lets nobody in before and after."""
    engine = EmbeddedEngine(data)
    hub = Hub()
    rooms = RoomService(engine, clock=now_ms, on_tick=hub.publish_tick)
    tokens = Tokens(b"s" * 32)
    bus = Bus(engine, rooms, token_checker(tokens, now_ms), now_ms, hub=hub)
    await engine.start(hub.publish)
    await rooms.start()
    async with serving(bus) as port:
        relay.target_port = port
        relay.heal()
        yield House(bus, engine, tokens, relay)
        relay.refuse()
    await rooms.close()
    await engine.close()


@pytest.fixture
async def relay() -> AsyncIterator[TcpRelay]:
    async with tcp_relay() as link:
        yield link


def is_publication(offset: int) -> Callable[[Json], bool]:
    return lambda event: event["event"] == "publication" and event["offset"] == offset


@pytest.fixture(params=["python", "node"])
def kind(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


async def test_connects_receives_pushes_and_calls(
    kind: str, tmp_path: Path, relay: TcpRelay
) -> None:
    async with house(tmp_path, relay) as it, sdk_client(kind) as sdk:
        await sdk.open(it.url, it.token("ann"))
        connected = await seen(sdk, lambda e: e["event"] == "connected", "connected")
        assert connected["data"] == {
            "room": ROOM,
            "identity": "ann",
            "name": "",
            "role": "viewer",
        }
        await seen(sdk, lambda e: e.get("channel") == f"user:{ROOM}:ann", "own channel")
        await it.publish(1)
        push = await seen(sdk, lambda e: e["event"] == "publication", "publication")
        assert push == {
            "event": "publication",
            "channel": CHANNEL,
            "offset": 1,
            "data": {"n": 1},
        }
        before = now_ms()
        assert before <= (await sdk.rpc("clock.now", {}))["now"] <= now_ms()
        with pytest.raises(Refusal) as refused:
            await sdk.rpc("bid.place", {"lot": "none", "amount": 1, "key": "k"})
        assert (refused.value.code, refused.value.message) == (1000, "not_open")
        assert not refused.value.temporary
        with pytest.raises(Refusal) as refused:
            await sdk.rpc("no.such", {})
        assert refused.value.code == 104
        history = await sdk.history(CHANNEL, limit=10)
        assert [p["data"] for p in history["publications"]] == [{"n": 1}]
        assert await sdk.presence_stats(CHANNEL) == (1, 1)


async def test_cut_link_recovers_missed_events_in_order(
    kind: str, tmp_path: Path, relay: TcpRelay
) -> None:
    async with house(tmp_path, relay) as it, sdk_client(kind) as sdk:
        await sdk.open(it.url, it.token("ann"))
        await seen(sdk, lambda e: e.get("channel") == CHANNEL, "subscription")
        await it.publish(1, 2)
        await seen(sdk, lambda e: e.get("offset") == 2, "publication 2")
        it.relay.cut()
        await seen(sdk, lambda e: e["event"] == "connecting" and e["code"] != 0, "reconnecting")
        await it.publish(3, 4, 5)
        it.relay.heal()
        recovered = await seen(
            sdk, lambda e: e.get("wasRecovering") and e.get("channel") == CHANNEL, "recovery"
        )
        assert recovered["recovered"] is True
        await it.publish(6)
        await seen(sdk, lambda e: e.get("offset") == 6, "publication 6")
        assert publications(sdk, CHANNEL) == [1, 2, 3, 4, 5, 6]
        assert [e["data"]["n"] for e in sdk.events if e["event"] == "publication"] == [*range(1, 7)]


async def test_recovers_while_publications_keep_coming(
    kind: str, tmp_path: Path, relay: TcpRelay
) -> None:
    async with house(tmp_path, relay) as it, sdk_client(kind) as sdk:
        await sdk.open(it.url, it.token("ann"))
        await seen(sdk, lambda e: e.get("channel") == CHANNEL, "subscription")
        last = 0
        for _ in range(5):
            for n in range(last + 1, last + 41):
                await it.publish(n)
                if n == last + 20:
                    it.relay.cut()
                    it.relay.heal()
            last += 40
            await seen(sdk, is_publication(last), f"publication {last}")
        assert publications(sdk, CHANNEL) == list(range(1, last + 1))


async def test_recovers_after_a_restart_of_the_server(
    kind: str, tmp_path: Path, relay: TcpRelay
) -> None:
    """The epoch is stored with the ledger, so an offset means the same afterwards."""
    async with sdk_client(kind) as sdk:
        async with house(tmp_path, relay) as it:
            await sdk.open(it.url, it.token("ann"))
            await seen(sdk, lambda e: e.get("channel") == CHANNEL, "subscription")
            await it.publish(1)
            await seen(sdk, is_publication(1), "publication 1")
        stop = await seen(sdk, lambda e: e["event"] == "connecting" and e["code"] > 1, "stop")
        assert stop["code"] == Disconnect.SHUTDOWN
        async with house(tmp_path, relay) as it:
            await it.publish(2)
            recovered = await seen(
                sdk, lambda e: e.get("wasRecovering") and e.get("channel") == CHANNEL, "recovery"
            )
            assert recovered["recovered"] is True
            await it.publish(3)
            await seen(sdk, is_publication(3), "publication 3")
            assert publications(sdk, CHANNEL) == [1, 2, 3]


async def test_expired_token_is_replaced_and_the_connection_goes_on(
    kind: str, tmp_path: Path, relay: TcpRelay
) -> None:
    async with house(tmp_path, relay) as it, sdk_client(kind) as sdk:
        old = it.tokens.issue(
            room=ROOM, role=Role.VIEWER, identity="ann", now=time.time() - 60, ttl_s=1
        )
        ttls = iter([2, 600])
        await sdk.open(it.url, old, lambda: it.token("ann", ttl_s=next(ttls)))
        # 109 makes it fetch a token of two seconds; that one is refreshed in place.
        await seen(sdk, lambda e: e["event"] == "connected", "connected")
        assert len([e for e in sdk.events if e["event"] == "token_wanted"]) == 1
        await seen(sdk, lambda e: e["event"] == "token_wanted", "request for a token", count=2)
        before = now_ms()
        assert (await sdk.rpc("clock.now", {}))["now"] >= before
        assert len([e for e in sdk.events if e["event"] == "connected"]) == 1
        assert it.bus.hub.stats.refusals["expired_token"] == 1


async def test_bad_token_ends_it_for_good(kind: str, tmp_path: Path, relay: TcpRelay) -> None:
    async with house(tmp_path, relay) as it, sdk_client(kind) as sdk:
        await sdk.open(it.url, "nonsense")
        end = await seen(sdk, lambda e: e["event"] == "disconnected", "end")
        assert (end["code"], end["reason"]) == (3500, "invalid token")


async def test_client_side_subscription_gets_ticks_and_survives_a_forced_reconnect(
    kind: str, tmp_path: Path, relay: TcpRelay
) -> None:
    async with house(tmp_path, relay) as it, sdk_client(kind) as sdk:
        await sdk.open(it.url, it.token("ann"))
        await seen(sdk, lambda e: e["event"] == "connected", "connected")
        tick = tick_channel(ROOM)
        await sdk.subscribe(tick)
        await seen(sdk, lambda e: e.get("channel") == tick, "subscribed")
        it.bus.hub.publish_tick(tick, b'{"viewers":7}')
        await seen(sdk, lambda e: e.get("data") == {"viewers": 7}, "tick")
        sdk.events.clear()
        assert it.bus.disconnect("ann", ROOM, Disconnect.SERVER_ERROR) == 1
        await seen(
            sdk, lambda e: e["event"] == "subscribed" and e["channel"] == tick, "subscribed again"
        )
        it.bus.hub.publish_tick(tick, b'{"viewers":8}')
        await seen(sdk, lambda e: e.get("data") == {"viewers": 8}, "tick")


async def test_lot_is_seen_alike_by_both_sdks(tmp_path: Path, relay: TcpRelay) -> None:
    """A host on one SDK, a bidder on the other, one auction."""
    async with (
        house(tmp_path, relay) as it,
        sdk_client("python") as host,
        sdk_client("node") as bidder,
    ):
        await host.open(it.url, it.token("eve", Role.HOST))
        await bidder.open(it.url, it.token("ann"))
        for sdk in (host, bidder):
            await seen(sdk, lambda e: e.get("channel") == CHANNEL, "subscription")
        lot = (
            await host.rpc(
                "lot.create",
                {
                    "title": "Bowl",
                    "format": "english",
                    "currency": "EUR",
                    "start_price": 1_000,
                    "increment": 100,
                    "duration_ms": 60_000,
                },
            )
        )["lot"]
        await host.rpc("lot.start", {"lot": lot})
        reply = await bidder.rpc("bid.place", {"lot": lot, "amount": 1_000, "key": "k1"})
        assert reply["price"] == 1_000
        with pytest.raises(Refusal) as refused:
            await bidder.rpc("bid.place", {"lot": lot, "amount": 5_000, "key": "k2"})
        assert (refused.value.code, refused.value.message) == (1002, "own_lead")
        for sdk in (host, bidder):
            await seen(
                sdk,
                lambda e: e["event"] == "publication" and e["data"]["type"] == "bid.accepted",
                "bid.accepted",
            )
        receipt = await seen(
            bidder,
            lambda e: e["event"] == "publication" and e["channel"] == f"user:{ROOM}:ann",
            "receipt",
        )
        assert receipt["data"]["type"] == "bid.receipt"
        assert publications(host, CHANNEL) == publications(bidder, CHANNEL)
