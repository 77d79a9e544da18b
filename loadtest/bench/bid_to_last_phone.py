"""How long from a bid to the last phone that hears of it?

    python -m loadtest.bench.bid_to_last_phone [--phones 200] [--rate 20] [--seconds 15]

A real server on a real disk; bids leave on a fixed schedule and each is timed from the moment
the schedule said until the last of the phones has read the event from its own socket. Phones
and bidders share one process and one core with each other, which the figure includes.
"""

from __future__ import annotations

import argparse
import asyncio

from loadtest.bench.house import house
from loadtest.report import Report, machine
from loadtest.scenarios import bids


async def measure(phones: int, rate: float, seconds: float) -> Report:
    """One run."""
    async with house() as server:
        target = await server.target("host")
        report = await bids.run(target, bidders=10, rate=rate, seconds=seconds, phones=phones)
    report.title = f"Bid to last phone, {phones} phones, {rate:g} bids a second"
    report.notes.append(machine())
    return report


def main() -> None:
    """Measure and print; exit 1 where a phone missed a bid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phones", type=int, default=200)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=15)
    options = parser.parse_args()
    report = asyncio.run(measure(options.phones, options.rate, options.seconds))
    report.command = f"python -m loadtest.bench.bid_to_last_phone --phones {options.phones}"
    print(report.to_markdown())
    raise SystemExit(0 if report.ok else 1)


if __name__ == "__main__":
    main()
