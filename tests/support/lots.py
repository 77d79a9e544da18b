"""Lots and bids for tests, with defaults that a test overrides by name."""

from __future__ import annotations

from itertools import count
from typing import Any

from interact.auction import Lot, Receipt, Refusal
from interact.lot_events import BidKind, BidTaken, LotCreated, LotSpec
from interact.protocol import Reason

OPENED_AT = 1_000_000
_keys = count()


def spec(**changes: Any) -> LotSpec:
    """A plain lot: from 1,000 in steps of 100, one minute, no reserve."""
    values: dict[str, Any] = {
        "title": "Teapot",
        "format": "english",
        "currency": "TWD",
        "start_price": 1_000,
        "increment": 100,
        "duration_ms": 60_000,
    }
    return LotSpec(**{**values, **changes})


def created_lot(**changes: Any) -> Lot:
    """A lot that its host, `host`, has listed."""
    return Lot(LotCreated(at=OPENED_AT, room="r", lot="l", by="host", spec=spec(**changes)))


def open_lot(**changes: Any) -> Lot:
    """A lot that takes bids from OPENED_AT on."""
    lot = created_lot(**changes)
    event = lot.start(OPENED_AT, "host")
    assert not isinstance(event, Refusal)
    lot.apply(event)
    return lot


def bid(
    lot: Lot, identity: str, kind: BidKind, amount: int, at: int = OPENED_AT, key: str | None = None
) -> BidTaken:
    """An accepted bid, applied. Fails the test where it is refused."""
    event = lot.bid(at, identity, identity.upper(), kind, amount, key or f"k{next(_keys)}")
    assert isinstance(event, BidTaken), event
    lot.apply(event)
    return event


def place(lot: Lot, identity: str, amount: int, at: int = OPENED_AT) -> BidTaken:
    """An accepted open bid."""
    return bid(lot, identity, BidKind.OPEN, amount, at)


def proxy(lot: Lot, identity: str, amount: int, at: int = OPENED_AT) -> BidTaken:
    """An accepted hidden maximum."""
    return bid(lot, identity, BidKind.MAX, amount, at)


def refusal(
    lot: Lot, identity: str, kind: BidKind, amount: int, at: int = OPENED_AT
) -> tuple[Reason, int | None]:
    """Reason and minimum of a bid that is refused; the lot must not change by it."""
    before = lot.snapshot(identity)
    event = lot.bid(at, identity, identity.upper(), kind, amount, "refused")
    assert isinstance(event, Refusal), event
    assert lot.snapshot(identity) == before
    return event.reason, event.minimum


def receipt_of(event: BidTaken) -> tuple[int, int, str, int]:
    """What the bidder is answered."""
    return event.seq, event.price, event.leader, event.ends_at


def replayed(receipt: Receipt | Refusal | None) -> tuple[int, int, str, int]:
    """What a repeated key is answered."""
    assert isinstance(receipt, Receipt)
    return receipt.seq, receipt.price, receipt.leader, receipt.ends_at
