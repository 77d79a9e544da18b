"""The lot against a naive model that recomputes everything from the list of all offers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from interact.auction import Receipt, Refusal
from interact.increments import Increments
from interact.ledger_checks import broken_invariants
from interact.lot_events import (
    BidKind,
    BidTaken,
    LotEvent,
    LotState,
    SoftClose,
    SoftCloseMode,
    decode_event,
    encode_event,
)
from interact.protocol import Reason
from tests.support.lots import OPENED_AT, created_lot

PEOPLE = st.sampled_from(["a", "b", "c", "d", "host"])
KINDS = st.sampled_from(list(BidKind))
TABLE = [(0, 5), (130, 10), (200, 25)]


class NaiveLot:
    """The price rule in the words of an auctioneer: highest offer leads, earliest of equals,
    one step above the best offer of anybody else."""

    def __init__(self, increments: Increments, reserve: int | None) -> None:
        self.offers: list[tuple[str, BidKind, int]] = []
        self.prices: list[int] = []
        self._increments = increments
        self._reserve = reserve

    def leading(self) -> tuple[str, BidKind, int] | None:
        best = None
        for offer in self.offers:
            if best is None or offer[2] > best[2]:
                best = offer
        return best

    def minimum(self) -> int:
        if not self.prices:
            return 100
        return self.prices[-1] + self._increments.step(self.prices[-1])

    def take(self, identity: str, kind: BidKind, amount: int) -> None:
        before = self.leading()
        self.offers.append((identity, kind, amount))
        leader = self.leading()
        assert leader is not None
        others = [offer[2] for offer in self.offers if offer[0] != leader[0]]
        is_raise = before is not None and before[0] == identity
        if is_raise:
            price = self.prices[-1]
        elif leader[1] is BidKind.OPEN and leader[0] == identity:
            price = amount
        elif others:
            price = min(leader[2], max(others) + self._increments.step(max(others)))
        else:
            price = 100
        is_unmet = self._reserve is not None and (
            not self.prices or self.prices[-1] < self._reserve
        )
        if is_unmet and leader[0] == identity and kind is BidKind.MAX:
            assert self._reserve is not None
            price = amount if amount < self._reserve else max(price, self._reserve)
        if not self.prices or price != self.prices[-1]:
            self.prices.append(price)


class LotMachine(RuleBasedStateMachine):
    """Random people bid, repeat themselves and let time pass."""

    @initialize(
        increment=st.sampled_from([7, TABLE]),
        reserve=st.sampled_from([None, None, 100, 150, 222]),
        soft=st.sampled_from(
            [
                None,
                SoftClose(100, 150, SoftCloseMode.RESET),
                SoftClose(100, 40, SoftCloseMode.ADD),
            ]
        ),
        starts_at_once=st.sampled_from([True, True, True, False]),
    )
    def list_lot(
        self,
        increment: object,
        reserve: int | None,
        soft: SoftClose | None,
        starts_at_once: bool,
    ) -> None:
        self.lot = created_lot(
            start_price=100,
            increment=increment,
            reserve=reserve,
            soft_close=soft,
            duration_ms=1_000,
        )
        self.soft = soft
        self.reserve = reserve
        self.model = NaiveLot(Increments(self.lot.spec.increment, 100), reserve)
        self.now = OPENED_AT
        self.deadline: int | None = None
        self.hammers = 0
        self.key = 0
        self.replies: dict[tuple[str, str], tuple[BidKind, int, BidTaken]] = {}
        self.events: list[LotEvent] = []
        if starts_at_once:
            self.start()

    def happen(self, event: LotEvent) -> None:
        """Through the ledger's encoding, as in the server."""
        self.lot.apply(event)
        self.events.append(decode_event(encode_event(event)))

    @rule()
    def start(self) -> None:
        event = self.lot.start(self.now, "host")
        if self.deadline is not None or self.lot.is_over:
            assert isinstance(event, Refusal)
            return
        assert not isinstance(event, Refusal)
        self.deadline = self.now + 1_000
        self.happen(event)

    @rule(passed_ms=st.integers(0, 120))
    def pass_time(self, passed_ms: int) -> None:
        self.now += passed_ms

    @rule(left_ms=st.integers(-1, 101))
    def pass_time_to_the_end(self, left_ms: int) -> None:
        if self.deadline is not None:
            self.now = max(self.now, self.deadline - left_ms)

    @rule()
    def hammer(self) -> None:
        is_due = self.lot.state is LotState.OPEN and self.now >= (self.deadline or 0)
        event = self.lot.handle_timer(self.now)
        assert (event is not None) == is_due
        if event is not None:
            self.hammers += 1
            leading, is_met = self.model.leading(), True
            if self.reserve is not None:
                is_met = bool(self.model.prices) and self.model.prices[-1] >= self.reserve
            expected = leading[0] if leading is not None and is_met else None
            assert event.winner == expected
            self.happen(event)

    @rule(identity=PEOPLE, kind=KINDS, above=st.integers(-12, 60), is_duel=st.booleans())
    def bid(self, identity: str, kind: BidKind, above: int, is_duel: bool) -> None:
        """Around the least bid, or (a duel) around the hidden maximum that leads."""
        leading = self.model.leading()
        least = self.model.minimum()
        if leading is not None and leading[0] == identity and kind is BidKind.MAX:
            least = leading[2] + 1
        around = leading[2] if is_duel and leading is not None else least
        amount = max(1, around + above)
        self.key += 1
        key = str(self.key)
        outcome = self.lot.bid(self.now, identity, identity, kind, amount, key)
        refused = self.expected_refusal(identity, kind, amount, least)
        if refused is not None:
            assert isinstance(outcome, Refusal)
            assert outcome.reason is refused
            if refused is Reason.TOO_LOW:
                assert outcome.minimum == least
            return
        assert isinstance(outcome, BidTaken)
        before = len(self.model.prices)
        self.model.take(identity, kind, amount)
        moved = len(self.model.prices) > before
        assert outcome.moved == moved
        assert outcome.price == self.model.prices[-1]
        leader = self.model.leading()
        assert leader is not None
        assert outcome.leader == leader[0]
        assert self.deadline is not None
        if moved and self.soft is not None and self.deadline - self.now <= self.soft.window_ms:
            if self.soft.mode is SoftCloseMode.ADD:
                self.deadline += self.soft.extend_ms
            else:
                self.deadline = max(self.deadline, self.now + self.soft.extend_ms)
        assert outcome.ends_at == self.deadline
        self.replies[identity, key] = (kind, amount, outcome)
        self.happen(outcome)

    def expected_refusal(
        self, identity: str, kind: BidKind, amount: int, least: int
    ) -> Reason | None:
        if self.lot.state is not LotState.OPEN or self.now >= (self.deadline or 0):
            return Reason.NOT_OPEN
        if identity == "host":
            return Reason.OWN_LOT
        leading = self.model.leading()
        if leading is not None and leading[0] == identity and kind is BidKind.OPEN:
            return Reason.OWN_LEAD
        return Reason.TOO_LOW if amount < least else None

    @rule(data=st.data())
    def repeat_key(self, data: st.DataObject) -> None:
        if not self.replies:
            return
        (identity, key), (kind, amount, event) = data.draw(
            st.sampled_from(sorted(self.replies.items(), key=lambda item: item[0]))
        )
        same = self.lot.earlier(identity, key, kind, amount)
        assert isinstance(same, Receipt)
        assert (same.seq, same.price, same.leader, same.ends_at) == (
            event.seq,
            event.price,
            event.leader,
            event.ends_at,
        )
        other = self.lot.earlier(identity, key, kind, amount + 1)
        assert isinstance(other, Refusal)
        assert other.reason is Reason.BAD_KEY

    @rule()
    def cancel(self) -> None:
        if len(self.events) < 15:
            return  # late enough that most runs see bids
        event = self.lot.cancel(self.now, "host", "withdrawn")
        if not isinstance(event, Refusal):
            self.happen(event)

    @rule()
    def restart(self) -> None:
        """A restart folds the stored events and is at the same place."""
        folded = created_lot(
            start_price=100,
            increment=self.lot.spec.increment,
            reserve=self.reserve,
            soft_close=self.soft,
            duration_ms=1_000,
        )
        for event in self.events:
            folded.apply(event)
        for person in (None, "a", "b", "c", "d"):
            assert folded.snapshot(person) == self.lot.snapshot(person)
        assert folded.next_deadline() == self.lot.next_deadline()
        self.lot = folded

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "lot"):
            return
        assert list(broken_invariants(self.events)) == []
        assert all(before < after for before, after in pairwise(self.model.prices))
        assert self.lot.seq == len(self.model.prices)
        assert self.lot.price == (self.model.prices[-1] if self.model.prices else None)
        assert self.hammers <= 1


LotMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestLot = LotMachine.TestCase
