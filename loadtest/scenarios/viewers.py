"""`load viewers`: many real WHEP sessions from processes of their own.

Joins follow a fixed schedule, however long the server takes. Packets are counted over a
steady window that begins when the last join should be over; the server's CPU time is read
over the same window, so CPU per forwarded packet has no set-up in it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

import httpx

from loadtest.offers import BadAnswer
from loadtest.procstat import Usage, cpu_between, usage
from loadtest.report import Report
from loadtest.target import Target
from loadtest.transport import ConnectFailed
from loadtest.whep import Viewer
from loadtest.whip import Refusal

SETTLE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Share:
    """What one process does. Times are monotonic, which all processes of a machine share."""

    url: str
    room: str
    token: str
    camera: str | None
    ca: str | None
    joins_at: list[float]
    steady_from: float
    until: float
    full: bool


async def run_share(share: Share) -> dict[str, Any]:
    """Hold the viewers of one process; what they saw."""
    target = Target(share.url, share.room, share.token, share.ca)
    path = f"/whep/{share.room}" + (f"/{share.camera}" if share.camera else "")
    viewers: list[Viewer] = []
    failures: dict[str, int] = {}

    async with target.client(len(share.joins_at) + 10) as client:

        async def join(at: float) -> None:
            await asyncio.sleep(max(at - time.monotonic(), 0))
            viewer = Viewer(client, share.url + path, share.token, full=share.full)
            try:
                await viewer.start()
                viewers.append(viewer)
            except (Refusal, ConnectFailed, BadAnswer, httpx.HTTPError) as error:
                word = error.reason if isinstance(error, Refusal) else type(error).__name__
                failures[word] = failures.get(word, 0) + 1

        joins = [asyncio.create_task(join(at)) for at in share.joins_at]
        await asyncio.sleep(max(share.steady_from - time.monotonic(), 0))
        before = _totals(viewers)
        await asyncio.sleep(max(share.until - time.monotonic(), 0))
        after = _totals(viewers)
        await asyncio.gather(*joins)
        reports = await asyncio.gather(*(viewer.stop() for viewer in viewers))
    return {
        "viewers": [report.to_dict() for report in reports],
        "failures": failures,
        "packets": after[0] - before[0],
        "octets": after[1] - before[1],
    }


def _totals(viewers: list[Viewer]) -> tuple[int, int]:
    streams = [stream for v in viewers for stream in (v.video, v.sound)]
    return sum(s.packets for s in streams), sum(s.octets for s in streams)


async def run(
    target: Target,
    *,
    count: int,
    seconds: float,
    processes: int = 1,
    camera: str | None = None,
    joins_per_s: float = 20.0,
    full: bool = False,
    server_pid: int | None = None,
    command: str = "",
) -> Report:
    """Hold `count` viewers for `seconds` after the last of them has joined."""
    async with target.client() as client:
        token = target.token or await target.guest(client)
    start = time.monotonic() + 1.0 + 0.5 * processes
    joins = [start + i / joins_per_s for i in range(count)]
    steady_from = joins[-1] + SETTLE_S
    until = steady_from + seconds
    shares = [
        Share(
            target.url,
            target.room,
            token,
            camera,
            target.ca,
            joins[i::processes],
            steady_from,
            until,
            full,
        )
        for i in range(processes)
    ]
    children = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "loadtest.scenarios.viewers",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 28,
        )
        for _ in shares
    ]
    answers = [
        asyncio.create_task(child.communicate(json.dumps(asdict(share)).encode()))
        for child, share in zip(children, shares, strict=True)
    ]
    pid = server_pid or target.server_pid()
    await asyncio.sleep(max(steady_from - time.monotonic(), 0))
    before: dict[int, Usage] = usage(pid) if pid else {}
    await asyncio.sleep(max(until - time.monotonic(), 0))
    after: dict[int, Usage] = usage(pid) if pid else {}
    results = [json.loads((await answer)[0]) for answer in answers]
    return _summarize(results, seconds, count, before, after, command)


def _summarize(
    results: list[dict[str, Any]],
    seconds: float,
    count: int,
    before: dict[int, Usage],
    after: dict[int, Usage],
    command: str,
) -> Report:
    viewers = [viewer for result in results for viewer in result["viewers"]]
    failures: dict[str, int] = {}
    for result in results:
        for word, number in result["failures"].items():
            failures[word] = failures.get(word, 0) + number
    packets = sum(result["packets"] for result in results)
    octets = sum(result["octets"] for result in results)
    report = Report(f"{count} viewers for {seconds:g} s", command)
    figures = report.figures
    figures["joined"] = len(viewers)
    figures["refused or failed"] = sum(failures.values())
    for word, number in failures.items():
        report.notes.append(f"{number} joins ended with {word}")
    report.add_samples("WHEP answer, ms", [v["post_ms"] for v in viewers])
    report.add_samples(
        "first packet after POST, ms",
        [v["first_packet_ms"] for v in viewers if v["first_packet_ms"] is not None],
    )
    report.add_samples(
        "first key frame after POST, ms",
        [v["first_key_ms"] for v in viewers if v["first_key_ms"] is not None],
    )
    figures["without picture"] = sum(v["first_key_ms"] is None for v in viewers)
    expected = sum(v["packets"] + v["audio_packets"] + v["lost"] + v["audio_lost"] for v in viewers)
    lost = sum(v["lost"] + v["audio_lost"] for v in viewers)
    figures["packets lost"] = lost
    figures["loss, %"] = round(100 * lost / expected, 4) if expected else None
    figures["forged or replayed"] = sum(v["forged"] for v in viewers)
    figures["ended early"] = sum(bool(v["ended"]) for v in viewers)
    figures["forwarded packets a second"] = round(packets / seconds, 1)
    figures["Mbit/s a viewer"] = round(octets * 8 / seconds / max(len(viewers), 1) / 1e6, 3)
    report.add_samples("longest time without picture, ms", [v["longest_gap_ms"] for v in viewers])
    report.add_samples("jitter, ms", [v["jitter_ms"] for v in viewers])
    authenticated = sum(v["authenticated"] for v in viewers)
    report.notes.append(
        f"{authenticated:,} of {expected:,} packets were authenticated, the rest counted"
    )
    if before and after:
        media = cpu_between(before, after, "media")
        whole = cpu_between(before, after)
        figures["media workers, cores"] = round(media / seconds, 4)
        figures["whole server, cores"] = round(whole / seconds, 4)
        if packets:
            figures["media CPU per forwarded packet, µs"] = round(media / packets * 1e6, 2)
        figures["server memory, MB"] = round(sum(u.rss_bytes for u in after.values()) / 1e6, 1)
    else:
        report.notes.append("server's CPU not read: give --server-pid, or run on its machine")
    report.ok = not failures and figures["without picture"] == 0
    return report


def main() -> None:
    """One process of the swarm: a share on standard input, results on standard output."""
    share = Share(**json.loads(sys.stdin.read()))
    print(json.dumps(asyncio.run(run_share(share))))


if __name__ == "__main__":
    main()
