"""A real worker on loopback sockets, its control API, and aiortc as publisher and viewer."""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import av
import httpx
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError

from media.udp import SendMode
from media.worker import WorkerSettings, serve

SECRET = "control-secret-of-the-tests"
VIDEO_CLOCK = 90_000
SAMPLE_RATE = 48_000


async def eventually(check: Callable[[], str], timeout_s: float = 15.0) -> None:
    """Wait until `check` returns "", else fail with what it said last."""
    deadline = time.monotonic() + timeout_s
    while reason := check():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout_s} s: {reason}")
        await asyncio.sleep(0.02)


@dataclass
class Worker:
    """A running worker and a client of its control API."""

    http: httpx.AsyncClient
    udp: socket.socket
    settings: WorkerSettings
    stop: asyncio.Event
    sessions: dict[str, str] = field(default_factory=dict)

    async def post(self, path: str, sdp: str, identity: str = "tester") -> httpx.Response:
        body = {"sdp": sdp, "identity": identity, "bearer": True}
        return await self.http.post(path, json=body)

    async def stats(self) -> dict[str, Any]:
        response = await self.http.get("/v1/stats")
        assert response.status_code == 200
        stats: dict[str, Any] = response.json()
        return stats

    async def session(self, room: str, session: str) -> dict[str, Any]:
        response = await self.http.get(f"/v1/sessions/{session}", params={"room": room})
        assert response.status_code == 200, response.text
        details: dict[str, Any] = response.json()
        return details

    async def put(self, path: str, body: dict[str, Any], **params: str) -> httpx.Response:
        return await self.http.put(path, json=body, params=params)

    @contextlib.asynccontextmanager
    async def events(self) -> AsyncIterator[asyncio.Queue[dict[str, Any]]]:
        """Everything the event stream says, pings left out."""
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def read(response: httpx.Response) -> None:
            async for line in response.aiter_lines():
                event = json.loads(line)
                if event["type"] != "ping":
                    queue.put_nowait(event)

        async with self.http.stream("GET", "/v1/events", timeout=None) as response:
            task = asyncio.create_task(read(response))
            try:
                yield queue
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def running_worker(
    send_mode: SendMode = SendMode.GSO,
    udp: socket.socket | None = None,
    *,
    index: int = 0,
    control: socket.socket | None = None,
    peers: tuple[str, ...] = (),
) -> AsyncIterator[Worker]:
    """Start a worker on ephemeral loopback ports; stop it in order at the end.

    `control` and `peers` are for several workers that know each other (`running_workers`).
    """
    if udp is None:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
    control = control or socket.create_server(("127.0.0.1", 0))
    settings = WorkerSettings(index, SECRET, peers=peers, send_mode=send_mode)
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(serve(settings, udp, control, stop, ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    base = f"http://127.0.0.1:{control.getsockname()[1]}"
    headers = {"Authorization": f"Bearer {SECRET}"}
    try:
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=10) as http:
            worker = Worker(http, udp, settings, stop)
            yield worker
            if not stop.is_set():
                # No test may cause a fault of ours, whatever else it shows.
                assert "internal" not in (await worker.stats())["worker"]["drops"]
    finally:
        stop.set()
        await asyncio.wait_for(task, 5)
        control.close()
        udp.close()


@contextlib.asynccontextmanager
async def running_workers(count: int) -> AsyncIterator[list[Worker]]:
    """Several workers on one loop that pull cameras from each other."""
    controls = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    urls = [f"http://127.0.0.1:{control.getsockname()[1]}" for control in controls]
    async with contextlib.AsyncExitStack() as stack:
        workers = []
        for index, control in enumerate(controls):
            peers = tuple(url for url in urls if url != urls[index])
            worker = running_worker(index=index, control=control, peers=peers)
            workers.append(await stack.enter_async_context(worker))
        yield workers


class Picture(MediaStreamTrack):
    """Moving bars of a given size at 30 frames a second; `tone` is their brightness."""

    kind = "video"

    def __init__(self, width: int = 320, height: int = 240, tone: int = 128) -> None:
        super().__init__()
        self.sent = 0
        self._size = (height, width)
        self._tone = tone
        self._start = time.monotonic()

    async def recv(self) -> av.VideoFrame:
        if self.readyState != "live":
            raise MediaStreamError
        wait = self._start + self.sent / 30 - time.monotonic()
        await asyncio.sleep(max(wait, 0))
        pixels = np.full((*self._size, 3), self._tone, np.uint8)
        at = self.sent * 4 % self._size[1]
        pixels[:, at : at + 16] = 255 - self._tone
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts = self.sent * VIDEO_CLOCK // 30
        frame.time_base = fractions.Fraction(1, VIDEO_CLOCK)
        self.sent += 1
        return frame


class Sound(MediaStreamTrack):
    """A quiet tone in 20 ms frames."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._sent = 0
        self._start = time.monotonic()

    async def recv(self) -> av.AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        wait = self._start + self._sent / SAMPLE_RATE - time.monotonic()
        await asyncio.sleep(max(wait, 0))
        t = (np.arange(960) + self._sent) / SAMPLE_RATE
        samples = (np.sin(t * 440 * 2 * np.pi) * 3000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts = self._sent
        frame.time_base = fractions.Fraction(1, SAMPLE_RATE)
        self._sent += 960
        return frame


class Publishing:
    """An aiortc publisher."""

    def __init__(self, worker: Worker, room: str, camera: str) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.worker, self.room, self.camera = worker, room, camera
        self.session = ""
        self.picture: Picture | None = None

    async def close(self) -> None:
        if self.picture is not None:
            self.picture.stop()
        await self.pc.close()


async def publish(
    worker: Worker,
    room: str = "shop",
    camera: str = "main",
    *,
    codec: str = "VP8",
    picture: Picture | None = None,
    sound: bool = True,
    rewrite: Callable[[str], str] | None = None,
) -> Publishing:
    """Publish a real encoded picture (and sound) by WHIP. `rewrite` as in `watch`."""
    publishing = Publishing(worker, room, camera)
    pc = publishing.pc
    publishing.picture = picture or Picture()
    transceiver = pc.addTransceiver(publishing.picture, direction="sendonly")
    offered = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences(
        [c for c in offered if c.mimeType in (f"video/{codec}", "video/rtx")]
    )
    if sound:
        pc.addTransceiver(Sound(), direction="sendonly")
    await pc.setLocalDescription(await pc.createOffer())
    response = await worker.post(f"/v1/whip/{room}/{camera}", pc.localDescription.sdp)
    assert response.status_code == 201, response.text
    answer = response.json()
    publishing.session = answer["session"]
    sdp = rewrite(answer["sdp"]) if rewrite is not None else answer["sdp"]
    await pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
    return publishing


class Watching:
    """An aiortc viewer that decodes what it gets."""

    def __init__(self, worker: Worker, room: str) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.worker, self.room = worker, room
        self.session = ""
        self.frames = 0
        self.sounds = 0
        self.sizes: list[tuple[int, int]] = []
        self.tone = 0
        self.pts: list[int] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.pc.on("track", self._on_track)

    def _on_track(self, track: MediaStreamTrack) -> None:
        self._tasks.append(asyncio.create_task(self._consume(track)))

    async def _consume(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, av.VideoFrame):
                self.frames += 1
                self.pts.append(frame.pts or 0)
                size = (frame.width, frame.height)
                if not self.sizes or self.sizes[-1] != size:
                    self.sizes.append(size)
                self.tone = int(np.median(frame.to_ndarray(format="gray")))
            else:
                self.sounds += 1

    async def frames_after(self, more: int, timeout_s: float = 15.0) -> None:
        """Wait for `more` further frames."""
        goal = self.frames + more
        await eventually(
            lambda: "" if self.frames >= goal else f"{self.frames} of {goal} frames", timeout_s
        )

    async def close(self) -> None:
        await self.pc.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def watch(
    worker: Worker,
    room: str = "shop",
    camera: str | None = None,
    *,
    kinds: tuple[str, ...] = ("video", "audio"),
    rewrite: Callable[[str], str] | None = None,
) -> Watching:
    """Watch by WHEP. `rewrite` may change the answer (to lead the media over a bad link)."""
    watching = Watching(worker, room)
    pc = watching.pc
    for kind in kinds:
        pc.addTransceiver(kind, direction="recvonly")
    await pc.setLocalDescription(await pc.createOffer())
    path = f"/v1/whep/{room}" + (f"/{camera}" if camera else "")
    response = await worker.post(path, pc.localDescription.sdp)
    assert response.status_code == 201, response.text
    answer = response.json()
    watching.session = answer["session"]
    sdp = rewrite(answer["sdp"]) if rewrite is not None else answer["sdp"]
    await pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
    return watching
