"""How much later does a packet leave than it came?

    python -m loadtest.bench.relay_delay [--seconds 10] [--rate 270]

One publisher and one viewer in this process, the server in its own. Every packet carries the
time at which it was made; the viewer reads it after authenticating the packet. The same two
ends joined by a bare loopback socket give the floor; what the server adds is the difference.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from pylibsrtp import Policy, Session

from loadtest.bench.house import ROOM, house, on_air, task
from loadtest.packetize import h264_payloads
from loadtest.pattern import PatternFeed
from loadtest.report import Report, machine, percentile
from loadtest.transport import SrtpError
from loadtest.whep import Viewer
from media.stage.feed import Kind, Unit

_STAMP: Final = 16
_SIZE: Final = 1100
_WARM_UP: Final = 200


def stamped() -> bytes:
    """A picture of one packet that ends with the time in hexadecimal nanoseconds."""
    return b"\0\0\0\1\x41" + b"\x7f" * (_SIZE - _STAMP) + f"{time.monotonic_ns():016x}".encode()


def age_ms(plain: bytes, now_ns: int) -> float | None:
    """Age of a stamped packet, None for any other."""
    try:
        return (now_ns - int(plain[-_STAMP:], 16)) / 1e6
    except ValueError:
        return None


class Probe(Viewer):
    """A viewer that reads the stamps."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        self.ages: list[float] = []

    def _arrived(self, data: bytes, now: float) -> None:
        super()._arrived(data, now)

    def _look_for_key(self, plain: bytes, now: float) -> None:
        super()._look_for_key(plain, now)
        age = age_ms(plain, time.monotonic_ns())
        if age is not None and 0 <= age < 10_000:
            self.ages.append(age)
        self._first_key_at = None  # look at every packet, not at the first key frame alone


def stamps(rate: float) -> tuple[PatternFeed, Callable[[Callable[[Unit], None]], Any]]:
    """A feed of stamped packets, and who to ask for a key frame in between."""
    pattern = PatternFeed("cam", 400_000, fps=1)

    async def feed(take: Callable[[Unit], None]) -> None:
        start, number = time.monotonic(), 0
        take(pattern.unit(0, time.time()))
        while True:
            number += 1
            await asyncio.sleep(max(start + number / rate - time.monotonic(), 0))
            if pattern._wants_key:
                take(pattern.unit(0, time.time()))
            take(Unit("cam", Kind.VIDEO, stamped(), time.time(), False))

    return pattern, feed


async def through_server(seconds: float, rate: float) -> list[float]:
    """Ages of packets that went through the server, in ms."""
    pattern, feed = stamps(rate)

    async with house() as server:
        target = await server.target("host")
        async with (
            on_air(target, "cam", task(feed), request_key=pattern.request_key),
            target.client() as client,
        ):
            probe = Probe(
                client, f"{server.url}/whep/{ROOM}", await server.token("viewer"), full=True
            )
            await probe.start()
            await asyncio.sleep(seconds)
            await probe.stop()
    return probe.ages[_WARM_UP:]


async def floor(seconds: float, rate: float) -> list[float]:
    """Ages over a bare loopback socket with the same protection, in ms."""
    key = bytes(range(46))[:28]
    profile = Policy.SRTP_PROFILE_AEAD_AES_128_GCM
    tx = Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile))
    rx = Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=profile))
    ages: list[float] = []
    loop = asyncio.get_running_loop()
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        sender.connect(receiver.getsockname())

        def read() -> None:
            try:
                plain = rx.unprotect(receiver.recv(2048))
            except (OSError, SrtpError):
                return
            age = age_ms(plain, time.monotonic_ns())
            if age is not None:
                ages.append(age)

        loop.add_reader(receiver, read)
        start = time.monotonic()
        for number in range(int(seconds * rate)):
            await asyncio.sleep(max(start + number / rate - time.monotonic(), 0))
            payload = h264_payloads(stamped())[0]
            head = bytes([0x80, 0xE6, number >> 8 & 255, number & 255]) + bytes(7) + b"\1"
            sender.send(tx.protect(head + payload))
        await asyncio.sleep(0.1)
        loop.remove_reader(receiver)
    return ages[_WARM_UP:]


async def measure(seconds: float, rate: float) -> Report:
    """Both ways, one after the other."""
    report = Report(f"Added relay delay, packet in to packet out, {rate:g} packets a second", "")
    bare = await floor(min(seconds, 5), rate)
    ages = await through_server(seconds, rate)
    report.add_samples("through the server, ms", ages)
    report.add_samples("bare loopback, ms", bare)
    for word, share in (("p50", 0.5), ("p99", 0.99)):
        added = percentile(ages, share) - percentile(bare, share)
        report.figures[f"added by the server, ms {word}"] = round(added, 3)
    report.figures["packets measured"] = len(ages)
    report.notes.append(machine())
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=270)
    options = parser.parse_args()
    report = asyncio.run(measure(options.seconds, options.rate))
    report.command = "python -m loadtest.bench.relay_delay"
    print(report.to_markdown())


if __name__ == "__main__":
    main()
