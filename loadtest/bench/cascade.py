"""What does a pull between two media workers cost, in delay and in CPU?

    python -m loadtest.bench.cascade [--seconds 10] [--rate 270] [--runs 3]

One publisher of stamped packets, one viewer on its own worker and one on the other, both in
this process. What the second sees later than the first is the hop. A pull outlives its last
viewer by ten seconds: in that time the two workers do nothing but the pull, and their CPU,
less what they use without it, is its cost for each packet at either end.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from typing import Final

import httpx

from loadtest.bench.house import ROOM, House, house, on_air, task
from loadtest.bench.relay_delay import Probe, stamps
from loadtest.pattern import PatternFeed
from loadtest.procstat import cpu_between, usage
from loadtest.report import Report, machine, percentile

_BITRATE_BPS: Final = 2_500_000
_WARM_UP: Final = 200
_IDLE_S: Final = 8.0
"""Shorter than a pull lives on."""


def worker_of(probe: Probe) -> int:
    """The media worker that serves a viewer."""
    return int(probe.location.rpartition("/")[2][1])


async def cpu_share(server: House, seconds: float) -> dict[int, float]:
    """CPU seconds a second of both media workers."""
    before = usage(server.pid)
    await asyncio.sleep(seconds)
    after = usage(server.pid)
    return {i: cpu_between(before, after, f"media{i}") / seconds for i in (0, 1)}


async def both_sides(server: House, client: httpx.AsyncClient) -> tuple[Probe, Probe]:
    """A viewer on the worker that has the camera, and one on the other."""
    token = await server.token("viewer")
    probes: dict[int, Probe] = {}
    more: list[Probe] = []
    while len(probes) < 2:
        probe = Probe(client, f"{server.url}/whep/{ROOM}", token, full=True)
        await probe.start()
        if probes.setdefault(worker_of(probe), probe) is not probe:
            more.append(probe)
    for probe in more:
        await probe.stop()
    # The first to be placed is where the camera is: a pull costs more.
    home, away = probes.values()
    return home, away


async def delays(seconds: float, rate: float) -> tuple[list[float], list[float]]:
    """Ages of packets in ms: seen directly, and through a pull."""
    pattern, feed = stamps(rate)
    async with house("--media-workers", "2") as server:
        target = await server.target("host")
        async with (
            on_air(target, "cam", task(feed), request_key=pattern.request_key),
            target.client() as client,
        ):
            home, away = await both_sides(server, client)
            await asyncio.sleep(seconds)
            await home.stop()
            await away.stop()
    return home.ages[_WARM_UP:], away.ages[_WARM_UP:]


async def costs(bitrate_bps: int) -> tuple[float, float]:
    """CPU in us a packet: of the worker that feeds, of the one that pulls."""
    pattern = PatternFeed("cam", bitrate_bps)
    async with house("--media-workers", "2") as server:
        target = await server.target("host")
        async with (
            on_air(target, "cam", task(pattern.run), request_key=pattern.request_key) as publisher,
            target.client() as client,
        ):
            await asyncio.sleep(1)
            alone = await cpu_share(server, _IDLE_S)
            home, away = await both_sides(server, client)
            await asyncio.sleep(2)
            indices = worker_of(home), worker_of(away)
            await home.stop()
            await away.stop()
            sent = publisher.video.packets
            pulling = await cpu_share(server, _IDLE_S)
            rate = (publisher.video.packets - sent) / _IDLE_S
    feeds, pulls = ((pulling[i] - alone[i]) / rate * 1e6 for i in indices)
    return feeds, pulls


async def measure(seconds: float, rate: float, runs: int) -> Report:
    """Several servers, one after the other; medians."""
    report = Report(f"A pull between two media workers, {rate:g} packets a second", "")
    aged = [await delays(seconds, rate) for _ in range(runs)]
    direct, pulled = ([age for run in aged for age in run[side]] for side in (0, 1))
    report.add_samples("viewer of the camera's worker, ms", direct)
    report.add_samples("viewer of the other worker, ms", pulled)
    for word, share in (("p50", 0.5), ("p99", 0.99)):
        added = percentile(pulled, share) - percentile(direct, share)
        report.figures[f"added by the hop, ms {word}"] = round(added, 3)
    spent = [await costs(_BITRATE_BPS) for _ in range(runs)]
    for side, name in enumerate(("feeding", "pulling")):
        middle = statistics.median(run[side] for run in spent)
        report.figures[f"CPU of the {name} worker, us a packet"] = round(middle, 1)
    report.notes.append(f"CPU with a camera of {_BITRATE_BPS / 1e6:g} Mbit/s, 30 frames a second")
    report.notes.append(machine())
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=270)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    report = asyncio.run(measure(options.seconds, options.rate, options.runs))
    report.command = "python -m loadtest.bench.cascade"
    print(report.to_markdown())


if __name__ == "__main__":
    main()
