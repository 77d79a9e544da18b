"""What phones read about a lot: its snapshot, and the publications each fact causes.

A pure function of the facts, so the server and `livehouse verify` build the same bytes.
A hidden maximum or an unmet reserve's amount never enters anything here but the
message to the person it belongs to.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from interact.engine import Outgoing
from interact.increments import IncrementSpec
from interact.lot_events import (
    BidKind,
    BidTaken,
    LotCancelled,
    LotCreated,
    LotEvent,
    LotHammered,
    LotOpened,
    LotSpec,
    LotState,
    SoftClose,
)
from interact.protocol import Event, room_channel, user_channel

_encode = msgspec.json.Encoder().encode


class ShownBid(msgspec.Struct, frozen=True, gc=False):
    """One step of the price, as everybody saw it."""

    seq: int
    price: int
    leader: str
    leader_name: str
    at: int
    auto: bool


class LotSnapshot(msgspec.Struct, frozen=True, gc=False):
    """Everything a late-comer needs to show a lot; `bids` newest first, at most 20.

    `reserve` says only none, unmet or met. `my_max` is the caller's own hidden maximum.
    """

    lot: str
    title: str
    format: str
    state: LotState
    currency: str
    start_price: int
    increment: IncrementSpec
    grid: bool
    reserve: str
    buy_now: int | None
    duration_ms: int
    soft_close: SoftClose | None
    owner: str
    created_at: int
    opened_at: int | None
    ends_at: int | None
    seq: int
    price: int | None
    leader: str | None
    leader_name: str | None
    minimum: int
    winner: str | None
    bids: list[ShownBid]
    my_max: int | None


class _LotCreatedMessage(msgspec.Struct, frozen=True, gc=False):
    type: Event
    at: int
    lot: str
    title: str
    format: str
    currency: str
    start_price: int
    increment: IncrementSpec
    duration_ms: int
    buy_now: int | None
    minimum: int


class _LotOpenedMessage(msgspec.Struct, frozen=True, gc=False):
    type: Event
    at: int
    lot: str
    title: str
    currency: str
    ends_at: int
    minimum: int


class _BidAcceptedMessage(msgspec.Struct, frozen=True, gc=False):
    type: Event
    at: int
    lot: str
    seq: int
    price: int
    leader: str
    leader_name: str
    minimum: int
    ends_at: int
    auto: bool


class _LotExtendedMessage(msgspec.Struct, frozen=True, gc=False):
    type: Event
    at: int
    lot: str
    ends_at: int


class _LotSoldMessage(msgspec.Struct, frozen=True, gc=False):
    type: Event
    at: int
    lot: str
    price: int
    currency: str
    winner: str
    winner_name: str
    title: str


class _LotUnsoldMessage(msgspec.Struct, frozen=True, gc=False):
    type: Event
    at: int
    lot: str
    title: str


class _LotCancelledMessage(msgspec.Struct, frozen=True, gc=False):
    type: Event
    at: int
    lot: str
    reason: str
    title: str


class _BidReceiptMessage(msgspec.Struct, frozen=True, gc=False):
    type: Event
    at: int
    lot: str
    seq: int
    kind: BidKind
    amount: int
    price: int
    leader: str


class _BidOutbidMessage(msgspec.Struct, frozen=True, gc=False):
    type: Event
    at: int
    lot: str
    price: int
    leader: str
    leader_name: str
    minimum: int


class _LotWonMessage(msgspec.Struct, frozen=True, gc=False):
    type: Event
    at: int
    lot: str
    price: int
    currency: str
    title: str


def publications(room: str, lot: str, spec: LotSpec, event: LotEvent) -> list[Outgoing]:
    """What `event` makes public, in order; the room's channel first."""
    public = room_channel(room)
    match event:
        case LotCreated():
            created = _LotCreatedMessage(
                Event.LOT_CREATED,
                event.at,
                lot,
                spec.title,
                spec.format,
                spec.currency,
                spec.start_price,
                spec.increment,
                spec.duration_ms,
                spec.buy_now,
                spec.start_price,
            )
            return [Outgoing(public, _encode(created))]
        case LotOpened():
            opened = _LotOpenedMessage(
                Event.LOT_OPENED,
                event.at,
                lot,
                spec.title,
                spec.currency,
                event.ends_at,
                spec.start_price,
            )
            return [Outgoing(public, _encode(opened))]
        case BidTaken():
            return _bid_publications(room, lot, spec, event)
        case LotHammered():
            if event.price is None or event.winner is None:
                unsold = _LotUnsoldMessage(Event.LOT_UNSOLD, event.at, lot, spec.title)
                return [Outgoing(public, _encode(unsold))]
            return _sale(
                room, lot, spec, event.at, event.price, event.winner, event.winner_name or ""
            )
        case LotCancelled():
            cancelled = _LotCancelledMessage(
                Event.LOT_CANCELLED, event.at, lot, event.reason, spec.title
            )
            return [Outgoing(public, _encode(cancelled))]
        case _:
            assert_never(event)


def _bid_publications(room: str, lot: str, spec: LotSpec, bid: BidTaken) -> list[Outgoing]:
    public = room_channel(room)
    out: list[Outgoing] = []
    if bid.moved:
        accepted = _BidAcceptedMessage(
            Event.BID_ACCEPTED,
            bid.at,
            lot,
            bid.seq,
            bid.price,
            bid.leader,
            bid.leader_name,
            bid.minimum,
            bid.ends_at,
            bid.auto,
        )
        out.append(Outgoing(public, _encode(accepted)))
    if bid.extended:
        extended = _LotExtendedMessage(Event.LOT_EXTENDED, bid.at, lot, bid.ends_at)
        out.append(Outgoing(public, _encode(extended)))
    receipt = _BidReceiptMessage(
        Event.BID_RECEIPT, bid.at, lot, bid.seq, bid.kind, bid.amount, bid.price, bid.leader
    )
    out.append(Outgoing(user_channel(room, bid.identity), _encode(receipt)))
    if bid.outbid is not None:
        outbid = _BidOutbidMessage(
            Event.BID_OUTBID, bid.at, lot, bid.price, bid.leader, bid.leader_name, bid.minimum
        )
        out.append(Outgoing(user_channel(room, bid.outbid), _encode(outbid)))
    if bid.sold:
        out += _sale(room, lot, spec, bid.at, bid.price, bid.leader, bid.leader_name)
    return out


def _sale(
    room: str, lot: str, spec: LotSpec, at: int, price: int, winner: str, winner_name: str
) -> list[Outgoing]:
    sold = _LotSoldMessage(
        Event.LOT_SOLD, at, lot, price, spec.currency, winner, winner_name, spec.title
    )
    won = _LotWonMessage(Event.LOT_WON, at, lot, price, spec.currency, spec.title)
    return [
        Outgoing(room_channel(room), _encode(sold)),
        Outgoing(user_channel(room, winner), _encode(won)),
    ]
