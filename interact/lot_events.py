"""What can happen to a lot: the facts that its ledger stream holds.

Each accepted command is one fact with its inputs *and* its outcome. Folding outcomes
restores a lot without asking the rules again, so a later change of rules never rewrites
history; deciding again from the inputs and comparing is what `livehouse verify` does.
Field names are stored: they may be added to, never renamed.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from interact.increments import IncrementSpec


class LotState(StrEnum):
    """The life of a lot; values are the words of `lot.state`."""

    CREATED = "created"
    OPEN = "open"
    SOLD = "sold"
    UNSOLD = "unsold"
    CANCELLED = "cancelled"


class BidKind(StrEnum):
    """`open`: exactly this amount, shown whole. `max`: automatic bidding up to a hidden one."""

    OPEN = "open"
    MAX = "max"


class SoftCloseMode(StrEnum):
    """How a late bid moves the deadline: to `extend_ms` from now, or by `extend_ms`."""

    RESET = "reset"
    ADD = "add"


class SoftClose(msgspec.Struct, frozen=True, gc=False):
    """A price-moving bid in the last `window_ms` extends the lot."""

    window_ms: int
    extend_ms: int
    mode: SoftCloseMode


class LotSpec(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a host asks for. Money in minor units of `currency`; validated by lot_requests."""

    title: str
    format: str
    currency: str
    start_price: int
    increment: IncrementSpec
    duration_ms: int
    reserve: int | None = None
    buy_now: int | None = None
    soft_close: SoftClose | None = None
    grid: bool = False


class LotCreated(msgspec.Struct, frozen=True, gc=False, tag="lot.created"):
    """The lot is listed. `by` owns it and may not bid on it."""

    at: int
    room: str
    lot: str
    by: str
    spec: LotSpec


class LotOpened(msgspec.Struct, frozen=True, gc=False, tag="lot.opened"):
    """Bids are taken until `ends_at`."""

    at: int
    by: str
    ends_at: int


class BidTaken(msgspec.Struct, frozen=True, gc=False, tag="bid"):
    """A bid was accepted; the second half is its outcome.

    `moved` is false for a leader who raised the own maximum in silence: then seq, price
    and leader are as before. `outbid` lost the lead by this bid. `sold` says that the
    bid reached the buy-now price and so was the hammer too. `auto`: the leader's
    standing amount was set by automatic bidding.
    """

    at: int
    identity: str
    name: str
    kind: BidKind
    amount: int
    key: str
    seq: int
    price: int
    leader: str
    leader_name: str
    minimum: int
    ends_at: int
    moved: bool
    auto: bool
    extended: bool
    sold: bool
    outbid: str | None


class LotHammered(msgspec.Struct, frozen=True, gc=False, tag="lot.hammered"):
    """The deadline passed. Sold to `winner` at `price`, or unsold (both then None)."""

    at: int
    price: int | None
    winner: str | None
    winner_name: str | None


class LotCancelled(msgspec.Struct, frozen=True, gc=False, tag="lot.cancelled"):
    """Taken back before the hammer; nobody owes anything."""

    at: int
    by: str
    reason: str


LotEvent = LotCreated | LotOpened | BidTaken | LotHammered | LotCancelled

_decoder: msgspec.json.Decoder[LotEvent] = msgspec.json.Decoder(LotEvent)
_encoder = msgspec.json.Encoder()


def encode_event(event: LotEvent) -> bytes:
    """The event as it is stored and hashed."""
    return _encoder.encode(event)


def decode_event(data: bytes) -> LotEvent:
    """The stored event. Raises msgspec.DecodeError (its ValidationError included)."""
    return _decoder.decode(data)


def kind_of(event: LotEvent) -> str:
    """The record kind under which `event` is stored: its tag."""
    return str(event.__struct_config__.tag)
