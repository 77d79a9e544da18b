"""The public contract as a stranger's program meets it: the real server, from outside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from interact.protocol import Reason
from loadtest.bus import BusClient, CallRefused, Disconnected
from tests.support.server import ROOT, Server, children_of, clean_environment, running_server

Json = dict[str, Any]
ROOM = "shop"


class Phone:
    """One person on the bus: what they call and every event that reached them."""

    def __init__(self, server: Server, identity: str, role: str = "viewer") -> None:
        self.identity = identity
        self.events: list[tuple[str, Json]] = []
        token = server.token(ROOM, role, identity=identity)

        async def give_token() -> str:
            return token

        self.bus = BusClient(server.ws_url, give_token, self._note)

    def _note(self, channel: str, data: Json, now: float) -> None:
        self.events.append((channel, data))

    def heard(self, kind: str) -> list[Json]:
        return [data for _, data in self.events if data["type"] == kind]

    async def until(self, kind: str, **fields: object) -> Json:
        """The first event of that type with those fields, now or later."""
        async with asyncio.timeout(20):
            while True:
                for data in self.heard(kind):
                    if all(data.get(key) == value for key, value in fields.items()):
                        return data
                await asyncio.sleep(0.01)

    async def refusal(self, method: str, data: Json) -> CallRefused:
        with pytest.raises(CallRefused) as caught:
            await self.bus.call(method, data)
        return caught.value


@contextlib.asynccontextmanager
async def phones(server: Server, *people: tuple[str, str]) -> AsyncIterator[list[Phone]]:
    """Phones that are connected, and stay so across a server's restart."""
    group = [Phone(server, identity, role) for identity, role in people]
    tasks = [asyncio.create_task(phone.bus.run()) for phone in group]
    try:
        for phone in group:
            await asyncio.wait_for(phone.bus.connected.wait(), 20)
        yield group
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def lot_spec(**changes: object) -> Json:
    return {
        "title": "Oolong, spring harvest",
        "format": "english",
        "currency": "TWD",
        "start_price": 1000,
        "increment": 100,
        "duration_ms": 600_000,
        **changes,
    }


async def open_lot(host: Phone, **changes: object) -> str:
    lot = (await host.bus.call("lot.create", lot_spec(**changes)))["lot"]
    await host.bus.call("lot.start", {"lot": lot})
    return str(lot)


async def livehouse(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the program to its end."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-P", "-m", "server", *arguments],
        capture_output=True,
        text=True,
        env=clean_environment(),
        cwd=ROOT,
        timeout=60,
    )


async def test_token_command_prints_one_token_and_nothing_else(tmp_path: Path) -> None:
    done = await livehouse(
        *("token", "--room", "r1", "--role", "camera", "--camera", "left"),
        *("--identity", "kit-1", "--ttl", "60", "--data", str(tmp_path)),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    claims = jwt.decode(done.stdout.strip(), options={"verify_signature": False})
    assert claims["sub"] == "kit-1"
    assert (claims["room"], claims["role"], claims["camera"]) == ("r1", "camera", "left")
    assert 0 < claims["exp"] - time.time() <= 60


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["serve", "--http-port", "99999"], "http-port"),
        (["serve", "--media-workers", "none"], "media-workers"),
        (["serve", "--web-workers", "0"], "web-workers"),
        (["serve", "--redis", "ftp://nowhere"], "redis"),
        (["token", "--room", "a b", "--role", "viewer"], "room"),
        (["token", "--room", "a", "--role", "king"], "role"),
    ],
)
async def test_bad_value_ends_with_2_and_one_line(
    arguments: list[str], key: str, tmp_path: Path
) -> None:
    done = await livehouse(*arguments, "--data", str(tmp_path))
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert key in lines[0]
    assert arguments[-1] in lines[0] or key == "room"


async def test_every_http_refusal_is_complete_problem_json() -> None:
    async with running_server() as server:
        viewer = server.bearer(ROOM)
        sdp = {"Content-Type": "application/sdp"}
        asked = [
            await server.http.post(f"/whep/{ROOM}", headers=sdp, content="v=0"),
            await server.http.post(f"/whep/{ROOM}", headers=sdp | viewer, content="v=0"),
            await server.http.post(f"/whip/{ROOM}/main", headers=sdp | viewer, content="v=0"),
            await server.http.post("/whep/other", headers=sdp | viewer, content="v=0"),
            await server.http.get("/no/such/page"),
            await server.http.put(f"/whep/{ROOM}", headers=viewer),
            await server.http.get("/api/v1/rooms/nowhere/join"),
            await server.http.post("/api/v1/rooms", headers=viewer, json={"room": ROOM}),
        ]
        for answer in asked:
            assert answer.headers["content-type"] == "application/problem+json", answer.text
            problem = answer.json()
            assert {"type", "title", "status", "detail", "reason"} <= set(problem), problem
            assert problem["status"] == answer.status_code
            assert problem["reason"] in set(Reason)
            assert problem["detail"]
        assert [answer.status_code for answer in asked[:4]] == [401, 404, 403, 403]
        assert asked[1].json()["reason"] == "not_live"
        assert int(asked[1].headers["retry-after"]) >= 1


async def test_room_exists_from_the_first_valid_use_and_then_lets_guests_join() -> None:
    async with running_server() as server:
        assert (await server.http.get(f"/api/v1/rooms/{ROOM}/join")).status_code == 403
        async with phones(server, ("hana", "host")):
            guest = (await server.http.get(f"/api/v1/rooms/{ROOM}/join")).json()
        claims = jwt.decode(guest["token"], options={"verify_signature": False})
        assert (claims["room"], claims["role"]) == (ROOM, "viewer")
        closed = await server.http.post(
            "/api/v1/rooms",
            headers=server.bearer("vip", "host"),
            json={"room": "vip", "open": False},
        )
        assert closed.status_code in (200, 201)
        hidden = await server.http.get("/api/v1/rooms/vip/join")
        unknown = await server.http.get("/api/v1/rooms/nobody/join")
        assert hidden.status_code == unknown.status_code
        assert hidden.json()["reason"] == unknown.json()["reason"]


async def test_price_rule_and_refusals_over_the_bus() -> None:
    people = [("hana", "host"), ("ann", "viewer"), ("bob", "viewer"), ("wall", "screen")]
    async with running_server() as server, phones(server, *people) as (host, ann, bob, wall):
        created = await host.bus.call("lot.create", lot_spec())
        lot = created["lot"]
        early = {"lot": lot, "amount": 1000, "key": "early"}
        assert (await ann.refusal("bid.place", early)).reason == "not_open"
        assert (await ann.refusal("lot.start", {"lot": lot})).reason == "not_allowed"
        await host.bus.call("lot.start", {"lot": lot})

        low = await ann.refusal("bid.place", {"lot": lot, "amount": 999, "key": "a1"})
        assert (low.reason, low.detail["minimum"]) == ("too_low", 1000)
        first = await ann.bus.call("bid.max", {"lot": lot, "max": 5000, "key": "a2"})
        assert (first["price"], first["leader"]) == (1000, "ann")
        second = await bob.bus.call("bid.place", {"lot": lot, "amount": 3000, "key": "b1"})
        assert (second["price"], second["leader"]) == (3100, "ann")
        tie = await bob.bus.call("bid.max", {"lot": lot, "max": 5000, "key": "b2"})
        assert (tie["price"], tie["leader"]) == (5000, "ann")
        raised = await ann.bus.call("bid.max", {"lot": lot, "max": 9000, "key": "a3"})
        assert (raised["price"], raised["seq"]) == (5000, tie["seq"])
        over = await bob.bus.call("bid.max", {"lot": lot, "max": 20_000, "key": "b3"})
        assert (over["price"], over["leader"]) == (9100, "bob")

        own = {"lot": lot, "amount": 30_000, "key": "x"}
        assert (await bob.refusal("bid.place", own)).reason == "own_lead"
        assert (await host.refusal("bid.place", own)).reason == "own_lot"
        assert (await wall.refusal("bid.place", own)).reason == "not_allowed"

        again = await ann.bus.call("bid.max", {"lot": lot, "max": 5000, "key": "a2"})
        assert again == first
        other_body = {"lot": lot, "max": 5001, "key": "a2"}
        assert (await ann.refusal("bid.max", other_body)).reason == "bad_key"

        await bob.until("bid.accepted", price=9100)
        seqs = [event["seq"] for event in bob.heard("bid.accepted")]
        assert seqs == list(range(1, len(seqs) + 1))
        prices = [event["price"] for event in bob.heard("bid.accepted")]
        assert prices == sorted(set(prices))
        hidden = [channel for channel, data in bob.events if "9000" in str(data)]
        assert hidden == [], "a maximum leaked"
        state = await ann.bus.call("lot.state", {"lot": lot})
        assert (state["price"], state["leader"], state["my_max"]) == (9100, "bob", 9000)


async def test_burst_of_bids_is_limited_but_replays_of_a_key_are_not() -> None:
    people = [("hana", "host"), ("ann", "viewer")]
    async with running_server() as server, phones(server, *people) as (host, ann):
        lot = await open_lot(host)
        bid = {"lot": lot, "amount": 1000, "key": "one"}
        first = await ann.bus.call("bid.place", bid)
        replays = await asyncio.gather(*(ann.bus.call("bid.place", bid) for _ in range(12)))
        for _ in range(10):
            replays += await asyncio.gather(*(ann.bus.call("bid.place", bid) for _ in range(10)))
        assert all(reply == first for reply in replays)

        async def try_bid(number: int) -> str:
            try:
                await ann.bus.call("bid.place", {"lot": lot, "amount": 1, "key": f"k{number}"})
            except CallRefused as refused:
                return refused.reason
            return "accepted"

        reasons = await asyncio.gather(*(try_bid(number) for number in range(100)))
        assert reasons[:30] == ["own_lead"] * 30
        assert set(reasons) == {"own_lead", "rate_limited"}


async def test_kill_9_loses_no_acknowledged_bid_and_phones_recover_the_gap() -> None:
    """The whole server dies by SIGKILL; the next one goes on where the last left off."""
    people = [("hana", "host"), ("ann", "viewer"), ("bob", "viewer")]
    async with (
        running_server(expect_clean_end=False) as server,
        phones(server, *people) as (host, ann, bob),
    ):
        lot = await open_lot(host, duration_ms=8_000)
        deadline = (await ann.bus.call("lot.state", {"lot": lot}))["ends_at"]
        acknowledged = 0
        for number in range(40):
            phone = (ann, bob)[number % 2]
            amount = 1000 + 100 * number
            call = phone.bus.call("bid.place", {"lot": lot, "amount": amount, "key": "k" * 8})
            if number < 2:
                acknowledged = (await call)["price"]
                continue
            call.close()
            fresh = {"lot": lot, "amount": amount, "key": f"key-{number}"}
            if number == 25:
                for pid in [server.pid, *children_of(server.pid).values()]:
                    os.kill(pid, signal.SIGKILL)
            try:
                acknowledged = (await phone.bus.call("bid.place", fresh))["price"]
            except (Disconnected, CallRefused):
                break
        assert acknowledged >= 3000
        offsets = len(ann.events)
        await asyncio.to_thread(server.process.wait)
        async with running_server(
            data=server.data,
            arguments=["--http-port", str(server.http_port)],
        ) as restarted:
            for phone in (host, ann, bob):
                await asyncio.wait_for(phone.bus.connected.wait(), 20)
            state = await ann.bus.call("lot.state", {"lot": lot})
            assert state["price"] >= acknowledged
            assert state["ends_at"] == deadline
            sold = await ann.until("lot.sold")
            assert sold["price"] == state["price"]
            assert sold["winner"] == state["leader"]
            assert len(ann.events) > offsets
            for phone in (host, ann, bob):
                assert phone.bus.counts.gaps == 0
                assert phone.bus.counts.unrecovered == 0
                seqs = [event["seq"] for event in phone.heard("bid.accepted")]
                assert seqs == list(range(1, len(seqs) + 1))
            assert restarted.http_port == server.http_port
        proof = await livehouse("verify", "--data", str(server.data))
        assert proof.returncode == 0, proof.stdout + proof.stderr
        assert lot in proof.stdout
