"""`load bids`: bids on a fixed schedule, and how long until the last phone has heard of each.

A lot of its own is put up, so it needs a host's token. Every bid is higher than the one
before, so each is accepted if it is decided in order; where two overtake each other the later
amount wins and the earlier is refused `too_low`, which is counted and is no error. Times run
from the moment the schedule said, not from when a busy client came round to it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Final

from interact.protocol import Event, Reason, room_channel
from loadtest.bus import BusClient, CallRefused, Disconnected, Json
from loadtest.report import Report
from loadtest.target import Target

STEP: Final = 100
START_PRICE: Final = 10_000
_QUIET_S: Final = 3.0
"""After the last bid, for what is still under way."""


class Phones:
    """Listeners that note when each accepted bid reaches the last of them."""

    def __init__(self, room: str, count: int) -> None:
        self._channel = room_channel(room)
        self._count = count
        self._heard: dict[int, int] = {}
        self.last_at: dict[int, float] = {}
        """Price of a bid: when the last phone had it, monotonic."""
        self.first_at: dict[int, float] = {}

    def hear(self, channel: str, event: Json, now: float) -> None:
        """One event on one phone."""
        if channel != self._channel or event.get("type") != Event.BID_ACCEPTED:
            return
        price = int(event["price"])
        heard = self._heard.get(price, 0) + 1
        self._heard[price] = heard
        if heard == 1:
            self.first_at[price] = now
        if heard == self._count:
            self.last_at[price] = now


async def run(
    target: Target,
    *,
    bidders: int,
    rate: float,
    seconds: float,
    phones: int = 50,
    command: str = "",
) -> Report:
    """`rate` bids a second by `bidders` guests for `seconds`, heard by `phones` listeners."""
    if target.token is None:
        raise ValueError("bids needs --token with a host's token, to put up a lot")
    listeners = Phones(target.room, phones)
    ssl = target.context()
    async with target.client() as client:

        async def guest() -> str:
            return await target.guest(client)

        async def host_token() -> str:
            assert target.token is not None
            return target.token

        host = BusClient(target.ws_url, host_token, ssl=ssl)
        crowd = [BusClient(target.ws_url, guest, ssl=ssl) for _ in range(bidders)]
        watchers = [BusClient(target.ws_url, guest, listeners.hear, ssl=ssl) for _ in range(phones)]
        everyone = [host, *crowd, *watchers]
        tasks = [asyncio.create_task(client_.run()) for client_ in everyone]
        try:
            await asyncio.gather(*(asyncio.wait_for(c.connected.wait(), 30) for c in everyone))
            lot = await _put_up(host, seconds)
            acks, refusals, placed = await _bid(crowd, lot, rate, seconds)
            await asyncio.sleep(_QUIET_S)
            await host.call("lot.cancel", {"lot": lot, "reason": "load test"})
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return _summarize(
        acks, refusals, placed, listeners, everyone, f"{rate:g} bids a second", command
    )


async def _put_up(host: BusClient, seconds: float) -> str:
    lot = str(
        (
            await host.call(
                "lot.create",
                {
                    "title": "Load test",
                    "format": "english",
                    "currency": "TWD",
                    "start_price": START_PRICE,
                    "increment": 1,
                    "duration_ms": int((seconds + 60) * 1000),
                },
            )
        )["lot"]
    )
    await host.call("lot.start", {"lot": lot})
    return lot


async def _bid(
    crowd: list[BusClient], lot: str, rate: float, seconds: float
) -> tuple[list[float], dict[str, int], dict[int, float]]:
    """Acknowledgement times in ms, refusals by reason, and amount: scheduled time."""
    acks: list[float] = []
    refusals: dict[str, int] = {}
    placed: dict[int, float] = {}

    async def bid(number: int, due: float) -> None:
        amount = START_PRICE + number * STEP
        fields = {"lot": lot, "amount": amount, "key": secrets.token_urlsafe(12)}
        try:
            await crowd[number % len(crowd)].call("bid.place", fields)
            acks.append((time.monotonic() - due) * 1000)
            placed[amount] = due
        except CallRefused as error:
            refusals[error.reason] = refusals.get(error.reason, 0) + 1
        except (Disconnected, TimeoutError) as error:
            word = type(error).__name__
            refusals[word] = refusals.get(word, 0) + 1

    start = time.monotonic() + 0.2
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = start + number / rate
            await asyncio.sleep(max(due - time.monotonic(), 0))
            group.create_task(bid(number, due))
    return acks, refusals, placed


def _summarize(
    acks: list[float],
    refusals: dict[str, int],
    placed: dict[int, float],
    phones: Phones,
    everyone: list[BusClient],
    title: str,
    command: str,
) -> Report:
    report = Report(title, command)
    figures = report.figures
    figures["bids accepted"] = len(acks)
    for reason, number in sorted(refusals.items()):
        figures[f"refused {reason}"] = number
    report.add_samples("bid to acknowledgement, ms", acks)
    last = [(at - placed[p]) * 1000 for p, at in phones.last_at.items() if p in placed]
    first = [(at - placed[p]) * 1000 for p, at in phones.first_at.items() if p in placed]
    report.add_samples("bid to first phone, ms", first)
    report.add_samples("bid to last phone, ms", last)
    figures["bids that missed a phone"] = len(placed) - len(last)
    figures["gaps in events"] = sum(c.counts.gaps for c in everyone)
    unexpected = set(refusals) - {Reason.TOO_LOW.value, Reason.OWN_LEAD.value}
    report.ok = not unexpected and len(last) == len(placed) and bool(acks)
    return report
