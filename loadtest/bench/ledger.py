"""What does one durable bid cost, and how many a second does one lot take?

Bidders send on a fixed schedule (a stalled ledger cannot slow the asking) through
RoomService and the embedded engine onto a real disk; an answer counts only when it came,
and the clock stops when the last one has. The unit of the answer: ms from the call to
the answer that follows the disk, at a rate in bids a second.

    python -m loadtest.bench.ledger [--rates 1000,3000,5000,8000] [--seconds 5] [--json FILE]
    python -m loadtest.bench.ledger --engine redis [--redis URL] [--workers 1,4]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from interact.engine import NewRecord, Publication
from interact.engine_embedded import EmbeddedEngine
from interact.protocol import Refused, Role
from interact.rooms import Caller, RoomService
from interact.verify import verify
from loadtest.bench import ledger_redis

BIDDERS = 200
WARM_UP_S = 1.0
DISK_PROBES = 50


@dataclass(frozen=True)
class Figures:
    """One run; times in milliseconds, CPU in microseconds per bid (all threads)."""

    asked_per_s: int
    done_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    refused: int
    bids_per_commit: float
    cpu_us_per_bid: float


def ignore_publication(publication: Publication) -> None:
    """Fan-out is measured elsewhere."""


def ignore_tick(channel: str, data: bytes) -> None:
    """So are ticks."""


async def run(directory: Path, rate: int, seconds: float) -> Figures:
    """One lot, `rate` bids a second for `seconds`, each the least that leads."""
    engine = EmbeddedEngine(directory)
    await engine.start(ignore_publication)
    rooms = RoomService(
        engine,
        clock=lambda: time.time_ns() // 1_000_000,
        on_tick=ignore_tick,
        bids_per_s=1e9,
        bid_burst=1_000_000_000,
    )
    await rooms.start()
    host = Caller("bench", "host", Role.HOST)
    bidders = [Caller("bench", f"b{number}", Role.VIEWER) for number in range(BIDDERS)]
    lot = await new_lot(rooms, host)
    latencies_ms: list[float] = []
    refused = 0
    tasks: set[asyncio.Task[None]] = set()

    async def bid(number: int, due: float, counts: bool) -> None:
        nonlocal refused
        params = b'{"lot":"%s","amount":%d,"key":"k%d"}' % (lot.encode(), 100 + number, number)
        try:
            await rooms.rpc(bidders[number % BIDDERS], "bid.place", params)
        except Refused:
            refused += 1
            return
        if counts:
            latencies_ms.append((time.perf_counter() - due) * 1000)

    start = time.perf_counter()
    number = 0
    total = int(rate * (seconds + WARM_UP_S))
    cpu_before = 0.0
    groups_before = number_before = 0
    while number < total:
        now = time.perf_counter()
        while number < total and (due := start + number / rate) <= now:
            counts = due - start >= WARM_UP_S
            if counts and not cpu_before:
                cpu_before, groups_before = cpu_s(), engine.stats()["groups"]
                number_before = number
            task = asyncio.create_task(bid(number, due, counts))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
    while tasks:
        await asyncio.wait(tasks)
    elapsed = time.perf_counter() - start - WARM_UP_S
    cpu = cpu_s() - cpu_before
    groups = engine.stats()["groups"] - groups_before
    await rooms.close()
    await engine.close()
    latencies_ms.sort()
    counted = len(latencies_ms)
    return Figures(
        asked_per_s=rate,
        done_per_s=round(counted / elapsed, 1),
        p50_ms=round(latencies_ms[counted // 2], 2),
        p95_ms=round(latencies_ms[int(counted * 0.95)], 2),
        p99_ms=round(latencies_ms[int(counted * 0.99)], 2),
        max_ms=round(latencies_ms[-1], 2),
        refused=refused,
        bids_per_commit=round((number - number_before) / max(1, groups), 1),
        cpu_us_per_bid=round(cpu * 1e6 / max(1, number - number_before), 1),
    )


async def new_lot(rooms: RoomService, host: Caller) -> str:
    """A lot that is open for an hour and climbs by one."""
    wish = {
        "title": "Bench",
        "format": "english",
        "currency": "TWD",
        "start_price": 1,
        "increment": 1,
        "duration_ms": 3_600_000,
    }
    created = msgspec.json.decode(await rooms.rpc(host, "lot.create", msgspec.json.encode(wish)))
    lot: str = created["lot"]
    await rooms.rpc(host, "lot.start", msgspec.json.encode({"lot": lot}))
    return lot


def cpu_s() -> float:
    """CPU time of this process so far, both kinds, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def disk_floor(directory: Path) -> float:
    """Median ms of one lonely durable append: what this disk asks for at least."""
    engine = EmbeddedEngine(directory)
    await engine.start(ignore_publication)
    times: list[float] = []
    for number in range(DISK_PROBES):
        before = time.perf_counter()
        await engine.append("probe", number, [NewRecord("probe", 0, b"{}")])
        times.append((time.perf_counter() - before) * 1000)
    await engine.close()
    return sorted(times)[len(times) // 2]


def main() -> None:
    """Run each rate on a fresh ledger; verify each ledger afterwards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rates", default="1000,3000,5000,8000")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--data", type=Path, default=None, help="a directory on the disk to test")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--engine", choices=["embedded", "redis"], default="embedded")
    parser.add_argument("--redis", metavar="URL", help="default: a Valkey started for the run")
    parser.add_argument("--workers", default="1,4", help="deciding processes, with --engine redis")
    options = parser.parse_args()
    rates = [int(rate) for rate in options.rates.split(",")]
    if options.engine == "redis":
        workers = [int(count) for count in options.workers.split(",")]
        shared = ledger_redis.measure(options.redis, workers, rates, options.seconds)
        if options.json is not None:
            text = json.dumps({"runs": [asdict(row) for row in shared]}, indent=2)
            options.json.write_text(text + "\n")
        return
    rows: list[Figures] = []
    with tempfile.TemporaryDirectory(dir=options.data) as base:
        floor_ms = asyncio.run(disk_floor(Path(base) / "floor"))
        print(f"one lonely durable append: {floor_ms:.2f} ms (median of {DISK_PROBES})")
        print(" asked/s  done/s    p50    p95    p99    max ms  bids/commit  CPU µs/bid  refused")
        for rate in rates:
            directory = Path(base) / str(rate)
            row = asyncio.run(run(directory, rate, options.seconds))
            rows.append(row)
            print(
                f"{row.asked_per_s:8d} {row.done_per_s:7.0f} {row.p50_ms:6.2f} {row.p95_ms:6.2f}"
                f" {row.p99_ms:6.2f} {row.max_ms:9.2f} {row.bids_per_commit:12.1f}"
                f" {row.cpu_us_per_bid:11.1f} {row.refused:8d}"
            )
            broken = [report.line() for report in verify(directory) if not report.is_ok]
            if broken:
                raise SystemExit("\n".join(broken))
    if options.json is not None:
        figures = {"floor_ms": floor_ms, "runs": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
