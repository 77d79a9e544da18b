"""`load publish`: a camera by WHIP, from a file or of an exact bit rate, for as long as asked."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from loadtest.pattern import PatternFeed
from loadtest.report import Report
from loadtest.target import Target
from loadtest.whip import Publisher
from media.stage.feed import VIEWS, Feed, StageFeed
from media.stage.filefeed import FileFeed


async def run(
    target: Target,
    *,
    camera: str,
    seconds: float,
    file: Path | None = None,
    bitrate_bps: int = 2_500_000,
    synthetic: bool = False,
    paced: bool = False,
    stop: asyncio.Event | None = None,
    command: str = "",
) -> Report:
    """Publish until `seconds` are over or `stop` is set.

    What: `file`, or the synthetic stage's view, or a pattern of `bitrate_bps`.
    """
    if target.token is None:
        raise ValueError("publish needs --token with a camera's or a host's token")
    token = target.token
    feed: Feed | None = None
    source = camera
    if file is not None:
        feed = await asyncio.to_thread(FileFeed, camera, file)
    elif synthetic:
        source = camera if camera in VIEWS else next(iter(VIEWS))
        feed = StageFeed((source,), bitrate_bps=bitrate_bps)
    states: list[tuple[float, str]] = []
    start = time.monotonic()
    loop = asyncio.get_running_loop()
    async with target.client() as client:
        pattern = PatternFeed(camera, bitrate_bps)
        publisher = Publisher(
            client,
            f"{target.url}/whip/{target.room}/{camera}",
            lambda: token,
            audio=feed is not None and feed.has_audio,
            request_key=pattern.request_key if feed is None else lambda: feed.request_key(source),
            on_state=lambda state: states.append((time.monotonic() - start, state)),
            spread_s=0.025 if paced else 0.0,
        )
        tasks: list[asyncio.Task[object]] = [asyncio.create_task(publisher.run())]
        if stop is not None:
            tasks.append(asyncio.create_task(stop.wait()))
        if feed is None:
            tasks.append(asyncio.create_task(pattern.run(publisher.feed)))
        else:
            feed.start(lambda unit: loop.call_soon_threadsafe(publisher.feed, unit))
        drops = 0
        try:
            done, _ = await asyncio.wait(
                tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
            if publisher.transport is not None:
                drops = publisher.transport.send_drops
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if feed is not None:
                await asyncio.to_thread(feed.stop)
    report = Report(f"publish {camera} for {seconds:g} s", command)
    video, audio = publisher.video, publisher.audio
    lasted = time.monotonic() - start
    report.figures.update(
        {
            "sessions": publisher.sessions,
            "first on air after, s": round(states[0][0], 3) if states else None,
            "video packets": video.packets,
            "video, Mbit/s": round(video.octets * 8 / lasted / 1e6, 3),
            "audio packets": audio.packets,
            "packets asked for again": publisher.nacks,
            "packets sent again": video.resent + audio.resent,
            "key frames asked for": publisher.key_requests,
            "dropped by the socket": drops,
        }
    )
    report.notes += [f"{at:.1f} s  {state}" for at, state in states]
    report.ok = video.packets > 0
    return report
