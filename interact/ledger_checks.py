"""What must be true of a lot's events whatever the price rule says.

Written against the events alone, without the state machine, so that one mistake in the
rules cannot hide another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from interact.lot_events import (
    BidTaken,
    LotCancelled,
    LotCreated,
    LotEvent,
    LotHammered,
    LotOpened,
)


def broken_invariants(events: Sequence[LotEvent]) -> Iterable[str]:
    """One sentence for each law that these events break."""
    yield from _life(events)
    yield from _bids(events)
    yield from _ending(events)


def _life(events: Sequence[LotEvent]) -> Iterable[str]:
    for before, after in pairwise(events):
        if after.at < before.at:
            yield f"time runs backwards from {before.at} to {after.at}"
    if sum(isinstance(event, LotOpened) for event in events) > 1:
        yield "opened more than once"
    endings = [
        index
        for index, event in enumerate(events)
        if isinstance(event, LotHammered | LotCancelled)
        or (isinstance(event, BidTaken) and event.sold)
    ]
    if len(endings) > 1:
        yield "ended more than once"
    if endings and endings[0] != len(events) - 1:
        yield "something happened after the end"


def _bids(events: Sequence[LotEvent]) -> Iterable[str]:
    owner = next((event.by for event in events if isinstance(event, LotCreated)), None)
    price, seq = 0, 0
    ends_at: int | None = None
    keys: set[tuple[str, str]] = set()
    maxima: dict[str, int] = {}
    for event in events:
        if isinstance(event, LotOpened):
            ends_at = event.ends_at
        if not isinstance(event, BidTaken):
            continue
        who = f"the bid of {event.identity} at {event.at}"
        if ends_at is None:
            yield f"{who} came before the opening"
        elif event.at >= ends_at:
            yield f"{who} came after the deadline {ends_at}"
        elif event.ends_at < ends_at and not event.sold:
            yield f"{who} moved the deadline back"
        if event.identity == owner:
            yield f"{who} was on a lot of their own"
        if (event.identity, event.key) in keys:
            yield f"{who} repeats the key {event.key!r}"
        keys.add((event.identity, event.key))
        maxima[event.identity] = max(event.amount, maxima.get(event.identity, 0))
        if event.moved and event.price <= price:
            yield f"{who} took the price from {price} to {event.price}"
        if not event.moved and event.price != price:
            yield f"{who} changed the price in silence"
        if event.seq != seq + event.moved:
            yield f"{who} has number {event.seq} after {seq}"
        if event.price > maxima.get(event.leader, 0):
            yield f"{who} shows {event.price}, more than {event.leader} ever offered"
        price, seq, ends_at = event.price, event.seq, event.ends_at


def _ending(events: Sequence[LotEvent]) -> Iterable[str]:
    if not events or not isinstance(events[-1], LotHammered):
        return
    hammer = events[-1]
    bids = [event for event in events if isinstance(event, BidTaken)]
    opened = [event.ends_at for event in events if isinstance(event, LotOpened)]
    deadline = bids[-1].ends_at if bids else next(iter(opened), None)
    if deadline is None or hammer.at < deadline:
        yield f"hammered at {hammer.at}, before the deadline {deadline}"
    if hammer.winner is not None and (
        not bids or (hammer.winner, hammer.price) != (bids[-1].leader, bids[-1].price)
    ):
        yield f"sold to {hammer.winner} at {hammer.price}, who did not lead at that price"
