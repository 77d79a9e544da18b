"""Several workers, one show: a camera published on one is watched on the others.

The workers are whole and talk over real sockets: HTTP between control APIs, ICE, DTLS and
SRTP between UDP ports. Pictures are decoded at the far end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.media.harness import (
    Picture,
    Watching,
    Worker,
    publish,
    running_worker,
    running_workers,
    watch,
)
from tests.support.link import Conditions, UdpLink


async def pulls_of(worker: Worker) -> dict[str, Any]:
    cascade: dict[str, Any] = (await worker.stats())["cascade"]
    return cascade


async def until_live(worker: Worker, room: str = "shop", camera: str = "main") -> None:
    """Wait until a worker knows that a camera is live somewhere."""
    for _ in range(500):
        known = (await worker.stats())["rooms"].get(room, {}).get("cameras", {}).get(camera, {})
        if known.get("live") or known.get("elsewhere"):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{camera} never became live")


async def sessions(worker: Worker, role: str) -> list[dict[str, Any]]:
    return [s for s in (await worker.stats())["sessions"].values() if s["role"] == role]


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_viewers_of_every_worker_see_and_hear_by_one_pull_each(codec: str) -> None:
    async with running_workers(2) as (home, away):
        publishing = await publish(home, codec=codec)
        await until_live(away)
        watchings = [await watch(away), await watch(away, camera="main"), await watch(home)]
        for watching in watchings:
            await watching.frames_after(20)
            assert watching.sizes == [(320, 240)]
            assert watching.pts == sorted(watching.pts)
        for watching in watchings:
            assert watching.sounds > 5
        assert (await pulls_of(away))["opened"] == 1
        assert (await pulls_of(home))["opened"] == 0
        (pull,) = await sessions(away, "pull")
        (feed,) = await sessions(home, "feed")
        assert {t["codec"] for t in pull["tracks"]} == {codec, "opus"}
        assert sum(t["lost"] for t in pull["tracks"]) == 0
        assert feed["camera"] == "main"
        stats = await home.stats()
        assert stats["rooms"]["shop"]["viewers"] == 1, "a pull is no viewer"
        await close(*watchings, publishing)


async def close(*parts: Any) -> None:
    for part in parts:
        await part.close()


async def test_publisher_leaves_and_comes_back_elsewhere() -> None:
    async with running_workers(3) as (first, second, third):
        publishing = await publish(first)
        await until_live(third)
        watching = await watch(third)
        await watching.frames_after(10)
        await publishing.close()
        await first.http.delete(f"/v1/sessions/{publishing.session}", params={"room": "shop"})
        again = await publish(second)
        await watching.frames_after(20)
        assert (await pulls_of(third))["pulls"].keys() == {"shop/main"}
        (pull,) = await sessions(third, "pull")
        assert pull["origin"].endswith(str(second.http.base_url.port))
        await close(watching, again)


async def test_newer_publisher_on_another_worker_takes_the_camera_over() -> None:
    async with running_workers(2) as (first, second):
        old = await publish(first)
        await until_live(second)
        watching = await watch(first)
        await watching.frames_after(5)
        new = await publish(second, picture=Picture(160, 120))
        await until_size(watching, (160, 120))
        assert await sessions(first, "publisher") == []
        await close(watching, new, old)


async def until_size(watching: Watching, size: tuple[int, int]) -> None:
    for _ in range(750):
        if watching.sizes and watching.sizes[-1] == size:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{watching.sizes}, never {size}")


async def test_program_follows_the_director_on_every_worker() -> None:
    async with running_workers(2) as (left, right):
        one = await publish(left, camera="one", sound=False)
        await until_live(right, camera="one")
        two = await publish(right, camera="two", picture=Picture(160, 120), sound=False)
        await until_live(left, camera="two")
        watchings = [await watch(w, kinds=("video",)) for w in (left, right)]
        for watching in watchings:
            await watching.frames_after(5)
            assert watching.sizes == [(320, 240)], "the camera that was live first"
        response = await left.put("/v1/rooms/shop/program", {"camera": "two"})
        assert response.status_code == 204
        for watching in watchings:
            await until_size(watching, (160, 120))
        response = await right.put("/v1/rooms/shop/program", {"camera": None})
        for watching in watchings:
            await until_size(watching, (320, 240))
        await close(*watchings, one, two)


@contextlib.asynccontextmanager
async def control_through(worker: Worker, link: UdpLink) -> AsyncIterator[str]:
    """A worker's control API as another machine would see it whose media takes `link`."""
    real, led = (str(port).encode() for port in (worker.udp.getsockname()[1], link.address[1]))
    assert len(real) == len(led)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while data := await reader.read(65536):
                writer.write(data.replace(b'"127.0.0.1",' + real, b'"127.0.0.1",' + led))
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", worker.http.base_url.port)
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_losses_between_workers_are_repaired_on_that_hop() -> None:
    weather = Conditions(loss=0.05, delay_s=0.01, reorder=0.01, duplicate=0.01)
    async with (
        running_worker() as home,
        UdpLink(home.udp.getsockname(), seed=5, to_server=weather, to_client=weather) as link,
        control_through(home, link) as url,
        running_worker(index=1, peers=(url,)) as away,
    ):
        publishing = await publish(home)
        await until_live(away)
        watching = await watch(away)
        await watching.frames_after(150, timeout_s=20)
        assert link.to_client.lost > 5
        (pull,) = await sessions(away, "pull")
        video = next(t for t in pull["tracks"] if t["kind"] == "video")
        assert video["recovered"] > 0
        assert video["given_up"] == 0
        assert 20 <= pull["hop_rtt_ms"] < 500
        (feed,) = await sessions(home, "feed")
        assert sum(t["resent"] for t in feed["tracks"]) > 0
        (viewer,) = await sessions(away, "viewer")
        assert sum(t["plis"] for t in viewer["tracks"]) <= 2, "its decoder never began anew"
        await close(watching, publishing)


async def test_pull_begins_with_the_cached_key_frame() -> None:
    async with running_workers(2) as (home, away):
        publishing = await publish(home, sound=False)
        first = await watch(home, kinds=("video",))
        await first.frames_after(10)
        await until_live(away)
        asked = await key_frames_asked(home)
        watching = await watch(away, kinds=("video",))
        await watching.frames_after(5)
        (pull,) = await sessions(away, "pull")
        (track,) = pull["tracks"]
        assert track["key_frames"] > 0
        assert "too_early" not in pull["drops"]
        assert await key_frames_asked(home) == asked, "nobody had to ask the camera for one"
        await close(first, watching, publishing)


async def key_frames_asked(worker: Worker) -> int:
    (publisher,) = await sessions(worker, "publisher")
    return int(publisher["plis_sent"])
