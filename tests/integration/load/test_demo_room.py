"""`livehouse demo` as a newcomer starts it, and with its processes killed under it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from loadtest.whep import Viewer
from media.stage.feed import VIEWS
from tests.support.server import Server, running_server

Json = dict[str, Any]


async def eventually(why_not: Callable[[], Awaitable[str]], timeout_s: float) -> None:
    """Wait until `why_not` has nothing to say any more."""
    reason = await why_not()
    for _ in range(int(timeout_s / 0.2)):
        if not reason:
            return
        await asyncio.sleep(0.2)
        reason = await why_not()
    assert not reason, reason


async def state(server: Server) -> Json:
    answer = await server.http.get("/api/v1/rooms/demo", headers=server.bearer("demo"))
    result = answer.json()
    assert isinstance(result, dict)
    return result


def on_air(server: Server) -> Callable[[], Awaitable[str]]:
    """All cameras live and a lot with a bid."""

    async def why_not() -> str:
        try:
            room = await state(server)
        except httpx.TransportError as error:
            return str(error)
        live = {c["camera"] for c in room.get("cameras", []) if c["live"]}
        if live != set(VIEWS):
            return f"live: {live}"
        if not any(lot["state"] == "open" and lot["bids"] for lot in room["lots"]):
            return "no bid yet"
        return ""

    return why_not


async def first_picture(server: Server, path: str = "") -> float:
    viewer = Viewer(server.http, f"{server.url}/whep/demo{path}", server.token("demo"))
    await viewer.start()
    await asyncio.wait_for(viewer.got_picture, 15)
    report = await viewer.stop()
    assert report.first_key_ms is not None
    return report.first_key_ms


async def test_demo_runs_and_heals() -> None:
    async with running_server(command="demo", arguments=("--bots", "4")) as server:
        await eventually(on_air(server), 60)
        await first_picture(server)
        for camera in VIEWS:
            await first_picture(server, f"/{camera}")
        assert "Livehouse is on air" in server.log
        assert f"{server.info['url']}/v/demo" in server.log

        os.kill(server.children()["media0"], signal.SIGKILL)

        async def is_back() -> str:
            return "" if "all cameras on air again" in server.log else "not back"

        await eventually(is_back, 40)
        await first_picture(server)

        lots = {lot["lot"] for lot in (await state(server))["lots"] if lot["state"] == "open"}
        old = server.children()["demo"]
        os.kill(old, signal.SIGKILL)

        async def is_new() -> str:
            return "" if server.children().get("demo", old) != old else "no new demo child"

        await eventually(is_new, 20)
        await eventually(on_air(server), 60)
        still_open = [lot["lot"] for lot in (await state(server))["lots"] if lot["state"] == "open"]
        assert len(still_open) == 1
        assert (
            not lots
            or lots == set(still_open)
            or lots
            & {lot["lot"] for lot in (await state(server))["lots"] if lot["state"] == "sold"}
        )
        assert "Traceback" not in server.log
