"""The bus over real sockets, with the `websockets` client and hand-written frames."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from interact.connection import Limits
from interact.protocol import Role
from tests.support.bus_server import ROOM, eventually, running_bus

Json = dict[str, Any]


async def send(ws: ClientConnection, *commands: Json) -> None:
    await ws.send("\n".join(json.dumps(command) for command in commands))


async def receive(ws: ClientConnection) -> list[Json]:
    text = await asyncio.wait_for(ws.recv(), 5)
    assert isinstance(text, str)
    return [json.loads(line) for line in text.split("\n")]


async def enter(ws: ClientConnection, token: str, **connect_command: object) -> Json:
    """Connect and give the result."""
    await send(ws, {"id": 1, "connect": {"token": token, **connect_command}})
    (answer,) = await receive(ws)
    assert "error" not in answer
    result = answer["connect"]
    assert isinstance(result, dict)
    return result


async def closed_with(ws: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            await asyncio.wait_for(ws.recv(), 10)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def test_connect_subscribes_to_room_and_own_channel() -> None:
    async with running_bus() as server, connect(server.url) as ws:
        result = await enter(ws, server.token("ann"))
        assert set(result["subs"]) == {f"room:{ROOM}", f"user:{ROOM}:ann"}
        assert result["subs"][f"room:{ROOM}"] == {
            "recoverable": True,
            "positioned": True,
            "epoch": "e1",
            "offset": 0,
        }
        assert result["ping"] == 25
        assert result["pong"] is True
        assert result["expires"] is True
        assert 3590 <= result["ttl"] <= 3600
        assert result["data"]["identity"] == "ann"
        server.engine.put(f"room:{ROOM}", b'{"type":"lot.opened"}')
        assert await receive(ws) == [
            {
                "push": {
                    "channel": f"room:{ROOM}",
                    "pub": {"data": {"type": "lot.opened"}, "offset": 1},
                }
            }
        ]
        assert server.bus.stats().by_role == {"viewer": 1}


async def test_token_in_the_upgrade_request_serves_too() -> None:
    async with running_bus() as server:
        async with connect(f"{server.url}?token={server.token('ann')}") as ws:
            await send(ws, {"id": 1, "connect": {}})
            assert f"user:{ROOM}:ann" in (await receive(ws))[0]["connect"]["subs"]
        headers = {"Authorization": f"Bearer {server.token('bob')}"}
        async with connect(server.url, additional_headers=headers) as ws:
            await send(ws, {"id": 1, "connect": {}})
            assert f"user:{ROOM}:bob" in (await receive(ws))[0]["connect"]["subs"]


@pytest.mark.parametrize(
    ("role", "extra"),
    [
        (Role.VIEWER, set()),
        (Role.CAMERA, set()),
        (Role.SCREEN, {"screen"}),
        (Role.MODERATOR, {"stage"}),
        (Role.HOST, {"screen", "stage"}),
        (Role.DIRECTOR, {"screen", "stage"}),
        (Role.ADMIN, {"screen", "stage"}),
    ],
)
async def test_role_decides_on_server_side_subscriptions(role: Role, extra: set[str]) -> None:
    async with running_bus() as server, connect(server.url) as ws:
        result = await enter(ws, server.token("ann", role=role))
        expected = {f"room:{ROOM}", f"user:{ROOM}:ann", *(f"{word}:{ROOM}" for word in extra)}
        assert set(result["subs"]) == expected


async def test_bad_token_closes_for_good_and_expired_one_asks_for_a_fresh_one() -> None:
    async with running_bus() as server:
        async with connect(server.url) as ws:
            await send(ws, {"id": 1, "connect": {"token": "nonsense"}})
            assert await closed_with(ws) == (3500, "invalid token")
        async with connect(server.url) as ws:
            await send(ws, {"id": 1, "connect": {}})
            assert await closed_with(ws) == (3500, "invalid token")
        async with connect(server.url) as ws:
            old = server.token(ttl_s=5, age_s=60)
            await send(ws, {"id": 7, "connect": {"token": old}})
            assert await receive(ws) == [
                {"id": 7, "error": {"code": 109, "message": "token expired"}}
            ]
            await enter(ws, server.token())
        assert server.bus.hub.stats.refusals["expired_token"] == 1
        assert server.bus.hub.stats.disconnects[3500] == 2


async def test_reconnect_recovers_what_was_missed_in_order() -> None:
    async with running_bus() as server:
        channel = f"room:{ROOM}"
        async with connect(server.url) as ws:
            result = await enter(ws, server.token())
            server.engine.put(channel, b'{"n":1}')
            await receive(ws)
        for n in range(2, 6):
            server.engine.put(channel, b'{"n":%d}' % n)
        async with connect(server.url) as ws:
            position = {"recover": True, "epoch": result["subs"][channel]["epoch"], "offset": 1}
            result = await enter(ws, server.token(), subs={channel: position})
            sub = result["subs"][channel]
            assert sub["recovered"] is True
            assert sub["offset"] == 1
            assert [p["data"]["n"] for p in sub["publications"]] == [2, 3, 4, 5]
            server.engine.put(channel, b'{"n":6}')
            (push,) = await receive(ws)
            assert push["push"]["pub"]["offset"] == 6
        async with connect(server.url) as ws:
            server.engine.forget(channel, 4)
            result = await enter(ws, server.token(), subs={channel: position})
            sub = result["subs"][channel]
            assert sub["recovered"] is False
            assert sub["was_recovering"] is True
            assert "publications" not in sub
            assert sub["offset"] == 6


async def test_publications_during_the_history_read_follow_the_reply() -> None:
    async with running_bus() as server, connect(server.url) as ws:
        channel = f"room:{ROOM}"
        server.engine.put(channel, b'{"n":1}')
        server.engine.hold()
        await send(ws, {"id": 1, "connect": {"token": server.token()}})
        await eventually(lambda: "" if server.engine.reads else "history not read yet")
        server.engine.put(channel, b'{"n":2}')
        server.engine.release()
        (answer,) = await receive(ws)
        offsets = [answer["connect"]["subs"][channel]["offset"]]
        server.engine.put(channel, b'{"n":3}')
        while offsets[-1] < 3:
            offsets += [push["push"]["pub"]["offset"] for push in await receive(ws)]
        assert offsets == list(range(offsets[0], 4))


async def test_rpc_answers_refuses_and_hides_its_own_failures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_bus() as server, connect(server.url) as ws:
        await enter(ws, server.token())
        await send(ws, {"id": 2, "rpc": {"method": "echo", "data": {"ä": [1, 2]}}})
        assert await receive(ws) == [{"id": 2, "rpc": {"data": {"ä": [1, 2]}}}]
        await send(ws, {"id": 3, "rpc": {"method": "bid.place", "data": {}}})
        assert await receive(ws) == [
            {
                "id": 3,
                "error": {"minimum": 1100, "code": 1001, "message": "too_low", "temporary": False},
            }
        ]
        await send(ws, {"id": 4, "rpc": {"method": "no.such"}})
        assert (await receive(ws))[0]["error"]["code"] == 104
        await send(ws, {"id": 5, "rpc": {"method": "boom"}})
        answer = await ws.recv()
        assert json.loads(answer) == {
            "id": 5,
            "error": {"code": 100, "message": "internal server error", "temporary": True},
        }
        assert [record.message for record in caplog.records if record.exc_info] == [
            f"bus.rpc_failed method='boom' room={ROOM}"
        ]


async def test_rpcs_run_side_by_side_up_to_a_bound() -> None:
    beyond = 2 + Limits().max_calls
    async with running_bus() as server, connect(server.url) as ws:
        await enter(ws, server.token())
        await send(ws, *({"id": n, "rpc": {"method": "wait"}} for n in range(2, beyond)))
        await send(ws, {"id": beyond, "rpc": {"method": "echo"}})
        assert await receive(ws) == [
            {"id": beyond, "error": {"code": 111, "message": "busy", "temporary": True}}
        ]
        server.rooms.gate.set()
        answered: set[int] = set()
        while len(answered) < beyond - 2:
            answered |= {answer["id"] for answer in await receive(ws)}
        assert answered == set(range(2, beyond))


async def test_subscribe_by_role() -> None:
    async with running_bus() as server, connect(server.url) as ws:
        await enter(ws, server.token())
        codes = {}
        for n, channel in enumerate(
            [f"room:{ROOM}", "room:other", f"user:{ROOM}:bob", f"stage:{ROOM}", "x", f"tick:{ROOM}"]
        ):
            await send(ws, {"id": n + 2, "subscribe": {"channel": channel}})
            (answer,) = await receive(ws)
            codes[channel] = answer.get("error", {}).get("code", 0)
        assert codes == {
            f"room:{ROOM}": 105,
            "room:other": 103,
            f"user:{ROOM}:bob": 103,
            f"stage:{ROOM}": 103,
            "x": 103,
            f"tick:{ROOM}": 0,
        }
        server.bus.hub.publish_tick(f"tick:{ROOM}", b'{"viewers":1}')
        assert await receive(ws) == [
            {"push": {"channel": f"tick:{ROOM}", "pub": {"data": {"viewers": 1}}}}
        ]
        await send(ws, {"id": 20, "unsubscribe": {"channel": f"tick:{ROOM}"}})
        assert await receive(ws) == [{"id": 20, "unsubscribe": {}}]
        server.bus.hub.publish_tick(f"tick:{ROOM}", b'{"viewers":2}')
        await send(ws, {"id": 21, "ping": {}})
        assert await receive(ws) == [{"id": 21, "ping": {}}]


async def test_presence_history_and_publish() -> None:
    async with (
        running_bus() as server,
        connect(server.url) as viewer,
        connect(server.url) as host,
    ):
        changes: list[tuple[str, int]] = []
        server.bus.hub.on_presence_change = lambda room, count: changes.append((room, count))
        await enter(viewer, server.token("ann"))
        client = (await enter(host, server.token("eve", role=Role.HOST)))["client"]
        assert changes == [(ROOM, 1)]
        await send(viewer, {"id": 2, "presence": {"channel": f"room:{ROOM}"}})
        assert (await receive(viewer))[0]["error"]["code"] == 103
        await send(viewer, {"id": 3, "presence_stats": {"channel": f"room:{ROOM}"}})
        assert (await receive(viewer))[0]["presence_stats"] == {"num_clients": 2, "num_users": 2}
        await send(host, {"id": 2, "presence": {"channel": f"room:{ROOM}"}})
        people = (await receive(host))[0]["presence"]["presence"]
        assert people[client] == {
            "client": client,
            "user": "eve",
            "conn_info": {"name": "", "role": "host"},
        }
        for n in (1, 2, 3):
            server.engine.put(f"user:{ROOM}:ann", b'{"n":%d}' % n)
            await receive(viewer)
        command = {"channel": f"user:{ROOM}:ann", "limit": 2}
        await send(viewer, {"id": 4, "history": command})
        history = (await receive(viewer))[0]["history"]
        assert history["offset"] == 3
        assert [p["offset"] for p in history["publications"]] == [1, 2]
        command["since"] = {"epoch": "other", "offset": 1}
        await send(viewer, {"id": 5, "history": command})
        assert (await receive(viewer))[0]["error"]["code"] == 112
        await send(viewer, {"id": 6, "publish": {"channel": f"room:{ROOM}", "data": {}}})
        assert (await receive(viewer))[0]["error"]["code"] == 103
        await viewer.close()
        await eventually(lambda: "" if changes[-1] == (ROOM, 0) else f"changes {changes}")


async def test_hole_in_the_feed_makes_the_client_recover() -> None:
    async with running_bus() as server, connect(server.url) as ws:
        channel = f"room:{ROOM}"
        await enter(ws, server.token())
        server.engine.put(channel, b"{}")
        server.engine.put(channel, b"{}", is_heard=False)
        server.engine.put(channel, b"{}")
        assert await closed_with(ws) == (3010, "insufficient state")


async def test_bad_input_is_answered_with_a_close_code() -> None:
    async with running_bus() as server:
        for text in ["nonsense", '{"id":1,"rpc":{}}', '{"id":-1}', '{"id":1,"connect":[]}']:
            async with connect(server.url) as ws:
                await ws.send(text)
                assert await closed_with(ws) == (3501, "bad request"), text
        async with connect(server.url) as ws:
            await ws.send("[" * 60_000)
            assert await closed_with(ws) == (3501, "bad request")
        async with connect(server.url) as ws:
            await ws.send(b"\x00\x01")
            assert await closed_with(ws) == (3501, "bad request")
        async with connect(server.url, max_size=None) as ws:
            await ws.send("x" * 70_000)
            assert (await closed_with(ws))[0] == 1009
        stats = server.bus.hub.stats
        assert stats.refusals["malformed"] == 4
        assert stats.refusals["binary"] == 1
        assert stats.refusals["bad_frame"] == 1


async def test_stale_silent_and_expired_connections_end() -> None:
    limits = Limits(connect_timeout_s=0.5, ping_interval_s=1, pong_timeout_s=1, expiry_grace_s=0.5)
    async with running_bus(limits=limits) as server:
        async with connect(server.url) as ws:
            assert await closed_with(ws) == (3502, "stale")
        async with connect(server.url) as ws:
            await enter(ws, server.token())
            assert await receive(ws) == [{}]
            assert await closed_with(ws) == (3012, "no pong")
        async with connect(server.url) as ws:
            await enter(ws, server.token(ttl_s=2))
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    assert await receive(ws) == [{}]
                    await ws.send("{}")
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 3005


async def test_refresh_extends_and_another_person_is_thrown_out() -> None:
    async with running_bus() as server, connect(server.url) as ws:
        await enter(ws, server.token("ann", ttl_s=60))
        await send(ws, {"id": 2, "refresh": {"token": server.token("ann", ttl_s=600)}})
        (answer,) = await receive(ws)
        assert 590 <= answer["refresh"]["ttl"] <= 600
        await send(ws, {"id": 3, "refresh": {"token": server.token("bob")}})
        assert (await closed_with(ws))[0] == 3500


async def test_flood_of_commands_is_refused_then_closed() -> None:
    limits = Limits(commands_per_s=1, command_burst=5, command_debt=5)
    async with running_bus(limits=limits) as server, connect(server.url) as ws:
        await enter(ws, server.token())
        await send(ws, *({"id": n, "ping": {}} for n in range(2, 8)))
        answers = await receive(ws)
        assert [a.get("error", {}).get("code", 0) for a in answers] == [0, 0, 0, 0, 111, 111]
        for n in range(20):
            try:
                await send(ws, {"id": 10 + n, "ping": {}})
            except ConnectionClosed:
                break
        assert await closed_with(ws) == (3013, "too many requests")


async def test_server_stop_closes_with_3001() -> None:
    async with running_bus() as server:
        ws = await connect(server.url)
        await enter(ws, server.token())
    assert await closed_with(ws) == (3001, "shutdown")
    await ws.close()


async def test_other_websocket_paths_go_to_asgi() -> None:
    async with running_bus() as server:
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://127.0.0.1:{server.port}/elsewhere")
        assert caught.value.response.status_code == 403


async def test_subprotocol_is_answered() -> None:
    async with (
        running_bus() as server,
        connect(server.url, subprotocols=["centrifuge-json"]) as ws,  # type: ignore[list-item]  # a NewType of str
    ):
        assert ws.subprotocol == "centrifuge-json"


async def test_admin_of_every_room_names_one_in_the_connect_data() -> None:
    async with running_bus() as server:
        token = server.token("boss", room="*", role=Role.ADMIN)
        async with connect(server.url) as ws:
            result = await enter(ws, token, data={"room": "shop"})
            assert f"stage:{ROOM}" in result["subs"]
            await send(ws, {"id": 2, "rpc": {"method": "echo"}})
            await receive(ws)
            assert server.rooms.calls[-1][0].room == "shop"
        async with connect(server.url) as ws:
            assert (await enter(ws, token))["subs"] == {}
            await send(ws, {"id": 2, "subscribe": {"channel": "room:any"}})
            assert (await receive(ws))[0]["subscribe"]["recoverable"] is True
            await send(ws, {"id": 3, "rpc": {"method": "echo"}})
            assert (await receive(ws))[0]["error"]["code"] == 1010


async def test_slow_client_is_sent_no_ticks_and_cut_off_when_it_overflows() -> None:
    async with (
        running_bus(limit_bytes=200_000) as server,
        connect(server.url) as fast,
        connect(server.url, max_queue=1) as slow,
    ):
        for name, ws in (("fast", fast), ("slow", slow)):
            await enter(ws, server.token(name))
            await send(ws, {"id": 2, "subscribe": {"channel": f"tick:{ROOM}"}})
            await receive(ws)
        slow.transport.pause_reading()
        filler = b'{"fill":"%b"}' % (b"x" * 50_000)
        stats = server.bus.hub.stats
        for count in range(1_000):
            server.engine.put(f"room:{ROOM}", filler)
            server.bus.hub.publish_tick(f"tick:{ROOM}", b'{"n":%d}' % count)
            assert len((await receive(fast))[0]["push"]["pub"]["data"]["fill"]) == 50_000
            assert (await receive(fast))[0]["push"]["pub"]["data"] == {"n": count}
            if stats.disconnects[3008]:
                break
        assert stats.disconnects == {3008: 1}
        assert stats.ticks_skipped > 0
        assert server.bus.stats().by_role == {"viewer": 1}
        slow.transport.abort()


async def test_connections_beyond_the_limit_are_told_to_come_later() -> None:
    async with running_bus(max_connections=1) as server, connect(server.url) as ws:
        await enter(ws, server.token())
        with pytest.raises(InvalidStatus) as caught:
            await connect(server.url)
        assert caught.value.response.status_code == 503
        assert caught.value.response.headers["Retry-After"] == "5"


async def test_host_s_first_connection_makes_the_room_and_a_viewer_s_does_not() -> None:
    async with running_bus() as server:
        async with connect(server.url) as ws:
            await enter(ws, server.token("ann"))
            assert server.rooms.founded == set()
        async with connect(server.url) as ws:
            await enter(ws, server.token("eve", role=Role.HOST))
            assert server.rooms.founded == {ROOM}
        server.rooms.is_full = True
        async with connect(server.url) as ws:
            await send(ws, {"id": 1, "connect": {"token": server.token("eve", role=Role.HOST)}})
            assert (await receive(ws))[0]["error"]["temporary"] is True
