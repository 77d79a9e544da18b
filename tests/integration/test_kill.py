"""Kill -9 at any moment: nothing that was acknowledged is missing afterwards.

A real process takes bids over a pipe and is killed while dozens are in flight; the next
one on the same directory must know every bid that was answered and every publication
that a phone could have seen, and hammer what fell due in between.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from interact.ledger_file import FILE_NAME, open_for_reading, read_publications
from interact.verify import verify

START_S = 20.0
BIDDERS = [f"b{number}" for number in range(12)]
LONG_MS = 3_600_000
SHORT_MS = 400
OLD_SAMPLE = 500


class Killed(Exception):
    """The child died before it answered."""


@dataclass
class Book:
    """What the outside knows for certain."""

    lots: list[str] = field(default_factory=list)
    acknowledged: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = field(
        default_factory=list
    )  # identity, method, params, reply
    checked: int = 0  # so many of them have been asked again once
    heard: dict[str, dict[int, str]] = field(default_factory=dict)  # channel → offset → data


class Child:
    """One life of the server."""

    def __init__(self, process: asyncio.subprocess.Process, book: Book) -> None:
        self._process = process
        self._book = book
        self._ids = count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            message = json.loads(line)
            if "heard" in message:
                known = self._book.heard.setdefault(message["heard"], {})
                assert known.setdefault(message["offset"], message["data"]) == message["data"]
            elif "ready" in message:
                self._ready.set_result(None)
            else:
                self._waiting.pop(message["id"]).set_result(message)
        if not self._ready.done():
            self._ready.set_exception(Killed())
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Killed())

    async def ready(self) -> None:
        """Wait until calls are taken."""
        await asyncio.wait_for(asyncio.shield(self._ready), START_S)

    async def call(self, identity: str, method: str, **params: Any) -> dict[str, Any]:
        """One call; the whole answer. Raises Killed."""
        number = next(self._ids)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        role = "host" if identity == "host" else "viewer"
        line = {
            "id": number,
            "identity": identity,
            "role": role,
            "method": method,
            "params": params,
        }
        assert self._process.stdin is not None
        if self._reading.done():
            self._waiting.pop(number)
            raise Killed
        self._process.stdin.write(json.dumps(line).encode() + b"\n")
        answer: dict[str, Any] = await future
        return answer

    async def host(self, method: str, **params: Any) -> dict[str, Any]:
        """A host's call that must be granted."""
        answer = await self.call("host", method, **params)
        reply: dict[str, Any] = answer["reply"]
        return reply

    async def end(self, *, kill: bool) -> int:
        """SIGKILL, or an orderly end; gives the exit status."""
        assert self._process.stdin is not None
        if kill:
            self._process.kill()
        else:
            self._process.stdin.close()
        status = await self._process.wait()
        await self._reading
        return status


@asynccontextmanager
async def life(directory: Path, book: Book) -> AsyncIterator[Child]:
    """A server on `directory`, ready; killed where the test did not end it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.ledger_child",
        str(directory),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 22,
    )
    child = Child(process, book)
    try:
        await child.ready()
        yield child
    finally:
        if process.returncode is None:
            await child.end(kill=True)


async def list_lot(child: Child, duration_ms: int, **options: Any) -> str:
    """A lot that takes bids."""
    created = await child.host(
        "lot.create",
        title="Teapot",
        format="english",
        currency="TWD",
        start_price=100,
        increment=[[0, 1], [1_000, 5]],
        duration_ms=duration_ms,
        **options,
    )
    lot: str = created["lot"]
    await child.host("lot.start", lot=lot)
    return lot


async def bid_on(child: Child, book: Book, identity: str, lots: list[str], seed: int) -> None:
    """Bid as fast as answers come until the server is gone."""
    rng = random.Random(seed)
    floor = dict.fromkeys(lots, 100)
    try:
        for number in count():
            lot = rng.choice(lots)
            amount = floor[lot] + rng.randrange(0, 12)
            method, name = rng.choice([("bid.place", "amount"), ("bid.max", "max")])
            params = {"lot": lot, name: amount, "key": f"{seed}-{number}"}
            answer = await child.call(identity, method, **params)
            if "reply" in answer:
                book.acknowledged.append((identity, method, params, answer["reply"]))
                floor[lot] = answer["reply"]["price"] + 1
            elif answer["refused"] == "too_low":
                floor[lot] = answer["detail"]["minimum"]
            else:
                assert answer["refused"] in ("own_lead", "not_open")
    except Killed:
        return


async def check(child: Child, book: Book, rng: random.Random) -> None:
    """The server knows all that the outside was told: what is new, and a sample of the old."""
    old = book.acknowledged[: book.checked]
    asked = book.acknowledged[book.checked :] + rng.sample(old, min(len(old), OLD_SAMPLE))
    book.checked = len(book.acknowledged)
    answers = await asyncio.gather(
        *(child.call(identity, method, **params) for identity, method, params, _ in asked)
    )
    for (_, _, params, reply), answer in zip(asked, answers, strict=True):
        assert answer.get("reply") == reply, params
    for lot in book.lots:
        state = await child.host("lot.state", lot=lot)
        replies = [reply for _, _, params, reply in book.acknowledged if params["lot"] == lot]
        if not replies:
            continue
        newest = max(replies, key=lambda reply: (reply["seq"], reply["ends_at"]))
        assert state["seq"] >= newest["seq"]
        assert state["price"] >= newest["price"]
        assert state["ends_at"] >= newest["ends_at"]
        if state["seq"] == newest["seq"]:
            assert (state["price"], state["leader"]) == (newest["price"], newest["leader"])


def check_history(directory: Path, book: Book) -> None:
    """Every publication that was heard is still there, at its offset."""
    db = open_for_reading(directory / FILE_NAME)
    for channel, heard in book.heard.items():
        kept = {p.offset: p.data.decode() for p in read_publications(db, channel, 0, -1)}
        oldest = min(kept)
        for offset, data in heard.items():
            assert offset < oldest or kept[offset] == data
    db.close()


def check_ledger(directory: Path) -> None:
    """`livehouse verify`, in short."""
    reports = verify(directory)
    assert reports
    assert [report.line() for report in reports if not report.is_ok] == []


@pytest.mark.timeout(900)  # for the fifty rounds of `make faults`; three take seconds
async def test_kill_9_loses_no_acknowledged_bid(tmp_path: Path, fault_rounds: int) -> None:
    rng = random.Random(20_260_723)
    book = Book()
    for number in range(fault_rounds):
        async with life(tmp_path, book) as child:
            await check(child, book, rng)
            if not book.lots:
                book.lots = [await list_lot(child, LONG_MS) for _ in range(2)]
            soft = {"window_ms": 200, "extend_ms": 200, "mode": "reset"}
            short = await list_lot(child, SHORT_MS, soft_close=soft, reserve=150)
            book.lots.append(short)
            bidding = [
                asyncio.create_task(
                    bid_on(child, book, bidder, [*book.lots[:2], short], number * 100 + index)
                )
                for index, bidder in enumerate(BIDDERS)
            ]
            await asyncio.sleep(rng.uniform(0.02, 0.6))  # the moment of the kill is the test
            assert await child.end(kill=True) == -9
            await asyncio.gather(*bidding)
        await asyncio.to_thread(check_ledger, tmp_path)
        await asyncio.to_thread(check_history, tmp_path, book)

    assert len(book.acknowledged) > 10 * fault_rounds  # else nothing was at stake
    await asyncio.sleep(2 * SHORT_MS / 1000)  # downtime in which the last short lot falls due
    async with life(tmp_path, book) as child:
        await check(child, book, rng)
        for index, lot in enumerate(book.lots):
            state = await child.host("lot.state", lot=lot)
            assert (state["state"] == "open") == (index < 2)
        # An open lot goes on: the next bid is taken at the next price.
        state = await child.host("lot.state", lot=book.lots[0])
        bidder = next(bidder for bidder in BIDDERS if bidder != state["leader"])
        answer = await child.call(
            bidder, "bid.place", lot=book.lots[0], amount=state["minimum"] + 500, key="after"
        )
        assert answer["reply"]["seq"] == state["seq"] + 1
        assert await child.end(kill=False) == 0
    await asyncio.to_thread(check_ledger, tmp_path)
    await asyncio.to_thread(check_history, tmp_path, book)
