"""Chromium publishes and plays through a media worker by its control API.

The page has no server: offers and answers travel through functions that the test gives it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.integration.media.harness import Worker, running_worker

pytestmark = pytest.mark.browser

FLAGS = [
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--allow-loopback-in-peer-connection",
    "--autoplay-policy=no-user-gesture-required",
]

SCRIPT = """
window.publish = async (camera, codec, size, simulcast) => {
  const pc = new RTCPeerConnection();
  const stream = await navigator.mediaDevices.getUserMedia(
    {audio: true, video: {width: size[0], height: size[1], frameRate: 30}});
  const init = {direction: 'sendonly', streams: [stream]};
  if (simulcast) init.sendEncodings = [
    {rid: 'q', scaleResolutionDownBy: 4}, {rid: 'h', scaleResolutionDownBy: 2}, {rid: 'f'}];
  const video = pc.addTransceiver(stream.getVideoTracks()[0], init);
  pc.addTransceiver(stream.getAudioTracks()[0], {direction: 'sendonly', streams: [stream]});
  const codecs = RTCRtpSender.getCapabilities('video').codecs;
  video.setCodecPreferences(codecs.filter(c => c.mimeType === 'video/' + codec)
    .concat(codecs.filter(c => c.mimeType === 'video/rtx')));
  await pc.setLocalDescription();
  await pc.setRemoteDescription({type: 'answer', sdp: await post('/whip/shop/' + camera,
                                                                 pc.localDescription.sdp)});
  (window.pcs ??= []).push(pc);
  return pc.connectionState;
};
window.watch = async (path) => {
  const started = performance.now();
  const pc = new RTCPeerConnection();
  pc.addTransceiver('video', {direction: 'recvonly'});
  pc.addTransceiver('audio', {direction: 'recvonly'});
  const video = document.createElement('video');
  video.muted = true; video.autoplay = true; video.playsInline = true;
  document.body.append(video);
  pc.ontrack = e => { video.srcObject = e.streams[0]; };
  const shown = new Promise(r => video.requestVideoFrameCallback(() => r(performance.now())));
  await pc.setLocalDescription();
  await pc.setRemoteDescription({type: 'answer', sdp: await post(path, pc.localDescription.sdp)});
  (window.viewers ??= []).push(pc);
  return {index: viewers.length - 1, first_frame_ms: (await shown) - started};
};
window.inbound = async (index) => {
  const out = {};
  for (const s of (await viewers[index].getStats()).values())
    if (s.type === 'inbound-rtp') out[s.kind] = s;
  return out;
};
window.outbound = async () => {
  const out = [];
  for (const s of (await pcs[pcs.length - 1].getStats()).values())
    if (s.type === 'outbound-rtp') out.push(s);
  return out;
};
"""


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", headless=True, args=FLAGS
        )
        try:
            yield browser
        finally:
            await browser.close()


async def open_page(browser: Browser, worker: Worker) -> Page:
    context = await browser.new_context(permissions=["camera", "microphone"])
    page = await context.new_page()

    async def post(path: str, sdp: str) -> str:
        response = await worker.post("/v1" + path, sdp)
        assert response.status_code == 201, response.text
        answer: str = response.json()["sdp"]
        return answer

    await page.expose_function("post", post)
    # getUserMedia needs a secure context: a page that the test itself answers as localhost.
    await page.route(
        "http://localhost/", lambda route: route.fulfill(content_type="text/html", body="<body>")
    )
    await page.goto("http://localhost/")
    await page.evaluate(f"() => {{ {SCRIPT} }}")
    return page


async def inbound(page: Page, index: int) -> dict[str, Any]:
    stats: dict[str, Any] = await page.evaluate("i => inbound(i)", index)
    return stats


async def wait_live(worker: Worker, camera: str) -> None:
    async def state() -> str:
        rooms = (await worker.stats())["rooms"]
        live = rooms.get("shop", {}).get("cameras", {}).get(camera, {}).get("live")
        return "" if live else f"{camera} is not live: {rooms}"

    for _ in range(200):
        if not await state():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(await state())


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_chromium_publishes_and_plays(codec: str) -> None:
    async with running_worker() as worker, chromium() as browser:
        publisher = await open_page(browser, worker)
        await publisher.evaluate(f"publish('main', '{codec}', [640, 480], false)")
        await wait_live(worker, "main")
        page = await open_page(browser, worker)
        joined = await page.evaluate("watch('/whep/shop')")
        assert joined["first_frame_ms"] < 2000
        start = (await inbound(page, 0))["video"]["framesDecoded"]
        for _ in range(300):
            now = await inbound(page, 0)
            video, audio = now["video"], now.get("audio", {})
            if video["framesDecoded"] >= start + 60 and audio.get("packetsReceived", 0) > 50:
                break
            await asyncio.sleep(0.05)
        assert video["framesDecoded"] >= start + 60
        assert audio["packetsReceived"] > 50
        assert video["packetsLost"] == 0
        assert video["pliCount"] == 0, "nothing was undecodable"
        assert video["keyFramesDecoded"] <= 2, "and nobody made the publisher repeat itself"


async def test_chromium_simulcast_ramps_up_to_all_layers() -> None:
    async with running_worker() as worker, chromium() as browser:
        publisher = await open_page(browser, worker)
        await publisher.evaluate("publish('main', 'VP8', [1280, 720], true)")
        await wait_live(worker, "main")
        page = await open_page(browser, worker)
        await page.evaluate("watch('/whep/shop')")
        heights: list[int] = []
        for _ in range(300):
            sessions = (await worker.stats())["sessions"].values()
            tracks = next(s for s in sessions if s["role"] == "publisher")["tracks"]
            heights = sorted(t["height"] for t in tracks if t["kind"] == "video")
            shown = (await inbound(page, 0))["video"].get("frameHeight")
            if heights == [180, 360, 720] and shown == 720:
                break
            await asyncio.sleep(0.05)
        assert heights == [180, 360, 720], tracks
        assert shown == 720
        after = await inbound(page, 0)
        assert after["video"]["packetsLost"] <= 0
