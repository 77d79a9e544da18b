"""Three media workers behind the real server: steering, pulls, and deaths of workers.

Viewers are real WHEP clients that authenticate every packet and join again when their
session ends, as the pages do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import httpx

from interact.protocol import Role
from loadtest.pattern import PatternFeed
from loadtest.transport import ConnectFailed
from loadtest.whep import Viewer
from loadtest.whip import Publisher, Refusal
from media.rtp.rtcp import unix_from_ntp
from media.stage.feed import Kind, Unit
from tests.support.server import Server, running_server

WORKERS = 3
BLACK_S = 8.0
"""A few seconds: a killed worker's restart, one consent check of 2 s, one join; and what a
busy test machine adds."""


class Phone:
    """A viewer as a page is one: when its session ends it asks for a new one."""

    def __init__(self, server: Server, path: str = "") -> None:
        self._server = server
        self._path = path
        self.viewer: Viewer | None = None
        self.joins = 0
        self._task = asyncio.create_task(self._run())

    @property
    def worker(self) -> int:
        """Which media worker serves it."""
        viewer = self.viewer
        location = viewer.location if viewer is not None else ""
        return int(location.rpartition("/")[2][1]) if location else -1

    @property
    def frames(self) -> int:
        return self.viewer.video.frames if self.viewer is not None else 0

    async def _run(self) -> None:
        url = f"{self._server.url}/whep/shop{self._path}"
        while True:
            viewer = Viewer(self._server.http, url, self._server.token(), full=True)
            try:
                await viewer.start()
            except (Refusal, ConnectFailed, httpx.HTTPError):
                await asyncio.sleep(0.2)
                continue
            self.joins += 1
            self.viewer = viewer
            await asyncio.shield(viewer.closed)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self.viewer is not None:
            await self.viewer.stop()


@contextlib.asynccontextmanager
async def on_air(server: Server) -> AsyncIterator[Publisher]:
    """A camera with picture and sound that publishes again whenever it has to."""
    feed = PatternFeed("main", 800_000)
    publisher = Publisher(
        server.http,
        f"{server.url}/whip/shop/main",
        lambda: server.token(role=Role.HOST),
        request_key=feed.request_key,
    )

    def take(unit: Unit) -> None:
        publisher.feed(unit)
        publisher.feed(Unit(None, Kind.AUDIO, bytes(60), unit.at_s))

    tasks = [asyncio.create_task(publisher.run()), asyncio.create_task(feed.run(take))]
    try:
        yield publisher
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(why_not: Callable[[], str], timeout_s: float) -> float:
    """Wait until `why_not` has nothing to say any more; how long it took."""
    began = time.monotonic()
    while reason := why_not():
        assert time.monotonic() - began < timeout_s, f"after {timeout_s} s: {reason}"
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def all_see(phones: list[Phone], timeout_s: float, more: int = 20) -> float:
    """Wait until every phone has got further frames; how long the last one waited."""
    before = {phone: (phone.viewer, phone.frames) for phone in phones}

    def why_not() -> str:
        for number, (phone, (viewer, frames)) in enumerate(before.items()):
            seen = phone.frames - (frames if phone.viewer is viewer else 0)
            if seen < more:
                return f"phone {number} on worker {phone.worker} has {seen} of {more} frames"
        return ""

    return await until(why_not, timeout_s)


async def figures(server: Server, name: str) -> list[float]:
    return [
        await server.metric(f"livehouse_media_{name}", worker=str(index))
        for index in range(WORKERS)
    ]


def home_of(server: Server, publishers: list[float]) -> int:
    return publishers.index(max(publishers))


async def test_one_show_on_three_workers_through_every_death() -> None:
    async with (
        running_server(media_workers=WORKERS) as server,
        on_air(server) as publisher,
        contextlib.AsyncExitStack() as stack,
    ):
        await until(lambda: "" if publisher.video.packets > 30 else "not on air", 15)
        phones: list[Phone] = []
        for number in range(9):
            phone = Phone(server, "/main" if number % 2 else "")
            stack.push_async_callback(phone.close)
            phones.append(phone)
            await until(lambda phone=phone: "" if phone.joins else "not in", 15)  # type: ignore[misc]

        # Viewers are on every worker, and each worker that lacks the camera pulls it once.
        await all_see(phones, 15)
        spread = Counter(phone.worker for phone in phones)
        assert set(spread) == set(range(WORKERS)), spread
        assert sorted(await figures(server, "pulls")) == [0, 1, 1]
        feeds = await figures(server, "feeds")
        assert sorted(feeds) == [0, 0, 2]
        home = home_of(server, feeds)
        away = next(index for index in range(WORKERS) if index != home)
        for phone in phones:
            assert phone.viewer is not None
            assert phone.viewer.forged == 0
            assert phone.viewer.sound.packets > 10
            if phone.worker != home:
                assert phone.viewer.video.lost == 0, "numbers are continuous through a pull"

        # A worker with viewers dies: only they notice, and join the others at once.
        others = [phone for phone in phones if phone.worker != away]
        victims = [phone for phone in phones if phone.worker == away]
        os.kill(server.children()[f"media{away}"], signal.SIGKILL)
        await until(lambda: "" if all(p.joins == 2 for p in victims) else "not back", BLACK_S)
        await all_see(phones, BLACK_S)
        assert all(phone.joins == 1 for phone in others)

        # The worker with the camera dies: it is published again, and everybody sees it.
        sessions = publisher.sessions
        os.kill(server.children()[f"media{home}"], signal.SIGKILL)
        await until(lambda: "" if publisher.sessions > sessions else "not back", BLACK_S)
        await all_see(phones, BLACK_S)

        # Everybody leaves: pulls end some ten seconds later, and nothing is left behind.
        for phone in phones:
            await phone.close()
        began = time.monotonic()
        while any(await figures(server, "pulls")):
            assert time.monotonic() - began < 15
            await asyncio.sleep(0.3)
        assert time.monotonic() - began > 5, "a pull outlives its last viewer for a while"
        await until(lambda: "" if publisher.is_live else "not live", 5)
        assert sum(await figures(server, "sessions")) == 1


class Ear(Viewer):
    """A viewer that notes every RTP time it gets."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.http, f"{server.url}/whep/shop", server.token(), full=True)
        self.times: dict[int, set[int]] = {}

    def _arrived(self, data: bytes, now: float) -> None:
        if not 192 <= data[1] <= 223:
            rtp_ts, ssrc = struct.unpack_from(">II", data, 4)
            self.times.setdefault(ssrc, set()).add(rtp_ts)
        super()._arrived(data, now)

    def moments(self, ssrc: int, clock_rate: int) -> list[float]:
        """When each packet of a stream was taken, by its sender reports (Unix seconds)."""
        clock = self.clocks[ssrc]
        at = unix_from_ntp(clock.ntp)
        return [
            at + ((ts - clock.rtp_ts + 0x80000000 & 0xFFFFFFFF) - 0x80000000) / clock_rate
            for ts in self.times[ssrc]
        ]


async def test_sound_and_picture_stay_together_through_a_pull() -> None:
    async with running_server(media_workers=2) as server, on_air(server) as publisher:
        await until(lambda: "" if publisher.video.packets > 30 else "not on air", 15)
        ears: list[Ear] = []
        while len({ear.location.rpartition("/")[2][:2] for ear in ears}) < 2:
            ears.append(Ear(server))
            await ears[-1].start()
            assert len(ears) < 9, "all on one worker"
        direct_and_pulled = (ears[0], ears[-1])
        for ear in direct_and_pulled:
            await until(lambda ear=ear: "" if ear.video.frames > 60 else "no picture", 15)  # type: ignore[misc]
            await until(lambda ear=ear: "" if len(ear.clocks) == 2 else "no reports", 5)  # type: ignore[misc]
        for ear in direct_and_pulled:
            # A picture and a piece of sound are taken at each moment, 33 ms apart.
            sound = sorted(ear.moments(ear.sound.ssrc, 48_000))
            apart = [
                min(abs(at - other) for other in sound)
                for at in ear.moments(ear.video.ssrc, 90_000)
            ]
            assert statistics.median(apart) < 0.005, apart
        for ear in ears:
            await ear.stop()


async def test_viewer_right_behind_the_publisher_is_let_in_by_some_worker() -> None:
    async with running_server(media_workers=2) as server, on_air(server) as publisher:
        await until(lambda: "" if publisher.is_live else "not live", 15)
        phones = [Phone(server) for _ in range(6)]
        try:
            await all_see(phones, 15, more=5)
            answer = await server.http.get("/api/v1/rooms/shop", headers=server.bearer())
            assert answer.json()["program"] == "main"
        finally:
            for phone in phones:
                await phone.close()
