"""`load phones`: connections to the bus, and a network that loses them all at once.

Halfway through, every connection is broken without a goodbye. What counts: that every phone
is back, how long that took, and that no event is missing afterwards. Phones cheer now and
then, and with a host's token lots are opened and cancelled, so there are events to miss.
"""

from __future__ import annotations

import asyncio
import time

from loadtest.bus import BusClient, CallRefused, Disconnected
from loadtest.report import Report
from loadtest.target import Target


async def run(
    target: Target,
    *,
    count: int,
    seconds: float,
    connects_per_s: float = 100.0,
    command: str = "",
) -> Report:
    """`count` phones for `seconds`; a host's token makes events for them to receive."""
    connect_ms: list[float] = []
    back_ms: list[float] = []
    async with target.client() as client:

        async def guest() -> str:
            return await target.guest(client)

        phones = [BusClient(target.ws_url, guest, ssl=target.context()) for _ in range(count)]
        tasks: list[asyncio.Task[None]] = []

        async def open_phone(phone: BusClient, due: float) -> None:
            await asyncio.sleep(max(due - time.monotonic(), 0))
            tasks.append(asyncio.create_task(phone.run()))
            await asyncio.wait_for(phone.connected.wait(), 60)
            connect_ms.append((time.monotonic() - due) * 1000)

        def drop(phone: BusClient) -> asyncio.Future[None]:
            """Break the connection; done when it is there again."""
            back: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            dropped_at = time.monotonic()

            def is_back() -> None:
                if not back.done():
                    back_ms.append((time.monotonic() - dropped_at) * 1000)
                    back.set_result(None)

            phone.on_connected = is_back
            phone.drop()
            return back

        try:
            start = time.monotonic() + 0.2
            opens = [open_phone(p, start + i / connects_per_s) for i, p in enumerate(phones)]
            await asyncio.gather(*opens)
            makers = asyncio.create_task(_make_events(target, phones))
            tasks.append(makers)
            await asyncio.sleep(seconds / 2)
            await asyncio.wait_for(asyncio.gather(*[drop(phone) for phone in phones]), 60)
            await asyncio.sleep(seconds / 2)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    report = Report(f"{count} phones, all dropped once", command)
    report.add_samples("connect, ms", connect_ms)
    report.add_samples("drop to back, ms", back_ms)
    counts = [p.counts for p in phones]
    report.figures["events received"] = sum(c.events for c in counts)
    report.figures["events recovered after the drop"] = sum(c.recovered for c in counts)
    report.figures["gaps in events"] = sum(c.gaps for c in counts)
    report.figures["could not recover"] = sum(c.unrecovered for c in counts)
    report.ok = not any(c.gaps or c.unrecovered for c in counts) and len(back_ms) == count
    return report


async def _make_events(target: Target, phones: list[BusClient]) -> None:
    """A lot created and cancelled twice a second by the host, and cheers by everyone."""
    host: BusClient | None = None
    if target.token is not None:
        token = target.token

        async def host_token() -> str:
            return token

        host = BusClient(target.ws_url, host_token, ssl=target.context())
    running = asyncio.create_task(host.run()) if host is not None else None
    try:
        turn = 0
        while True:
            await asyncio.sleep(0.5)
            turn += 1
            try:
                await phones[turn % len(phones)].call("cheer.tap", {"kind": "heart", "count": 3})
                if host is not None:
                    lot = await host.call(
                        "lot.create",
                        {
                            "title": f"Load test {turn}",
                            "format": "english",
                            "currency": "TWD",
                            "start_price": 100,
                            "increment": 10,
                            "duration_ms": 60_000,
                        },
                    )
                    await host.call("lot.cancel", {"lot": lot["lot"], "reason": "load test"})
            except (Disconnected, TimeoutError):
                continue  # the drop that this scenario is about
            except CallRefused as error:
                if not error.temporary:
                    raise
    finally:
        if running is not None:
            running.cancel()
