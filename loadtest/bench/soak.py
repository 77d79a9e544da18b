"""Does the server keep its memory when people come and go for a long time?

    python -m loadtest.bench.soak [--minutes 10] [--viewers 12]

Viewers join, watch for a few seconds and leave; phones connect and are dropped. Memory of the
server's processes is read every few seconds. After a warm-up of a fifth of the time the curve
must be flat: its end no more than 5 % and 3 MB above its beginning. Exit status 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from typing import Final

import httpx

from loadtest.bench.house import ROOM, House, house, on_air, task
from loadtest.bus import BusClient
from loadtest.offers import BadAnswer
from loadtest.pattern import PatternFeed
from loadtest.procstat import usage
from loadtest.report import machine
from loadtest.target import Target
from loadtest.transport import ConnectFailed
from loadtest.whep import Viewer
from loadtest.whip import Refusal

_SAMPLE_S: Final = 3.0
_ALLOWED: Final = 0.05
_ALLOWED_BYTES: Final = 3_000_000


class Visitors:
    """People who come, stay a few seconds and go."""

    def __init__(self, target: Target, client: httpx.AsyncClient) -> None:
        self._target, self._client = target, client
        self.joins = 0
        self.failures = 0
        self.without_picture = 0

    async def watch(self, seed: int) -> None:
        """One seat, taken again and again."""
        chance = random.Random(seed)
        while True:
            await asyncio.sleep(chance.uniform(0.1, 1.0))
            token = await self._target.guest(self._client)
            viewer = Viewer(self._client, f"{self._target.url}/whep/{ROOM}", token)
            try:
                await viewer.start()
                await asyncio.sleep(chance.uniform(1, 5))
            except (Refusal, ConnectFailed, BadAnswer, httpx.HTTPError):
                self.failures += 1
                continue
            self.joins += 1
            report = await viewer.stop()
            self.without_picture += report.first_key_ms is None

    async def listen(self, seed: int) -> None:
        """One phone on the bus, dropped again and again."""
        chance = random.Random(seed)

        async def guest() -> str:
            return await self._target.guest(self._client)

        while True:
            phone = BusClient(self._target.ws_url, guest)
            running = asyncio.create_task(phone.run())
            try:
                await asyncio.wait_for(phone.connected.wait(), 10)
                await asyncio.sleep(chance.uniform(0.5, 3))
                if chance.random() < 0.5:
                    phone.drop()
            except TimeoutError:
                self.failures += 1
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)


async def _soak(server: House, minutes: float, viewers: int) -> bool:
    target = await server.target("host")
    pattern = PatternFeed("cam", 1_000_000)
    curve: dict[str, list[int]] = {}
    async with (
        on_air(target, "cam", task(pattern.run), request_key=pattern.request_key),
        target.client(viewers * 3) as client,
    ):
        visitors = Visitors(target, client)
        people = [asyncio.create_task(visitors.watch(i)) for i in range(viewers)]
        people += [asyncio.create_task(visitors.listen(1000 + i)) for i in range(viewers)]
        end = time.monotonic() + minutes * 60
        while time.monotonic() < end:
            await asyncio.sleep(_SAMPLE_S)
            for one in usage(server.pid).values():
                curve.setdefault(one.name, []).append(one.rss_bytes)
            for person in people:
                if person.done():
                    person.result()
        for person in people:
            person.cancel()
        await asyncio.gather(*people, return_exceptions=True)
    print(f"### Memory over {minutes:g} minutes of joins and leaves\n")
    print("| process | after warm-up, MB | at the end, MB | flat |\n|---|---:|---:|---|")
    is_flat = True
    for name, values in curve.items():
        steady = values[len(values) // 5 :]
        part = max(len(steady) // 5, 1)
        first, last = statistics.median(steady[:part]), statistics.median(steady[-part:])
        flat = last - first <= max(first * _ALLOWED, _ALLOWED_BYTES)
        is_flat = is_flat and flat
        word = "yes" if flat else "NO"
        print(f"| {name} | {first / 1e6:.1f} | {last / 1e6:.1f} | {word} |")
    print(
        f"\n{visitors.joins} joins, {visitors.failures} failed, "
        f"{visitors.without_picture} left before a picture. {machine()}"
    )
    return is_flat and visitors.joins > 0


async def _main(minutes: float, viewers: int) -> bool:
    async with house() as server:
        return await _soak(server, minutes, viewers)


def main() -> None:
    """Soak and print; exit 1 where memory grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--viewers", type=int, default=12)
    options = parser.parse_args()
    raise SystemExit(0 if asyncio.run(_main(options.minutes, options.viewers)) else 1)


if __name__ == "__main__":
    main()
