"""aiortc publishes and plays through a real worker: pictures are decoded, not counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from media.udp import SendMode
from tests.integration.media.harness import (
    Picture,
    Publishing,
    Watching,
    Worker,
    eventually,
    publish,
    running_worker,
    watch,
)
from tests.support.link import Conditions, UdpLink


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_picture_and_sound_arrive_decoded(codec: str) -> None:
    async with running_worker() as worker:
        publishing = await publish(worker, codec=codec)
        watching = await watch(worker)
        await watching.frames_after(30)
        await eventually(lambda: "" if watching.sounds > 20 else f"{watching.sounds} sounds")
        assert watching.sizes == [(320, 240)]
        assert watching.pts == sorted(watching.pts)
        details = await worker.session("shop", watching.session)
        assert details["state"] == "connected"
        assert {t["codec"] for t in details["tracks"]} == {codec, "opus"}
        await watching.close()
        await publishing.close()


@pytest.mark.parametrize("mode", [SendMode.SENDMMSG, SendMode.SENDTO])
async def test_plainer_send_modes_serve_too(mode: SendMode) -> None:
    async with running_worker(mode) as worker:
        publishing = await publish(worker, sound=False)
        watching = await watch(worker, kinds=("video",))
        await watching.frames_after(15)
        assert (await worker.stats())["worker"]["send_mode"] == mode.value
        await watching.close()
        await publishing.close()


async def test_two_viewers_join_in_turn_and_both_see() -> None:
    async with running_worker() as worker:
        publishing = await publish(worker)
        first = await watch(worker)
        await first.frames_after(10)
        second = await watch(worker, camera="main")
        await second.frames_after(10)
        await first.frames_after(10)
        stats = await worker.stats()
        assert stats["rooms"]["shop"]["viewers"] == 2
        assert stats["worker"]["drops"].get("internal", 0) == 0
        await second.close()
        await eventually_viewers(worker, 1)
        await first.frames_after(5)
        await first.close()
        await publishing.close()


async def eventually_viewers(worker: Worker, count: int) -> None:
    async with worker.events() as events:
        snapshot = await events.get()
        n = snapshot["rooms"]["shop"]["viewers"]
        while n != count:
            event = await events.get()
            if event["type"] == "viewers":
                n = event["n"]


async def test_viewer_goes_on_when_the_publisher_comes_back() -> None:
    async with running_worker() as worker, worker.events() as events:
        assert (await events.get())["type"] == "snapshot"
        publishing = await publish(worker)
        live = await events.get()
        assert (live["type"], live["camera"]) == ("camera.live", "main")
        assert (await events.get())["type"] == "program.changed"
        watching = await watch(worker)
        await watching.frames_after(10)
        left_at = asyncio.get_running_loop().time()
        await publishing.close()
        while (event := await events.get())["type"] != "camera.offline":
            assert event["type"] in ("viewers", "camera.live")
        assert asyncio.get_running_loop().time() - left_at < 2
        again = await publish(worker, picture=Picture(320, 240, tone=40))
        await watching.frames_after(20)
        assert watching.tone < 90
        assert watching.pts == sorted(watching.pts)
        await watching.close()
        await again.close()


async def test_cameras_of_other_codec_and_size_are_switched_on_one_line() -> None:
    async with running_worker() as worker:
        left = await publish(worker, camera="left", codec="VP8", picture=Picture(320, 240))
        watching = await watch(worker)
        await watching.frames_after(10)
        right = await publish(worker, camera="right", codec="H264", picture=Picture(480, 270))
        await eventually_live(worker, "right")
        where = f"/v1/sessions/{watching.session}/camera"
        for camera, size in (("right", (480, 270)), ("left", (320, 240)), (None, (320, 240))):
            response = await worker.put(where, {"camera": camera}, room="shop")
            assert response.status_code == 204
            await eventually_size(watching, size)
            await watching.frames_after(10)
        response = await worker.put("/v1/rooms/shop/program", {"camera": "right"})
        assert response.status_code == 204
        await eventually_size(watching, (480, 270))
        sounds = watching.sounds
        await eventually(lambda: "" if watching.sounds > sounds + 20 else f"{watching.sounds}")
        missing = await worker.put(where, {"camera": "never"}, room="shop")
        assert (missing.status_code, missing.json()["reason"]) == (404, "no_camera")
        refused = await worker.put(
            f"/v1/sessions/{left.session}/layer", {"max_height": 100}, room="shop"
        )
        assert (refused.status_code, refused.json()["reason"]) == (409, "bad_state")
        assert watching.pts == sorted(watching.pts)
        await watching.close()
        await left.close()
        await right.close()


async def eventually_size(watching: Watching, size: tuple[int, int]) -> None:
    await eventually(lambda: "" if watching.sizes[-1] == size else f"{watching.sizes}")


async def eventually_live(worker: Worker, camera: str) -> None:
    async with worker.events() as events:
        cameras = (await events.get())["rooms"].get("shop", {}).get("cameras", {})
        if cameras.get(camera, {}).get("live"):
            return
        while (event := await events.get())["type"] != "camera.live" or event["camera"] != camera:
            pass


async def test_lost_packets_are_resent_from_the_ring() -> None:
    async with running_worker() as worker:
        conditions = Conditions(loss=0.05, delay_s=0.02, reorder=0.01, duplicate=0.01)
        async with UdpLink(worker.udp.getsockname(), seed=7, to_client=conditions) as link:
            publishing = await publish(worker)
            watching = await watch(worker, rewrite=through(worker, link))
            await watching.frames_after(150, timeout_s=20)
            line = next(
                t
                for t in (await worker.session("shop", watching.session))["tracks"]
                if t["kind"] == "video"
            )
            assert line["nacks"] > 0
            assert line["resent"] > 0
            assert link.to_client.lost > 5
            # A resent packet came in time where the decoder never had to begin anew.
            assert line["plis"] <= 2
            await watching.close()
            await publishing.close()


async def test_publisher_losses_are_asked_for_again() -> None:
    async with running_worker() as worker:
        conditions = Conditions(loss=0.05, delay_s=0.01)
        async with UdpLink(worker.udp.getsockname(), seed=3, to_server=conditions) as link:
            publishing = await publish(worker, rewrite=through(worker, link))
            watching = await watch(worker)
            await watching.frames_after(150, timeout_s=20)
            tracks = (await worker.session("shop", publishing.session))["tracks"]
            video = next(t for t in tracks if t["kind"] == "video")
            assert video["recovered"] > 0
            assert video["given_up"] == 0
            await watching.close()
            await publishing.close()


def through(worker: Worker, link: UdpLink) -> Callable[[str], str]:
    """Lead media over the link by changing the candidate's port."""
    port = worker.udp.getsockname()[1]
    return lambda sdp: sdp.replace(f" {port} typ host", f" {link.address[1]} typ host")


async def test_takeover_ends_the_old_session_and_shows_the_new_picture() -> None:
    async with running_worker() as worker:
        old = await publish(worker, picture=Picture(tone=200))
        watching = await watch(worker)
        await watching.frames_after(10)
        new = await publish(worker, picture=Picture(tone=30))
        await eventually(lambda: "" if watching.tone < 90 else f"tone {watching.tone}")
        await watching.frames_after(10)
        gone = await worker.http.get(f"/v1/sessions/{old.session}", params={"room": "shop"})
        assert (gone.status_code, gone.json()["reason"]) == (404, "no_session")
        await eventually_closed(old)
        cameras = (await worker.stats())["rooms"]["shop"]["cameras"]
        assert cameras["main"]["session"] == new.session
        for end in (watching, old, new):
            await end.close()


async def test_delete_ends_sessions_at_once() -> None:
    async with running_worker() as worker:
        publishing = await publish(worker)
        watching = await watch(worker)
        await watching.frames_after(5)
        wrong = await worker.http.delete(
            f"/v1/sessions/{watching.session}", params={"room": "other"}
        )
        assert (wrong.status_code, wrong.json()["reason"]) == (404, "no_session")
        for session in (watching.session, publishing.session):
            where, room = f"/v1/sessions/{session}", {"room": "shop"}
            assert (await worker.http.delete(where, params=room)).status_code == 200
            assert (await worker.http.delete(where, params=room)).status_code == 404
        await eventually_closed(watching)
        stats = await worker.stats()
        assert stats["worker"]["sessions"] == 0
        assert stats["worker"]["addresses"] == 0
        nobody = await worker.post("/v1/whep/shop", watching.pc.localDescription.sdp)
        assert (nobody.status_code, nobody.json()["reason"]) == (404, "not_live")
        assert nobody.headers["retry-after"]
        await watching.close()
        await publishing.close()


async def test_orderly_stop_tells_everybody() -> None:
    async with running_worker() as worker:
        publishing = await publish(worker)
        watching = await watch(worker)
        await watching.frames_after(5)
        worker.stop.set()
        await eventually_closed(publishing)
        await eventually_closed(watching)
    await watching.close()
    await publishing.close()


async def eventually_closed(end: Publishing | Watching) -> None:
    await eventually(
        lambda: "" if end.pc.connectionState == "closed" else end.pc.connectionState, 5
    )


async def test_ice_restart_by_patch_keeps_the_picture() -> None:
    async with running_worker() as worker:
        publishing = await publish(worker)
        watching = await watch(worker)
        await watching.frames_after(5)
        sdp = watching.pc.localDescription.sdp
        ufrag, pwd = (
            next(line.split(":")[1] for line in sdp.splitlines() if line.startswith(f"a=ice-{x}:"))
            for x in ("ufrag", "pwd")
        )
        where = f"/v1/sessions/{watching.session}"

        async def patch(u: str, p: str, if_match: str | None) -> httpx.Response:
            frag = f"a=ice-ufrag:{u}\r\na=ice-pwd:{p}\r\n"
            body = {"sdpfrag": frag, "if_match": if_match}
            return await worker.http.patch(where, json=body, params={"room": "shop"})

        assert (await patch(ufrag, pwd, None)).status_code == 204
        stale = await patch(ufrag, pwd, '"stale"')
        assert (stale.status_code, stale.json()["reason"]) == (412, "etag_mismatch")
        assert (await patch("!", pwd, None)).json()["reason"] == "bad_sdp"
        restarted = await patch("abcd", "0123456789012345678901", "*")
        assert restarted.status_code == 200
        assert "a=ice-ufrag:" in restarted.json()["sdpfrag"]
        # Media goes on over the old pair until the new one is checked.
        await watching.frames_after(10)
        await watching.close()
        await publishing.close()


async def test_silent_publisher_is_offline_after_five_seconds_and_may_come_back() -> None:
    async with (
        running_worker() as worker,
        worker.events() as events,
        UdpLink(worker.udp.getsockname(), seed=1) as link,
    ):
        publishing = await publish(worker, rewrite=through(worker, link))
        watching = await watch(worker)
        await watching.frames_after(5)
        gone = Conditions(loss=1.0)
        link.set_conditions(to_server=gone, to_client=gone)
        silent_at = asyncio.get_running_loop().time()
        while (await events.get())["type"] != "camera.offline":
            pass
        assert 4 < asyncio.get_running_loop().time() - silent_at < 8
        assert (await worker.session("shop", watching.session))["state"] == "connected"
        # The same session goes on when packets come again, and so does the picture.
        link.set_conditions(to_server=Conditions(), to_client=Conditions())
        while (event := await events.get())["type"] != "camera.live":
            pass
        assert event["session"] == publishing.session
        await watching.frames_after(10)
        await watching.close()
        await publishing.close()
