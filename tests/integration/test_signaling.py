"""WHIP and WHEP through the real server, with aiortc as the foreign peer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import av
import httpx
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from tests.integration.media.harness import Picture, eventually
from tests.support.server import Server, running_server

SDP = {"Content-Type": "application/sdp"}


@dataclass
class Peer:
    """An aiortc peer and the session it has at the server."""

    pc: RTCPeerConnection
    answer: httpx.Response
    frames: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def session(self) -> str:
        return self.answer.headers["Location"]

    def consume(self, track: MediaStreamTrack) -> None:
        async def run() -> None:
            with contextlib.suppress(MediaStreamError):
                while True:
                    frame = await track.recv()
                    self.frames += isinstance(frame, av.VideoFrame)

        self.tasks.append(asyncio.create_task(run()))

    async def more_frames(self, count: int, timeout_s: float = 15.0) -> None:
        goal = self.frames + count
        await eventually(lambda: "" if self.frames >= goal else f"{self.frames}/{goal}", timeout_s)


@contextlib.asynccontextmanager
async def publishing(
    server: Server, camera: str = "main", headers: dict[str, str] | None = None
) -> AsyncIterator[Peer]:
    """A camera on air in room `shop`."""
    pc, picture = RTCPeerConnection(RTCConfiguration(iceServers=[])), Picture()
    try:
        pc.addTransceiver(picture, direction="sendonly")
        await pc.setLocalDescription(await pc.createOffer())
        answer = await server.http.post(
            f"/whip/shop/{camera}",
            content=pc.localDescription.sdp,
            headers=SDP | (headers or server.bearer(role="host")),
        )
        assert answer.status_code == 201, answer.text
        await pc.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        yield Peer(pc, answer)
    finally:
        picture.stop()
        await pc.close()


@contextlib.asynccontextmanager
async def watching(
    server: Server, path: str = "/whep/shop", *, query: bool = False
) -> AsyncIterator[Peer]:
    """A viewer that decodes."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    tracks: list[MediaStreamTrack] = []
    pc.on("track", tracks.append)
    peer: Peer | None = None
    try:
        pc.addTransceiver("video", direction="recvonly")
        await pc.setLocalDescription(await pc.createOffer())
        token = server.token()
        peer = Peer(
            pc,
            await server.http.post(
                path,
                params={"token": token} if query else None,
                content=pc.localDescription.sdp,
                headers=SDP | ({} if query else {"Authorization": f"Bearer {token}"}),
            ),
        )
        assert peer.answer.status_code == 201, peer.answer.text
        await pc.setRemoteDescription(RTCSessionDescription(peer.answer.text, "answer"))
        for track in tracks:
            peer.consume(track)
        yield peer
    finally:
        await pc.close()
        if peer is not None:
            for task in peer.tasks:
                task.cancel()
            await asyncio.gather(*peer.tasks, return_exceptions=True)


async def room_state(server: Server) -> dict[str, Any]:
    answer = await server.http.get("/api/v1/rooms/shop", headers=server.bearer())
    assert answer.status_code == 200, answer.text
    state: dict[str, Any] = answer.json()
    return state


async def until_live(server: Server, *cameras: str, timeout_s: float = 15.0) -> None:
    """Wait until exactly these cameras are live in the room's state."""
    deadline = time.monotonic() + timeout_s
    while True:
        state = await room_state(server)
        live = sorted(c["camera"] for c in state["cameras"] if c["live"])
        if live == sorted(cameras):
            return
        assert time.monotonic() < deadline, f"live: {live}, wanted {cameras}\n{server.log}"
        await asyncio.sleep(0.05)


async def test_camera_is_published_watched_switched_and_ended() -> None:
    arguments = ["--ice-server", "stun:stun.example:3478"]
    async with running_server(arguments=arguments) as server:
        nobody = await server.http.post(
            "/whep/shop", content="v=0\r\n", headers=SDP | server.bearer()
        )
        assert (nobody.status_code, nobody.json()["reason"]) == (404, "not_live")
        assert nobody.headers["Retry-After"] == "1"
        async with publishing(server, "left") as left, publishing(server, "right"):
            answer = left.answer
            assert answer.headers["Content-Type"].startswith("application/sdp")
            assert answer.headers["Location"].startswith("/session/shop/s0b_")
            assert answer.headers["ETag"].startswith('"')
            assert answer.headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"
            assert answer.headers["Link"] == '<stun:stun.example:3478>; rel="ice-server"'
            await until_live(server, "left", "right")
            state = await room_state(server)
            assert state["program"] == "left"
            assert state["cameras"][0]["video"] == {"codec": "VP8"}

            async with watching(server) as viewer, watching(server, query=True) as guest:
                await viewer.more_frames(5)
                await guest.more_frames(5)
                assert guest.session.startswith("/session/shop/s0q_")
                await check_session_verbs(server, viewer, guest)
            gone = await server.http.get("/readyz")
            assert gone.status_code == 200

            program = await server.http.put(
                "/api/v1/rooms/shop/program",
                json={"camera": "right"},
                headers=server.bearer(role="director"),
            )
            assert program.status_code == 204
            for _ in range(100):
                if (await room_state(server))["program"] == "right":
                    break
                await asyncio.sleep(0.05)
            assert (await room_state(server))["program"] == "right"

            ended = await server.http.delete(left.session, headers=server.bearer(role="host"))
            assert ended.status_code == 200
            await until_live(server, "right")
            again = await server.http.delete(left.session, headers=server.bearer(role="host"))
            assert (again.status_code, again.json()["reason"]) == (404, "no_session")
        await until_live(server)
        text = (await server.http.get("/metrics")).text
        assert 'livehouse_media_packets_forwarded_total{worker="0"}' in text
        assert "eyJ" not in server.log, "a token was logged"


async def check_session_verbs(server: Server, viewer: Peer, guest: Peer) -> None:
    """PUT camera and layer, with a token where the session was made with one."""
    put = server.http.put
    to_right = {"camera": "right"}
    moved = await put(f"{viewer.session}/camera", json=to_right, headers=server.bearer())
    assert moved.status_code == 204, moved.text
    await viewer.more_frames(5)
    assert (await put(f"{guest.session}/camera", json=to_right)).status_code == 204
    back = await put(f"{viewer.session}/camera", json={"camera": None}, headers=server.bearer())
    assert back.status_code == 204
    no_token = await put(f"{viewer.session}/camera", json=to_right)
    assert (no_token.status_code, no_token.json()["reason"]) == (401, "no_token")
    other = await put(f"{viewer.session}/camera", json=to_right, headers=server.bearer("other"))
    assert (other.status_code, other.json()["reason"]) == (403, "wrong_room")
    unknown = await put(f"{guest.session}/camera", json={"camera": "nowhere"})
    assert (unknown.status_code, unknown.json()["reason"]) == (404, "no_camera")
    layer = await put(f"{guest.session}/layer", json={"max_height": 360})
    assert layer.status_code == 204
    bad_layer = await put(f"{guest.session}/layer", json={"max_height": 0})
    assert (bad_layer.status_code, bad_layer.json()["reason"]) == (400, "bad_request")
    junk = await server.http.patch(
        guest.session, content="a=x", headers={"Content-Type": "application/json"}
    )
    assert (junk.status_code, junk.json()["reason"]) == (415, "unsupported_media_type")
    wrong_etag = await server.http.patch(
        guest.session,
        content="a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n",
        headers={"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": '"other"'},
    )
    assert (wrong_etag.status_code, wrong_etag.json()["reason"]) == (412, "etag_mismatch")
    elsewhere = guest.session.replace("/shop/", "/other/")
    assert (await server.http.delete(elsewhere)).status_code == 404


async def test_media_worker_killed_is_back_and_serves() -> None:
    async with running_server() as server:
        async with publishing(server):
            await until_live(server, "main")
        async with publishing(server):
            await until_live(server, "main")
            old = server.children()["media0"]
            os.kill(old, signal.SIGKILL)
            await until_live(server)
            await server.wait_ready()
            assert server.children()["media0"] != old
        async with publishing(server), watching(server) as viewer:
            await viewer.more_frames(3)
        assert await server.metric("livehouse_media_worker_lost_total", worker="0") == 1


async def test_media_worker_away_is_unavailable_with_retry_after() -> None:
    async with running_server(media_workers=2) as server:
        # Stopped, not dead: it neither answers nor closes what it has.
        media = [pid for name, pid in server.children().items() if name.startswith("media")]
        for pid in media:
            os.kill(pid, signal.SIGSTOP)
        try:
            answer = await server.http.post(
                "/whep/shop", content="v=0\r\n", headers=SDP | server.bearer()
            )
            assert (answer.status_code, answer.json()["reason"]) == (503, "unavailable")
            assert answer.headers["Retry-After"] == "1"
            await eventually_not_ready(server)
        finally:
            for pid in media:
                os.kill(pid, signal.SIGCONT)
        await server.wait_ready()


async def eventually_not_ready(server: Server) -> None:
    """The event stream's silence is noticed within a few pings."""
    for _ in range(200):
        answer = await server.http.get("/readyz")
        if answer.status_code == 503:
            assert answer.json()["parts"] == {"engine": "ok", "media0": "away", "media1": "away"}
            return
        await asyncio.sleep(0.05)
    raise AssertionError("ready for ten seconds without any media worker")
