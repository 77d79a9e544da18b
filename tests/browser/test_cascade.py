"""A Chromium camera with three layers on one worker, a Chromium viewer on another."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.browser.test_layers import has_decoded, is_height, screen
from tests.browser.test_media_worker import chromium, open_page, wait_live
from tests.integration.media.harness import Worker, running_workers

pytestmark = pytest.mark.browser


async def only(worker: Worker, role: str) -> dict[str, Any]:
    sessions: list[dict[str, Any]] = list((await worker.stats())["sessions"].values())
    (found,) = [session for session in sessions if session["role"] == role]
    return found


async def test_layers_are_chosen_through_a_pull_and_unneeded_ones_not_sent() -> None:
    async with running_workers(2) as (home, away), chromium() as browser:
        camera = await open_page(browser, home)
        await camera.evaluate("publish('main', 'VP8', [1280, 720], true)")
        await wait_live(home, "main")
        await until_sighted(away)
        async with screen(browser, away) as viewer:
            for height in (180, 720):
                await viewer.cap(height)
                await viewer.until(f"{height} lines", is_height(height), 30)
                before = (await viewer.video())["framesDecoded"]
                await viewer.until("20 frames further", has_decoded(before + 20), 15)
                if height == 180:
                    await until_wanted(home, ["q"])
                    tracks = (await only(home, "feed"))["tracks"]
                    states = {t["rid"]: t["state"] for t in tracks if t["kind"] == "video"}
                    assert states["f"] == states["h"] == "idle", states
            video = await viewer.video()
            assert video["packetsLost"] == 0
            assert video["framesReceived"] - video["framesDecoded"] - video["framesDropped"] <= 3
            pull = await only(away, "pull")
            assert sum(t["lost"] for t in pull["tracks"]) == 0


async def until_sighted(worker: Worker) -> None:
    for _ in range(250):
        room = (await worker.stats())["rooms"].get("shop")
        if room is not None and room["cameras"]["main"]["elsewhere"]:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the other worker never heard of the camera")


async def until_wanted(worker: Worker, rids: list[str]) -> None:
    """Wait until the pulling worker has asked for these layers alone."""
    deadline = time.monotonic() + 30
    while (wanted := (await only(worker, "feed"))["wanted"]) != rids:
        assert time.monotonic() < deadline, wanted
        await asyncio.sleep(0.1)
