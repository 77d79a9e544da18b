"""How long from the WHEP POST to the first picture in a real browser?

    python -m loadtest.bench.join [--joins 30]

Starts a server, publishes the drawn stage (960 x 540, 25 frames a second, key frames every
second), and joins again and again in headless Chromium. The clock starts when the page sends
the POST and stops when `requestVideoFrameCallback` reports the first picture shown.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
from typing import Final

from playwright.async_api import async_playwright

from loadtest.bench.house import ROOM, house, on_air, stage
from loadtest.report import Report, machine
from media.stage.feed import StageFeed

_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGUMENTS: Final = (
    "--no-sandbox",
    "--allow-loopback-in-peer-connection",
    "--autoplay-policy=no-user-gesture-required",
)
_JOIN: Final = """
async ([url, token]) => {
  const video = document.createElement("video");
  video.muted = video.autoplay = video.playsInline = true;
  document.body.append(video);
  const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  const stream = new MediaStream();
  video.srcObject = stream;
  pc.ontrack = (event) => stream.addTrack(event.track);
  pc.addTransceiver("video", { direction: "recvonly" });
  pc.addTransceiver("audio", { direction: "recvonly" });
  await pc.setLocalDescription();
  const shown = new Promise((done) => video.requestVideoFrameCallback((now) => done(now)));
  const start = performance.now();
  const answer = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/sdp", Authorization: `Bearer ${token}` },
    body: pc.localDescription.sdp,
  });
  const answered = performance.now();
  if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
  await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  await shown;
  const seen = performance.now();
  await fetch(answer.headers.get("Location"), {
    method: "DELETE", headers: { Authorization: `Bearer ${token}` },
  });
  pc.close();
  video.remove();
  return [answered - start, seen - start];
}
"""


def _browser() -> str:
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise SystemExit("no Chromium found: install the package chromium, or set CHROMIUM")
    return found


async def measure(joins: int) -> Report:
    """`joins` joins, one after the other."""
    report = Report(f"First picture after the WHEP POST, {joins} joins in Chromium", "")
    async with house() as server:
        target = await server.target("host")
        viewer = await server.token("viewer")
        feed = StageFeed(("wide",))
        async with (
            on_air(
                target,
                "wide",
                stage(feed),
                audio=True,
                request_key=lambda: feed.request_key("wide"),
            ),
            async_playwright() as playwright,
            await playwright.chromium.launch(
                executable_path=_browser(), args=list(_ARGUMENTS)
            ) as browser,
        ):
            context = await browser.new_context(bypass_csp=True)
            page = await context.new_page()
            await page.goto(f"{server.url}/healthz")
            address = [f"{server.url}/whep/{ROOM}", viewer]
            await page.evaluate(_JOIN, address)  # warm-up: the browser loads its decoder
            times = [await page.evaluate(_JOIN, address) for _ in range(joins)]
    report.add_samples("WHEP answer, ms", [answered for answered, _ in times])
    report.add_samples("first picture, ms", [seen for _, seen in times])
    report.notes.append(machine())
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--joins", type=int, default=30)
    options = parser.parse_args()
    report = asyncio.run(measure(options.joins))
    report.command = f"python -m loadtest.bench.join --joins {options.joins}"
    print(report.to_markdown())


if __name__ == "__main__":
    main()
