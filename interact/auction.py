"""One English lot: the state machine, and contract §4's price rule.

Commands (`start`, `bid`, `cancel`, `handle_timer`) decide and change nothing: they give
an event or a refusal. `apply` folds an event into the state. The server stores the event
in between; a restart folds the stored events and is at the same place.

An open bid is a maximum that shows itself whole. Everybody's maxima are met in the order
of acceptance, so the earlier of two equal ones leads.

Invariants: shown prices rise strictly; `seq` counts them from 1 without a gap; a price
stays at or under its leader's maximum; there is one hammer; nothing is accepted at or
after `ends_at`; an event's `at` never lies before the one before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from copy import copy
from typing import Final, NamedTuple, assert_never

import msgspec

from interact.increments import Increments
from interact.lot_events import (
    BidKind,
    BidTaken,
    LotCancelled,
    LotCreated,
    LotEvent,
    LotHammered,
    LotOpened,
    LotState,
    SoftCloseMode,
)
from interact.lot_messages import LotSnapshot, ShownBid
from interact.protocol import Reason

TRANSITIONS: Final[dict[LotState, dict[str, frozenset[LotState]]]] = {
    LotState.CREATED: {
        "start": frozenset({LotState.OPEN}),
        "cancel": frozenset({LotState.CANCELLED}),
    },
    LotState.OPEN: {
        "bid": frozenset({LotState.OPEN, LotState.SOLD}),
        "cancel": frozenset({LotState.CANCELLED}),
        "hammer": frozenset({LotState.SOLD, LotState.UNSOLD}),
    },
    LotState.SOLD: {},
    LotState.UNSOLD: {},
    LotState.CANCELLED: {},
}
"""state → command → states it may lead to."""

SHOWN_BIDS: Final = 20
"""Bids in a snapshot: what a phone's bid list shows."""


class BrokenLedger(Exception):
    """Stored events that no run of the rules could have made."""


class Refusal(NamedTuple):
    """Why a command changed nothing. `minimum` goes with too_low and off-grid amounts."""

    reason: Reason
    message: str
    minimum: int | None = None


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What a bidder was answered; kept for ever under identity and key.

    Hundreds of thousands of these may be alive, hence invisible to the garbage collector:
    walking them would stop the loop for tens of milliseconds.
    """

    kind: BidKind
    amount: int
    seq: int
    price: int
    leader: str
    ends_at: int
    version: int


class Lot:
    """One lot. Times are Unix milliseconds, amounts minor units of the lot's currency."""

    def __init__(self, created: LotCreated) -> None:
        self.room = created.room
        self.id = created.lot
        self.owner = created.by
        self.spec = created.spec
        self.state = LotState.CREATED
        self.created_at = created.at
        self.last_at = created.at
        self.opened_at: int | None = None
        self.ends_at: int | None = None
        self.version = 1  # events folded, LotCreated included
        self.seq = 0
        self.price: int | None = None
        self.leader: str | None = None
        self.leader_name: str | None = None
        self.winner: str | None = None
        self._leader_max = 0  # what the leader would go up to; hidden
        self._increments = Increments(created.spec.increment, created.spec.start_price)
        self._hidden: dict[str, int] = {}  # identity → newest maximum given by bid.max
        self._receipts: dict[str, Receipt] = {}  # by _receipt_key
        self._shown: deque[ShownBid] = deque(maxlen=SHOWN_BIDS)

    @classmethod
    def fold(cls, events: Iterable[LotEvent]) -> Lot:
        """The lot as these events left it. Raises BrokenLedger."""
        iterator = iter(events)
        first = next(iterator, None)
        if not isinstance(first, LotCreated):
            raise BrokenLedger("a lot begins with lot.created")
        lot = cls(first)
        for event in iterator:
            lot.apply(event)
        return lot

    def fork(self) -> Lot:
        """An independent copy, to try decisions on."""
        twin = copy(self)
        twin._hidden = dict(self._hidden)
        twin._receipts = dict(self._receipts)
        twin._shown = deque(self._shown, maxlen=SHOWN_BIDS)
        return twin

    # -- commands: decide, change nothing ------------------------------------------

    def start(self, now: int, by: str) -> LotOpened | Refusal:
        """Open the lot for its duration."""
        if "start" not in TRANSITIONS[self.state]:
            return Refusal(Reason.BAD_STATE, f"the lot is {self.state}")
        now = max(now, self.last_at)
        return LotOpened(at=now, by=by, ends_at=now + self.spec.duration_ms)

    def cancel(self, now: int, by: str, reason: str) -> LotCancelled | Refusal:
        """Take the lot back; too late once its time is up."""
        if "cancel" not in TRANSITIONS[self.state]:
            return Refusal(Reason.BAD_STATE, f"the lot is {self.state}")
        now = max(now, self.last_at)
        if self.ends_at is not None and now >= self.ends_at:
            return Refusal(Reason.BAD_STATE, "the lot's time is up")
        return LotCancelled(at=now, by=by, reason=reason)

    def handle_timer(self, now: int) -> LotHammered | None:
        """The hammer, once `next_deadline()` is reached; else None."""
        if self.state is not LotState.OPEN or self.ends_at is None or now < self.ends_at:
            return None
        now = max(now, self.last_at)
        reserve = self.spec.reserve
        if self.price is None or (reserve is not None and self.price < reserve):
            return LotHammered(at=now, price=None, winner=None, winner_name=None)
        return LotHammered(
            at=now, price=self.price, winner=self.leader, winner_name=self.leader_name
        )

    def earlier(
        self, identity: str, key: str, kind: BidKind, amount: int
    ) -> Receipt | Refusal | None:
        """What this key was answered before: the receipt, BAD_KEY for another body, or None."""
        receipt = self._receipts.get(_receipt_key(identity, key))
        if receipt is None or (receipt.kind is kind and receipt.amount == amount):
            return receipt
        return Refusal(Reason.BAD_KEY, "this key was used for another bid")

    def bid(
        self, now: int, identity: str, name: str, kind: BidKind, amount: int, key: str
    ) -> BidTaken | Refusal:
        """Decide one bid whose key `earlier` does not know. `amount` is at most 2^53-1."""
        ends_at = self.ends_at
        if self.state is not LotState.OPEN or ends_at is None:
            return Refusal(Reason.NOT_OPEN, f"the lot is {self.state}")
        now = max(now, self.last_at)
        if now >= ends_at:
            return Refusal(Reason.NOT_OPEN, "the lot's time is up")
        if identity == self.owner:
            return Refusal(Reason.OWN_LOT, "nobody bids on a lot of their own")
        if identity == self.leader:
            if kind is BidKind.OPEN:
                return Refusal(Reason.OWN_LEAD, "this bidder leads already")
            least = self._leader_max + 1
        else:
            least = self.minimum
        refusal = self._amount_refusal(amount, least)
        if refusal is not None:
            return refusal

        price, leads, auto = self._meet(identity, kind, amount)
        buy_now = self.spec.buy_now
        is_sold = buy_now is not None and amount >= buy_now
        if is_sold and buy_now is not None:
            price, leads, auto, ends_at = buy_now, True, kind is BidKind.MAX, now
        moved = price != self.price
        extended_to = ends_at if is_sold or not moved else self._soft_close(now, ends_at)
        if leads or self.leader is None:
            leader, leader_name = identity, name
        else:
            leader, leader_name = self.leader, self.leader_name or ""
        return BidTaken(
            at=now,
            identity=identity,
            name=name,
            kind=kind,
            amount=amount,
            key=key,
            seq=self.seq + moved,
            price=price,
            leader=leader,
            leader_name=leader_name,
            minimum=self._minimum_above(price),
            ends_at=extended_to,
            moved=moved,
            auto=auto,
            extended=extended_to != ends_at,
            sold=is_sold,
            outbid=self.leader if self.leader not in (None, leader) else None,
        )

    def _amount_refusal(self, amount: int, least: int) -> Refusal | None:
        """Too low, or off the grid; an amount that reaches buy-now is neither."""
        buy_now = self.spec.buy_now
        if buy_now is not None and amount >= buy_now:
            return None
        if amount < least:
            if self.spec.grid:
                least = self._increments.rung_at_or_above(least)
            return Refusal(Reason.TOO_LOW, f"the least now is {least}", least)
        if self.spec.grid and not self._increments.is_rung(amount):
            nearest = self._increments.rung_at_or_above(amount)
            return Refusal(
                Reason.BAD_REQUEST,
                f"this lot takes whole steps only; the next one up is {nearest}",
                nearest,
            )
        return None

    def _meet(self, identity: str, kind: BidKind, amount: int) -> tuple[int, bool, bool]:
        """The price rule: (price shown, whether the bidder leads, whether it is automatic)."""
        current = self.price
        step = self._increments.step
        leader_max = self._leader_max
        if current is None:
            price, leads = self.spec.start_price, True
        elif identity == self.leader:
            price, leads = current, True
        elif amount > leader_max:
            price, leads = min(amount, leader_max + step(leader_max)), True
        elif amount < leader_max:
            price, leads = min(leader_max, amount + step(amount)), False
        else:
            price, leads = leader_max, False
        if kind is BidKind.OPEN:
            return (amount if leads else price), leads, not leads
        reserve = self.spec.reserve
        if leads and reserve is not None and (current is None or current < reserve):
            if amount < reserve:
                price = amount
            else:
                shown = self._increments.rung_at_or_above(reserve) if self.spec.grid else reserve
                price = max(price, shown)
        return price, leads, True

    def _soft_close(self, now: int, ends_at: int) -> int:
        """The deadline after a price-moving bid at `now`; never earlier than `ends_at`."""
        soft = self.spec.soft_close
        if soft is None or ends_at - now > soft.window_ms:
            return ends_at
        if soft.mode is SoftCloseMode.ADD:
            return ends_at + soft.extend_ms
        return max(ends_at, now + soft.extend_ms)

    # -- state ----------------------------------------------------------------------

    def apply(self, event: LotEvent) -> None:
        """Fold an event that happened. Raises BrokenLedger where the table forbids it."""
        match event:
            case LotCreated():
                raise BrokenLedger("lot.created twice")
            case LotOpened():
                self._enter(LotState.OPEN, "start")
                self.opened_at, self.ends_at = event.at, event.ends_at
            case BidTaken():
                self._enter(LotState.SOLD if event.sold else LotState.OPEN, "bid")
                self._take(event)
            case LotHammered():
                state = LotState.UNSOLD if event.winner is None else LotState.SOLD
                self._enter(state, "hammer")
                self.winner = event.winner
            case LotCancelled():
                self._enter(LotState.CANCELLED, "cancel")
            case _:
                assert_never(event)
        self.last_at = event.at
        self.version += 1

    def _enter(self, state: LotState, command: str) -> None:
        if state not in TRANSITIONS[self.state].get(command, ()):
            raise BrokenLedger(f"{command} cannot lead from {self.state} to {state}")
        self.state = state

    def _take(self, bid: BidTaken) -> None:
        if bid.leader == bid.identity:
            self._leader_max = bid.amount
        self.seq, self.price, self.ends_at = bid.seq, bid.price, bid.ends_at
        self.leader, self.leader_name = bid.leader, bid.leader_name
        if bid.kind is BidKind.MAX:
            self._hidden[bid.identity] = bid.amount
        else:
            self._hidden.pop(bid.identity, None)
        self._receipts[_receipt_key(bid.identity, bid.key)] = Receipt(
            bid.kind, bid.amount, bid.seq, bid.price, bid.leader, bid.ends_at, self.version + 1
        )
        if bid.moved:
            shown = ShownBid(bid.seq, bid.price, bid.leader, bid.leader_name, bid.at, bid.auto)
            self._shown.appendleft(shown)
        if bid.sold:
            self.winner = bid.leader

    @property
    def minimum(self) -> int:
        """The least amount that a challenger may bid now."""
        return self.spec.start_price if self.price is None else self._minimum_above(self.price)

    def _minimum_above(self, price: int) -> int:
        """As `minimum`, at `price`. The buy-now price may always be bid."""
        least = price + self._increments.step(price)
        buy_now = self.spec.buy_now
        return least if buy_now is None else min(least, buy_now)

    def next_deadline(self) -> int | None:
        """When `handle_timer` must be called, or None."""
        return self.ends_at if self.state is LotState.OPEN else None

    @property
    def is_over(self) -> bool:
        """No command can change this lot any more."""
        return not TRANSITIONS[self.state]

    def hidden_max(self, identity: str) -> int | None:
        """The newest maximum that this person gave by `bid.max`, for their eyes only."""
        return self._hidden.get(identity)

    def snapshot(self, identity: str | None = None) -> LotSnapshot:
        """The whole state for a late-comer; `identity` adds that person's own maximum."""
        spec = self.spec
        if spec.reserve is None:
            reserve = "none"
        else:
            is_met = self.price is not None and self.price >= spec.reserve
            reserve = "met" if is_met else "unmet"
        return LotSnapshot(
            lot=self.id,
            title=spec.title,
            format=spec.format,
            state=self.state,
            currency=spec.currency,
            start_price=spec.start_price,
            increment=spec.increment,
            grid=spec.grid,
            reserve=reserve,
            buy_now=spec.buy_now,
            duration_ms=spec.duration_ms,
            soft_close=spec.soft_close,
            owner=self.owner,
            created_at=self.created_at,
            opened_at=self.opened_at,
            ends_at=self.ends_at,
            seq=self.seq,
            price=self.price,
            leader=self.leader,
            leader_name=self.leader_name,
            minimum=self.minimum,
            winner=self.winner,
            bids=list(self._shown),
            my_max=None if identity is None else self._hidden.get(identity),
        )

    def stats(self) -> dict[str, int]:
        """Counters for `/metrics` and for sizing the cache of lots."""
        return {"version": self.version, "bids_shown": self.seq, "keys": len(self._receipts)}


def _receipt_key(identity: str, key: str) -> str:
    """One string for both: an identity has no white space, so no two pairs meet."""
    return f"{identity} {key}"
