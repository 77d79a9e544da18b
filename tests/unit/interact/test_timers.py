"""Deadlines and ticks: the two timers of a server's rooms."""

from __future__ import annotations

import asyncio

import pytest

from interact import ticker
from interact.deadlines import Deadlines
from interact.ticker import Ticker

WAIT_S = 5.0


class Clock:
    """A wall clock that runs with the loop's, from 1,000 ms."""

    def __init__(self) -> None:
        self._start_s = asyncio.get_running_loop().time()

    def __call__(self) -> int:
        return 1_000 + int((asyncio.get_running_loop().time() - self._start_s) * 1000)


async def test_deadlines_fire_in_order_and_not_early() -> None:
    clock = Clock()
    fired: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
    deadlines = Deadlines(clock, lambda key: fired.put_nowait((key, clock())))
    deadlines.start()
    due = {"late": 1_060, "soon": 1_020, "past": 5, "middle": 1_040}
    for key, at_ms in due.items():
        deadlines.arm(at_ms, key)
    order = []
    for _ in due:
        key, at_ms = await asyncio.wait_for(fired.get(), WAIT_S)
        assert at_ms >= due[key]
        order.append(key)
    assert order == ["past", "soon", "middle", "late"]
    await deadlines.stop()


async def test_sooner_deadline_wakes_the_sleeping_timer() -> None:
    clock = Clock()
    fired: asyncio.Queue[str] = asyncio.Queue()
    deadlines = Deadlines(clock, fired.put_nowait)
    deadlines.start()
    deadlines.arm(clock() + 3_600_000, "far")
    await asyncio.sleep(0)  # the timer sleeps now
    deadlines.arm(clock() + 10, "near")
    assert await asyncio.wait_for(fired.get(), 0.9) == "near"
    await deadlines.stop()
    assert fired.empty()


async def test_stopped_deadlines_fire_nothing() -> None:
    fired: list[str] = []
    deadlines = Deadlines(Clock(), fired.append)
    await deadlines.stop()
    deadlines.start()
    await deadlines.stop()
    deadlines.arm(0, "past")
    await asyncio.sleep(0)
    assert fired == []


async def test_changes_between_two_ticks_become_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticker, "MIN_INTERVAL_S", 0.05)
    loop = asyncio.get_running_loop()
    sent: list[tuple[str, float]] = []
    seen = asyncio.Event()

    def send(room: str) -> None:
        sent.append((room, loop.time()))
        seen.set()

    ticks = Ticker(send, lambda room: False)
    ticks.start()
    for _ in range(3):
        for _ in range(50):
            ticks.changed("r")
        seen.clear()
        await asyncio.wait_for(seen.wait(), WAIT_S)
    assert [room for room, _ in sent] == ["r", "r", "r"]
    assert sent[2][1] - sent[0][1] >= 0.099
    ticks.stop()
    ticks.changed("r")
    assert len(sent) == 3


async def test_heartbeat_goes_on_while_somebody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticker, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(ticker, "AWAKE_S", 0.0)
    beats: asyncio.Queue[str] = asyncio.Queue()
    ticks = Ticker(beats.put_nowait, lambda room: room == "watched")
    ticks.start()
    ticks.wake("watched")
    ticks.wake("deserted")
    assert [await asyncio.wait_for(beats.get(), WAIT_S) for _ in range(3)] == ["watched"] * 3
    ticks.stop()
