"""Cameras of the synthetic stage through the real server: published by WHIP, counted by WHEP."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from interact.protocol import Role
from loadtest.whep import Viewer
from loadtest.whip import Publisher
from media.stage.feed import StageFeed, Unit
from tests.support.server import Server, running_server


@asynccontextmanager
async def published(
    server: Server, cameras: tuple[str, ...]
) -> AsyncIterator[dict[str, Publisher]]:
    """The stage's cameras on air in room `shop`."""
    loop = asyncio.get_running_loop()
    feed = StageFeed(cameras, fps=10)
    live = {name: asyncio.Event() for name in cameras}
    publishers = {
        name: Publisher(
            server.http,
            f"{server.url}/whip/shop/{name}",
            lambda: server.token(role=Role.HOST),
            request_key=lambda name=name: feed.request_key(name),  # type: ignore[misc]
            on_state=lambda state, name=name: live[name].set() if state == "live" else None,  # type: ignore[misc]
        )
        for name in cameras
    }

    def dispatch(unit: Unit) -> None:
        for name, publisher in publishers.items():
            if unit.camera in (None, name):
                publisher.feed(unit)

    tasks = [asyncio.create_task(p.run()) for p in publishers.values()]
    feed.start(lambda unit: loop.call_soon_threadsafe(dispatch, unit))
    try:
        for event in live.values():
            await asyncio.wait_for(event.wait(), 20)
        await wait_until(
            lambda: "" if all(p.video.packets for p in publishers.values()) else "no picture", 30
        )
        yield publishers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(feed.stop)


async def wait_until(why_not: Callable[[], str], timeout_s: float) -> None:
    """Wait until `why_not` has nothing to say any more."""
    reason = why_not()
    for _ in range(int(timeout_s / 0.05)):
        if not reason:
            return
        await asyncio.sleep(0.05)
        reason = why_not()
    assert not reason, reason


async def test_viewers_get_picture_and_sound_without_loss() -> None:
    async with running_server() as server, published(server, ("wide", "crowd")) as publishers:
        viewers = [
            Viewer(server.http, f"{server.url}/whep/shop{path}", server.token(), full=True)
            for path in ("", "/crowd", "/wide")
        ]
        for viewer in viewers:
            await viewer.start()
            await asyncio.wait_for(viewer.got_picture, 10)
        await asyncio.sleep(2)  # what a viewer gets in two seconds is the thing measured
        reports = [await viewer.stop() for viewer in viewers]
        for report in reports:
            assert report.first_key_ms is not None
            assert report.first_key_ms < 2000
            assert report.frames >= 12
            assert report.audio_packets >= 70
            assert (report.lost, report.audio_lost, report.forged, report.duplicates) == (
                0,
                0,
                0,
                0,
            )
            assert report.authenticated >= report.packets + report.audio_packets
        assert all(p.sessions == 1 for p in publishers.values())


async def test_publisher_comes_back_after_media_worker_dies() -> None:
    async with running_server() as server, published(server, ("wide",)) as publishers:
        publisher = publishers["wide"]
        os.kill(server.children()["media0"], signal.SIGKILL)
        await wait_until(lambda: "" if publisher.sessions == 2 else "not published again", 25)
        viewer = Viewer(server.http, f"{server.url}/whep/shop", server.token())
        await viewer.start()
        await asyncio.wait_for(viewer.got_picture, 10)
        report = await viewer.stop()
        assert report.frames > 0
