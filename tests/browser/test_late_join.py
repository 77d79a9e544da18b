"""Chromium joins late in a long group of pictures of an encoder that hears no requests.

FFmpeg's muxer sends a key frame every four seconds and answers no PLI, as OBS does. A
viewer who comes three seconds later gets the cached key frame and all that followed,
squeezed into some milliseconds: the picture must come at once and every frame decode.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from tests.browser.test_media_worker import FLAGS
from tests.integration.test_foreign_clients import FfmpegCamera, ffmpeg_camera, p256_certificate
from tests.support.server import running_server

pytestmark = pytest.mark.browser

GROUP_FRAMES = 120
LATE = range(85, 100)
"""Frames after the key frame at which viewers join: some 700 kB behind it."""

WATCH = """async ([url, token]) => {
  const started = performance.now();
  const pc = new RTCPeerConnection();
  for (const kind of ['video', 'audio']) pc.addTransceiver(kind, {direction: 'recvonly'});
  const video = document.createElement('video');
  video.muted = video.autoplay = true;
  document.body.append(video);
  pc.ontrack = event => { video.srcObject = event.streams[0]; };
  const shown = new Promise(done => video.requestVideoFrameCallback(() => done(performance.now())));
  await pc.setLocalDescription();
  const headers = {'Content-Type': 'application/sdp', Authorization: 'Bearer ' + token};
  const answer = await fetch(url, {method: 'POST', body: pc.localDescription.sdp, headers});
  await pc.setRemoteDescription({type: 'answer', sdp: await answer.text()});
  const first_ms = (await shown) - started;
  const video_stats = async () => {
    for (const one of (await pc.getStats()).values())
      if (one.type === 'inbound-rtp' && one.kind === 'video') return one;
  };
  let now = await video_stats();
  while (now.framesDecoded < 150) {
    await new Promise(done => setTimeout(done, 50));
    now = await video_stats();
  }
  await fetch(new URL(answer.headers.get('location'), url), {method: 'DELETE', headers});
  pc.close();
  video.remove();
  return {first_ms, decoded: now.framesDecoded, plis: now.pliCount, lost: now.packetsLost,
          dropped: now.framesDropped, received: now.framesReceived};
}"""


async def join_late(page: Page, camera: FfmpegCamera, arguments: list[str]) -> dict[str, Any]:
    ahead = (LATE.start - camera.frames) % GROUP_FRAMES
    if camera.frames % GROUP_FRAMES not in LATE:
        await asyncio.sleep(ahead / 30)  # the moment in the group is what is tested
    joined: dict[str, Any] = await page.evaluate(WATCH, arguments)
    return joined


async def test_late_viewers_of_a_deaf_encoder_see_it_at_once(tmp_path: Path) -> None:
    options = p256_certificate(tmp_path)
    async with (
        running_server() as server,
        ffmpeg_camera(server, options, gop=GROUP_FRAMES, bit_rate=2_500_000) as camera,
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", headless=True, args=FLAGS
        )
        page = await browser.new_page()
        await page.goto(f"{server.url}/healthz")
        arguments = [f"{server.url}/whep/shop/encoder", server.token()]
        joins = [await join_late(page, camera, arguments) for _ in range(4)]
        await browser.close()
    # The first one's request shows that the encoder hears none; it waits 0.6 s for that.
    times = sorted(join["first_ms"] for join in joins[1:])
    assert times[1] < 400, joins
    for join in joins:
        assert join["plis"] == 0, "nothing was undecodable"
        assert join["lost"] == 0
        # Of a squeezed second Chromium may leave some frames out, never one it could not read.
        assert join["decoded"] + join["dropped"] >= join["received"] - 3
        assert join["dropped"] < 30
    print("first picture, ms:", [round(join["first_ms"]) for join in joins])
