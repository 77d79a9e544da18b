"""Chromium publishes three layers; Chromium viewers are moved between them.

The viewer's decoder is the judge: every frame it is given must decode, switches included.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from tests.browser.test_media_worker import SCRIPT, chromium, open_page, wait_live
from tests.integration.media.harness import Worker, running_worker
from tests.support.link import Conditions, UdpLink

pytestmark = pytest.mark.browser

HEIGHTS = (180, 360, 720)
NARROW_BPS = 400_000


@dataclass
class Screen:
    """A Chromium viewer and its session."""

    page: Page
    worker: Worker
    session: str

    async def video(self) -> dict[str, Any]:
        stats: dict[str, Any] = await self.page.evaluate("inbound(0)")
        video: dict[str, Any] = stats["video"]
        return video

    async def details(self) -> dict[str, Any]:
        return await self.worker.session("shop", self.session)

    async def cap(self, max_height: int | None) -> None:
        path = f"/v1/sessions/{self.session}/layer"
        response = await self.worker.put(path, {"max_height": max_height}, room="shop")
        assert response.status_code == 204

    async def until(
        self, what: str, check: Callable[[dict[str, Any]], bool], timeout_s: float
    ) -> float:
        """Wait until the viewer's figures pass `check`; the seconds it took."""
        start = time.monotonic()
        while time.monotonic() - start < timeout_s:
            video = await self.video()
            if check(video):
                return time.monotonic() - start
            await asyncio.sleep(0.1)
        raise AssertionError(f"not {what} after {timeout_s} s: {video} {await self.details()}")


@contextlib.asynccontextmanager
async def screen(
    browser: Browser, worker: Worker, link: UdpLink | None = None
) -> AsyncIterator[Screen]:
    """A page that watches the program, its media led over `link`."""
    context = await browser.new_context()
    page = await context.new_page()
    sessions: list[str] = []

    async def post(path: str, sdp: str) -> str:
        response = await worker.post("/v1" + path, sdp)
        assert response.status_code == 201, response.text
        answer = response.json()
        sessions.append(answer["session"])
        text: str = answer["sdp"]
        if link is None:
            return text
        port = worker.udp.getsockname()[1]
        return re.sub(rf"(127\.0\.0\.1) {port} typ", rf"\1 {link.address[1]} typ", text)

    await page.expose_function("post", post)
    await page.route(
        "http://localhost/", lambda route: route.fulfill(content_type="text/html", body="<body>")
    )
    await page.goto("http://localhost/")
    await page.evaluate(f"() => {{ {SCRIPT} }}")
    await page.evaluate("watch('/whep/shop')")
    try:
        yield Screen(page, worker, sessions[0])
    finally:
        await context.close()


def is_height(*heights: int) -> Callable[[dict[str, Any]], bool]:
    return lambda video: video.get("frameHeight") in heights


def has_decoded(frames: int) -> Callable[[dict[str, Any]], bool]:
    return lambda video: bool(video["framesDecoded"] >= frames)


async def layers_sent(worker: Worker) -> dict[str, dict[str, Any]]:
    """The publisher's picture layers by rid."""
    stats = await worker.stats()
    publisher = next(s for s in stats["sessions"].values() if s["role"] == "publisher")
    return {t["rid"]: t for t in publisher["tracks"] if t["kind"] == "video"}


@contextlib.asynccontextmanager
async def three_layers(codec: str) -> AsyncIterator[tuple[Worker, Browser, Page]]:
    """A worker with a Chromium camera whose three layers are all being sent."""
    async with running_worker() as worker, chromium() as browser:
        camera = await open_page(browser, worker)
        await camera.evaluate(f"publish('main', '{codec}', [1280, 720], true)")
        await wait_live(worker, "main")
        for _ in range(400):
            layers = await layers_sent(worker)
            heights = sorted(t["height"] for t in layers.values() if t["silent_ms"] < 500)
            if heights == sorted(HEIGHTS):
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError(f"Chromium did not send three layers: {layers}")
        yield worker, browser, camera


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_capped_heights_follow_without_a_broken_frame(codec: str) -> None:
    async with three_layers(codec) as (worker, browser, _), screen(browser, worker) as viewer:
        for height in (180, 360, 720, 180, 720):
            await viewer.cap(height)
            # One layer a step upwards, each after a rest of two seconds.
            await viewer.until(f"{height} lines", is_height(height), 15)
            before = (await viewer.video())["framesDecoded"]
            await viewer.until("30 frames further", has_decoded(before + 30), 15)
        video = await viewer.video()
        assert video["packetsLost"] == 0
        assert video["nackCount"] == 0
        assert video["pliCount"] == 0
        # What came whole was decoded: nothing received is unaccounted for but the last frames.
        assert video["framesReceived"] - video["framesDecoded"] - video["framesDropped"] <= 3
        line = next(t for t in (await viewer.details())["tracks"] if t["kind"] == "video")
        assert line["switches"] >= 5


async def test_a_narrow_link_gets_a_lower_layer_and_the_high_one_back() -> None:
    async with (
        three_layers("VP8") as (worker, browser, _),
        UdpLink(worker.udp.getsockname(), seed=1) as link,
        screen(browser, worker, link) as viewer,
    ):
        await viewer.cap(None)
        await viewer.until("at 720 lines", is_height(720), 20)
        await asyncio.sleep(2)  # so that the viewer's own estimator has its bearings
        link.set_conditions(to_client=Conditions(rate_bps=NARROW_BPS, delay_s=0.02))
        narrowed = time.monotonic()
        while time.monotonic() - narrowed < 2:
            line = next(t for t in (await viewer.details())["tracks"] if t["kind"] == "video")
            if line["rid"] in ("q", "h"):
                break
            await asyncio.sleep(0.05)
        fell = time.monotonic() - narrowed
        assert line["rid"] in ("q", "h"), f"still {line['rid']} after {fell:.1f} s"
        assert fell <= 2
        await viewer.until("small", is_height(180, 360), 5)
        await asyncio.sleep(3)
        start = await viewer.video()
        await asyncio.sleep(3)
        steady = await viewer.video()
        assert steady["framesDecoded"] - start["framesDecoded"] > 40
        sound = (await viewer.page.evaluate("inbound(0)"))["audio"]
        assert sound["packetsLost"] < 0.2 * sound["packetsReceived"]
        link.set_conditions(to_client=Conditions(delay_s=0.02))
        await viewer.until("at 720 lines again", is_height(720), 60)
        assert (await viewer.details())["climbs"] >= 1


async def test_layers_nobody_watches_are_told_and_come_back() -> None:
    async with three_layers("VP8") as (worker, browser, camera), worker.events() as events:

        async def told(*wanted: str, timeout_s: float = 30.0) -> None:
            async with asyncio.timeout(timeout_s):
                while True:
                    event = await events.get()
                    if event["type"] == "camera.layers" and event["wanted"] == list(wanted):
                        assert (event["room"], event["camera"]) == ("shop", "main")
                        return

        await told("q")
        await camera.evaluate(
            """async () => {
                const sender = pcs[0].getSenders().find(s => s.track.kind === 'video');
                const p = sender.getParameters();
                for (const e of p.encodings) e.active = e.rid === 'q';
                await sender.setParameters(p);
            }"""
        )
        async with screen(browser, worker) as viewer:
            await viewer.until("at 180 lines", is_height(180), 10)
            await told("q", "f")
            await camera.evaluate(
                """async () => {
                    const sender = pcs[0].getSenders().find(s => s.track.kind === 'video');
                    const p = sender.getParameters();
                    for (const e of p.encodings) e.active = e.rid !== 'h';
                    await sender.setParameters(p);
                }"""
            )
            await viewer.until("at 720 lines", is_height(720), 30)
