"""**Shell**: the demo's people. A host who sells lot after lot, bidders, and their cheers.

Every bot is a client like any phone: its own token, its own connection to the bus, calls and
events. They share only `Hall`, their view of the lot on the block, which any of them may
bring up to date.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from interact.protocol import Event, Reason, room_channel
from loadtest.bus import BusClient, CallRefused, Disconnected, Json, TokenSource
from loadtest.show import (
    CURRENCY,
    INCREMENT,
    NAMES,
    OFFERINGS,
    LotView,
    Mind,
    Offering,
    Plan,
    Temperament,
)

CHEER_KIND: Final = "heart"
PAUSE_S: Final = (7.0, 11.0)
"""Between the hammer and the next lot."""
_IDLE_CHEER_S: Final = 22.0
_LEAVE_ALONE: Final = frozenset({"created", "open"})

log = logging.getLogger(__name__)

Who = Callable[[str, str, str], Awaitable[str]]
"""Gives a token for (role, identity, name)."""


class Hall:
    """The lot on the block, as all bots of one room know it."""

    def __init__(self) -> None:
        self.view: LotView | None = None
        self.bots: frozenset[str] = frozenset()
        self.seq = -1
        self._estimates: dict[str, int] = {}
        self.clock_offset_s = 0.0
        """Server's clock minus this machine's."""

    def now_s(self) -> float:
        """Unix time by the server's clock."""
        return time.time() + self.clock_offset_s

    def expect(self, lot: str, estimate: int) -> None:
        """The host knows what a lot should bring."""
        self._estimates[lot] = estimate
        while len(self._estimates) > 20:
            del self._estimates[next(iter(self._estimates))]

    def open(self, lot: Json) -> None:
        """A lot was opened, or was found open: `lot.opened` or a snapshot."""
        price = lot.get("price")
        guess = int((price or lot["minimum"]) * 2.4)
        self.view = LotView(
            lot["lot"],
            self._estimates.get(lot["lot"], guess),
            lot["minimum"],
            lot["ends_at"] / 1000,
            price,
            lot.get("leader"),
        )
        self.seq = lot.get("seq", 0)

    def apply(self, event: Json) -> bool:
        """Take in an event of the room; whether it changed what bidders must think of."""
        kind, view = event["type"], self.view
        if kind == Event.LOT_OPENED:
            if view is None or view.lot != event["lot"]:
                self.open(event)
            return True
        if view is None or event.get("lot") != view.lot:
            return False
        match kind:
            case Event.BID_ACCEPTED:
                if event["seq"] > self.seq:
                    was_person = view.leader is not None and view.leader not in self.bots
                    if was_person and event["leader"] in self.bots:
                        view.answers_to_person += 1
                    self.seq = event["seq"]
                    view.price, view.leader = event["price"], event["leader"]
                    view.minimum = event["minimum"]
                    view.ends_at_s = event["ends_at"] / 1000
                    view.bids += 1
                return True
            case Event.LOT_EXTENDED:
                view.ends_at_s = event["ends_at"] / 1000
                return True
            case Event.LOT_SOLD | Event.LOT_UNSOLD | Event.LOT_CANCELLED:
                self.view = None
                return True
            case _:
                return False


class Bidder:
    """One person in the hall."""

    def __init__(
        self, url: str, hall: Hall, mind: Mind, token_source: TokenSource, room: str, ssl: object
    ) -> None:
        self.mind = mind
        self.refusals: dict[str, int] = {}
        self.bids = 0
        self._hall = hall
        self._room_channel = room_channel(room)
        self.bus = BusClient(url, token_source, self._heard, ssl=ssl)
        self._timer: asyncio.TimerHandle | None = None
        self._group: asyncio.TaskGroup | None = None
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Bid and cheer until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self.bus.run())
                group.create_task(self._idle_cheers())
        finally:
            self._group = None
            if self._timer is not None:
                self._timer.cancel()

    def _heard(self, channel: str, event: Json, now: float) -> None:
        if channel != self._room_channel:
            return
        if self._hall.apply(event):
            self._think()
        chance = self.mind.chance
        match event["type"]:
            case Event.LOT_SOLD:
                self._later(chance.uniform(0.1, 2.5), partial(self._cheer, chance.randint(4, 12)))
            case Event.BID_ACCEPTED if event["leader"] not in self._hall.bots:
                self._later(chance.uniform(0.3, 1.5), partial(self._cheer, chance.randint(1, 4)))
            case _:
                pass

    def _think(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        view = self._hall.view
        if view is None:
            return
        plan = self.mind.plan(view, self._hall.now_s(), self._hall.bots)
        if plan is not None:
            self._timer = self._loop.call_later(plan.delay_s, self._act, view, view.minimum, plan)

    def _act(self, view: LotView, minimum: int, plan: Plan) -> None:
        self._timer = None
        if (
            self._hall.view is view
            and view.minimum == minimum
            and view.leader != self.mind.identity
        ):
            self._later(0, partial(self._bid, view, plan))

    async def _bid(self, view: LotView, plan: Plan) -> None:
        key = secrets.token_urlsafe(12)
        try:
            if plan.is_max:
                await self.bus.call("bid.max", {"lot": view.lot, "max": plan.amount, "key": key})
                self.mind.has_set_max(view.lot)
            else:
                fields = {"lot": view.lot, "amount": plan.amount, "key": key}
                await self.bus.call("bid.place", fields)
            self.bids += 1
        except CallRefused as error:
            self.refusals[error.reason] = self.refusals.get(error.reason, 0) + 1
            if error.reason == Reason.TOO_LOW and "minimum" in error.detail:
                view.minimum = max(view.minimum, int(error.detail["minimum"]))
                self._think()
            elif error.reason not in (Reason.NOT_OPEN, Reason.OWN_LEAD):
                log.debug("bid refused identity=%s reason=%s", self.mind.identity, error.reason)
        except (Disconnected, TimeoutError):
            log.debug("bid unanswered identity=%s", self.mind.identity)

    async def _cheer(self, taps: int) -> None:
        try:
            await self.bus.call("cheer.tap", {"kind": CHEER_KIND, "count": taps})
        except (CallRefused, Disconnected, TimeoutError) as error:
            log.debug("cheer lost identity=%s error=%s", self.mind.identity, error)

    async def _idle_cheers(self) -> None:
        while True:
            await asyncio.sleep(self.mind.chance.expovariate(1 / _IDLE_CHEER_S) + 1)
            if self.bus.connected.is_set():
                for _ in range(self.mind.chance.randint(1, 3)):
                    await self._cheer(self.mind.chance.randint(1, 4))
                    await asyncio.sleep(0.35)

    def _later(self, delay_s: float, what: Callable[[], Awaitable[None]]) -> None:
        async def do() -> None:
            await asyncio.sleep(delay_s)
            await what()

        if self._group is not None:
            self._group.create_task(do())


class Host:
    """Sells one thing after the other, for ever."""

    def __init__(
        self,
        url: str,
        hall: Hall,
        token_source: TokenSource,
        room: str,
        *,
        offerings: Sequence[Offering] = OFFERINGS,
        pause_s: tuple[float, float] = PAUSE_S,
        on_show: Callable[[Offering], None] = lambda offering: None,
        on_event: Callable[[Json], None] = lambda event: None,
        ssl: object = None,
    ) -> None:
        """`on_show` hears what goes on the table, `on_event` every event of the room."""
        self._hall = hall
        self._offerings = offerings
        self._pause_s = pause_s
        self._on_show, self._on_event = on_show, on_event
        self._room_channel = room_channel(room)
        self.sold = 0
        self.bus = BusClient(url, token_source, self._heard, ssl=ssl)
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Sell until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.bus.run())
            group.create_task(self._sell())

    def _heard(self, channel: str, event: Json, now: float) -> None:
        if channel != self._room_channel:
            return
        lot = event.get("lot")
        current = self._hall.view
        ends = (Event.LOT_SOLD, Event.LOT_UNSOLD, Event.LOT_CANCELLED)
        if event["type"] in ends and (current is None or current.lot == lot):
            self._over.set()
        if event["type"] == Event.LOT_SOLD:
            self.sold += 1
        self._hall.apply(event)
        self._on_event(event)

    async def _sell(self) -> None:
        number = 0
        while True:
            await self.bus.connected.wait()
            try:
                offering = self._offerings[number % len(self._offerings)]
                lot = await self._find_open() or await self._put_up(offering)
                await self._wait_for_end(lot)
                number += 1
            except CallRefused as error:
                log.warning("lot refused reason=%s", error.reason)
                await asyncio.sleep(3)
            except (Disconnected, TimeoutError):
                await asyncio.sleep(0.5)
                continue
            await asyncio.sleep(random.uniform(*self._pause_s))

    async def _find_open(self) -> str | None:
        """A lot that is still open, for instance from before a restart."""
        before = time.time()
        state = await self.bus.call("room.state")
        self._hall.clock_offset_s = state["now"] / 1000 - (before + time.time()) / 2
        for lot in state["lots"]:
            if lot["state"] == "open":
                for offering in self._offerings:
                    if offering.title == lot["title"]:
                        self._hall.expect(lot["lot"], offering.estimate)
                        self._on_show(offering)
                self._over.clear()
                self._hall.open(lot)
                return str(lot["lot"])
        return None

    async def _put_up(self, offering: Offering) -> str:
        self._on_show(offering)
        await asyncio.sleep(1.6)  # the product is on the table before it is called
        created = await self.bus.call(
            "lot.create",
            {
                "title": offering.title,
                "format": "english",
                "currency": CURRENCY,
                "start_price": offering.start_price,
                "increment": INCREMENT,
                "duration_ms": offering.duration_s * 1000,
                "soft_close": {
                    "window_ms": offering.soft_close_ms,
                    "extend_ms": offering.soft_close_ms,
                    "mode": "reset",
                },
            },
        )
        lot = str(created["lot"])
        self._hall.expect(lot, offering.estimate)
        self._over.clear()
        await self.bus.call("lot.start", {"lot": lot})
        return lot

    async def _wait_for_end(self, lot: str) -> None:
        """Until the hammer; looks for itself now and then, in case an event was missed."""
        while True:
            try:
                async with asyncio.timeout(15):
                    await self._over.wait()
                return
            except TimeoutError:
                await self.bus.connected.wait()
                if (await self.bus.call("lot.state", {"lot": lot}))["state"] not in _LEAVE_ALONE:
                    return


class Company:
    """A host and `count` bidders of one room."""

    def __init__(
        self,
        url: str,
        room: str,
        count: int,
        who: Who,
        *,
        seed: int = 7,
        offerings: Sequence[Offering] = OFFERINGS,
        pause_s: tuple[float, float] = PAUSE_S,
        on_show: Callable[[Offering], None] = lambda offering: None,
        on_event: Callable[[Json], None] = lambda event: None,
        ssl: object = None,
    ) -> None:
        """`url` is the bus's ws:// address; `who` gives tokens."""
        self.hall = Hall()
        self.host = Host(
            url,
            self.hall,
            lambda: who("host", "host-bot", "Livehouse"),
            room,
            offerings=offerings,
            pause_s=pause_s,
            on_show=on_show,
            on_event=on_event,
            ssl=ssl,
        )
        self.bidders = [self._bidder(url, room, index, who, seed, ssl) for index in range(count)]
        self.hall.bots = frozenset(b.mind.identity for b in self.bidders)

    def _bidder(self, url: str, room: str, index: int, who: Who, seed: int, ssl: object) -> Bidder:
        name, temperament = NAMES[index % len(NAMES)]
        if index >= len(NAMES):
            name = f"{name} {index // len(NAMES) + 1}"
        identity = f"bot-{index}"
        if index == 0:
            temperament = Temperament.EAGER  # somebody opens
        mind = Mind(identity, temperament, random.Random(seed * 1000 + index))
        return Bidder(url, self.hall, mind, lambda: who("viewer", identity, name), room, ssl)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.host.run())
            for bidder in self.bidders:
                group.create_task(bidder.run())
