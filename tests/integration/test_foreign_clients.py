"""Clients that others wrote publish to the real server and watch from it.

Chromium has tests of its own in tests/browser, aiortc in tests/integration/media. Here:
FFmpeg's `whip` muxer through PyAV, and three npm packages in one chain (tests/foreign).
docs/interop.md has the table and what each needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import fractions
import json
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from interact.protocol import Role
from loadtest.whep import Viewer
from tests.support.server import Server, running_server

FOREIGN = Path(__file__).resolve().parents[1] / "foreign"
NODE_TIMEOUT_S = 90
SECONDS_OF_PICTURE = 4


def p256_certificate(directory: Path) -> dict[str, str]:
    """Muxer options naming a certificate on P-256.

    PyAV's FFmpeg is built on GnuTLS and makes its own on P-224, which OpenSSL 4 (ours, in
    the `cryptography` wheel) no longer takes in any handshake.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "camera")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    return {"cert_file": str(directory / "cert.pem"), "key_file": str(directory / "key.pem")}


class FfmpegCamera:
    """FFmpeg's `whip` muxer in a thread: H.264 without B-frames, Opus, in real time."""

    def __init__(self, url: str, options: dict[str, str], gop: int = 30, bit_rate: int = 0) -> None:
        self.url = url
        self.options = options
        self.gop = gop
        self.bit_rate = bit_rate
        """Bits a second of a picture full of noise; 0: a plain one that needs few."""
        self._noise = np.random.default_rng(1).integers(0, 255, (480, 640, 3), np.uint8)
        self.frames = 0
        self.stop = threading.Event()

    def run(self) -> None:
        """Publish until `stop`. Raises what FFmpeg says."""
        with av.open(self.url, "w", format="whip", options=self.options) as out:
            video = out.add_stream(
                "libx264",
                rate=30,
                options={
                    "preset": "ultrafast",
                    "tune": "zerolatency",
                    "profile": "baseline",
                    "sc_threshold": "0",
                },
            )
            sound = out.add_stream("libopus", rate=48_000, layout="stereo")
            assert isinstance(video, VideoStream) and isinstance(sound, AudioStream)
            video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
            video.gop_size = self.gop
            if self.bit_rate:
                video.bit_rate = self.bit_rate
            started = time.monotonic()
            while not self.stop.is_set():
                self._one_frame(out, video, sound)
                self.stop.wait(max(0.0, started + self.frames / 30 - time.monotonic()))

    def _one_frame(
        self, out: av.container.OutputContainer, video: VideoStream, sound: AudioStream
    ) -> None:
        pixels = np.full((240, 320, 3), self.frames * 3 % 256, np.uint8)
        if self.bit_rate:
            x, y = self.frames * 7 % 200, self.frames * 5 % 140
            pixels[y : y + 100, x : x + 120] = self._noise[x : x + 100, y : y + 120]
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        picture.pts, picture.time_base = self.frames, fractions.Fraction(1, 30)
        for packet in video.encode(picture):
            out.mux(packet)
        for index in range(self.frames * 5 // 3, (self.frames + 1) * 5 // 3):
            samples = np.zeros((1, 1920), np.int16)
            tone = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
            tone.sample_rate = 48_000
            tone.pts, tone.time_base = index * 960, fractions.Fraction(1, 48_000)
            for packet in sound.encode(tone):
                out.mux(packet)
        self.frames += 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    yield p256_certificate(tmp_path_factory.mktemp("camera"))


@contextlib.asynccontextmanager
async def ffmpeg_camera(
    server: Server, options: dict[str, str], *, gop: int = 30, bit_rate: int = 0
) -> AsyncIterator[FfmpegCamera]:
    """The camera `encoder` of room `shop`, publishing until the block ends."""
    token = server.token(role=Role.CAMERA, camera="encoder")
    camera = FfmpegCamera(
        f"{server.url}/whip/shop/encoder", {"authorization": token, **options}, gop, bit_rate
    )
    running = asyncio.create_task(asyncio.to_thread(camera.run))
    try:
        yield camera
    finally:
        camera.stop.set()
        await running


async def watched(server: Server, camera: FfmpegCamera) -> Viewer:
    """A viewer of the camera, as soon as it is on air."""
    headers = {**server.bearer(), "Content-Type": "application/sdp"}
    offer = (FOREIGN.parent / "data/offers/chromium-play.sdp").read_bytes()
    for _ in range(200):
        probe = await server.http.post("/whep/shop/encoder", content=offer, headers=headers)
        if probe.status_code == 201:
            await server.http.delete(probe.headers["Location"], headers=server.bearer())
            break
        await asyncio.sleep(0.05)
    viewer = Viewer(server.http, f"{server.url}/whep/shop/encoder", server.token(), full=True)
    await viewer.start()
    await asyncio.wait_for(viewer.got_picture, 10)
    assert camera.frames
    return viewer


@pytest.mark.parametrize("role", ["", "dtls_active"], ids=["passive", "active"])
async def test_ffmpeg_publishes_in_either_dtls_role(certificate: dict[str, str], role: str) -> None:
    options = {**certificate, **({"whip_flags": role} if role else {})}
    async with running_server() as server:
        async with ffmpeg_camera(server, options) as camera:
            viewer = await watched(server, camera)
            await asyncio.sleep(SECONDS_OF_PICTURE)  # what comes in this time is measured
            report = await viewer.stop()
        assert report.frames >= SECONDS_OF_PICTURE * 25
        assert report.lost == 0
        # FFmpeg ends its session by DELETE, so the camera is off at once.
        headers = {**server.bearer(), "Content-Type": "application/sdp"}
        offer = (FOREIGN.parent / "data/offers/chromium-play.sdp").read_bytes()
        gone = await server.http.post("/whep/shop/encoder", content=offer, headers=headers)
        assert gone.json()["reason"] == "not_live"


async def test_native_and_typescript_stacks_publish_watch_and_restart_ice() -> None:
    assert (FOREIGN / "node_modules").is_dir(), "run `scripts/setup.sh test` first"
    node = shutil.which("node") or str(FOREIGN.parents[1] / ".setup/node/bin/node")
    async with running_server() as server:
        process = await asyncio.create_subprocess_exec(
            node,
            "driver.mjs",
            server.url,
            server.token("foreign", Role.HOST),
            server.token("foreign"),
            cwd=FOREIGN,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "NODE_NO_WARNINGS": "1"},
        )
        try:
            out, errors = await asyncio.wait_for(process.communicate(), NODE_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            out, errors = await process.communicate()
        steps = {line["step"]: line for line in map(json.loads, out.splitlines())}
        assert process.returncode == 0, f"{out.decode()}\n{errors.decode()}\n{server.log}"
        assert steps["wrtc watches wrtc"]["width"] == 320
        assert steps["werift watches wrtc"]["video"] > 20
        assert steps["wrtc watches werift"]["frames"] >= 10
        assert steps["both restart ICE"]["state"] == "connected"
        assert steps["done"]["statuses"] == [200, 200]
