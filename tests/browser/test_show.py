"""From the studio's camera to the phone and the wall, through faults in between."""

from __future__ import annotations

import os
import signal

from interact.protocol import Role
from tests.support.browser import (
    LAPTOP,
    ROOM,
    WALL,
    Show,
    frames_rise,
    has,
    picture_size,
    until,
)


async def test_what_the_studio_publishes_plays_on_phone_and_wall(stage: Show) -> None:
    phone = await stage.open("v")
    # Nobody has opened the room; the page comes in by itself when the host does.
    await phone.get_by_test_id("gate").wait_for()
    studio = await stage.open_studio()
    await has(phone.get_by_test_id("viewer"), "data-video", "waiting")
    assert await phone.get_by_test_id("dark-stage").is_visible()

    await studio.get_by_test_id("go-live").click()
    await has(studio.get_by_test_id("studio"), "data-air", "live")
    wall = await stage.open(
        "screen", token=stage.server.token(ROOM, Role.SCREEN, identity="wall"), size=WALL
    )
    await has(phone.get_by_test_id("viewer"), "data-video", "playing")
    await has(wall.get_by_test_id("screen"), "data-video", "playing")
    await frames_rise(phone, "viewer")
    await frames_rise(wall, "screen")
    width, height = await picture_size(phone)
    assert width * 9 == height * 16, (width, height)
    assert await phone.get_by_test_id("live-badge").get_attribute("data-live") == "true"

    await studio.get_by_test_id("stop-live").click()
    await has(phone.get_by_test_id("live-badge"), "data-live", "false")
    await has(studio.get_by_test_id("studio"), "data-air", "off")
    # The same session goes on when the camera returns: the viewer does nothing.
    joins = await phone.get_by_test_id("viewer").get_attribute("data-joins")
    await studio.get_by_test_id("go-live").click()
    await has(phone.get_by_test_id("live-badge"), "data-live", "true")
    await frames_rise(phone, "viewer")
    assert await phone.get_by_test_id("viewer").get_attribute("data-joins") == joins


async def test_a_viewer_survives_the_death_of_the_media_worker(stage: Show) -> None:
    studio = await stage.go_live()
    phone = await stage.open("v")
    viewer = phone.get_by_test_id("viewer")
    await has(viewer, "data-video", "playing")
    await frames_rise(phone, "viewer")
    loaded_at = await phone.evaluate("performance.timeOrigin")
    # What the front video shows, frame after frame: it may freeze, never go black.
    await phone.evaluate(
        """() => {
            window.darkest = 1e9;
            const look = () => {
                const video = document.querySelector("video[data-front]");
                if (video) window.darkest = Math.min(window.darkest, video.videoWidth);
                requestAnimationFrame(look);
            };
            look();
        }"""
    )
    joins = int(await viewer.get_attribute("data-joins") or 0)

    os.kill(stage.server.children()["media0"], signal.SIGKILL)

    await until(viewer, "data-joins", lambda seen: int(seen or 0) > joins, f"above {joins}")
    await has(studio.get_by_test_id("studio"), "data-air", "live")
    await has(viewer, "data-video", "playing")
    await frames_rise(phone, "viewer")
    assert await phone.evaluate("performance.timeOrigin") == loaded_at
    assert await phone.evaluate("window.darkest") > 0


async def test_a_viewer_changes_cameras_without_a_new_session(stage: Show) -> None:
    await stage.go_live("left")
    await stage.go_live("right")
    phone = await stage.open("v", size=LAPTOP)
    viewer = phone.get_by_test_id("viewer")
    await has(viewer, "data-video", "playing")
    await phone.get_by_test_id("cameras").click()
    async with phone.expect_response(lambda response: response.url.endswith("/camera")) as moved:
        await phone.get_by_test_id("camera-right").click()
    assert (await moved.value).status == 204
    await frames_rise(phone, "viewer")
    assert await viewer.get_attribute("data-joins") == "1"
