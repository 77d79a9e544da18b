"""The price rule, sentence by sentence, and a lot's life."""

from __future__ import annotations

import pytest

from interact.auction import TRANSITIONS, BrokenLedger, Lot, Refusal
from interact.increments import MAX_AMOUNT
from interact.lot_events import (
    BidKind,
    LotCancelled,
    LotHammered,
    LotOpened,
    LotState,
    SoftClose,
    SoftCloseMode,
)
from interact.protocol import Reason
from tests.support.lots import (
    OPENED_AT,
    bid,
    created_lot,
    open_lot,
    place,
    proxy,
    receipt_of,
    refusal,
    replayed,
)

OPEN, MAX = BidKind.OPEN, BidKind.MAX
STEPPED = [(0, 100), (2_000, 250)]


# -- "The least next bid is start_price before any bid, else price + step(price)" -------


def test_first_minimum_is_the_start_price() -> None:
    lot = open_lot()
    assert lot.minimum == 1_000
    assert refusal(lot, "a", OPEN, 999) == (Reason.TOO_LOW, 1_000)
    assert place(lot, "a", 1_000).price == 1_000


@pytest.mark.parametrize(("price", "minimum"), [(1_000, 1_100), (1_950, 2_050), (2_000, 2_250)])
def test_minimum_is_the_price_and_the_step_in_force_at_it(price: int, minimum: int) -> None:
    lot = open_lot(increment=STEPPED)
    place(lot, "a", price)
    assert lot.minimum == lot.snapshot().minimum == minimum
    assert refusal(lot, "b", OPEN, minimum - 1) == (Reason.TOO_LOW, minimum)
    assert refusal(lot, "b", MAX, minimum - 1) == (Reason.TOO_LOW, minimum)
    assert place(lot, "b", minimum).leader == "b"


# -- "An open bid is a maximum that shows itself whole; a first bid.max shows start_price"


def test_open_bid_shows_itself_whole() -> None:
    event = place(open_lot(), "a", 5_000)
    assert (event.seq, event.price, event.leader, event.auto) == (1, 5_000, "a", False)


def test_first_maximum_shows_the_start_price() -> None:
    lot = open_lot()
    event = proxy(lot, "a", 5_000)
    assert (event.seq, event.price, event.leader, event.auto) == (1, 1_000, "a", True)
    assert lot.snapshot("a").my_max == 5_000
    assert lot.snapshot("b").my_max is None
    assert lot.snapshot().my_max is None


# -- "When a challenger with maximum c meets a leader with maximum l" --------------------


@pytest.mark.parametrize(
    ("leader_max", "kind", "challenge", "price", "leader", "auto"),
    [
        # c > l, hidden: one step above l, at c where a whole step does not fit.
        (3_000, MAX, 5_000, 3_250, "b", True),
        (3_000, MAX, 3_250, 3_250, "b", True),
        (3_000, MAX, 3_100, 3_100, "b", True),
        (3_000, MAX, 3_001, 3_001, "b", True),
        (1_900, MAX, 5_000, 2_000, "b", True),
        # c > l, open: at c.
        (3_000, OPEN, 5_000, 5_000, "b", False),
        (3_000, OPEN, 3_001, 3_001, "b", False),
        # c < l: the leader stays at one step above c, at l where it does not fit.
        (3_000, OPEN, 1_500, 1_600, "a", True),
        (3_000, MAX, 1_500, 1_600, "a", True),
        (3_000, MAX, 2_000, 2_250, "a", True),
        (3_000, OPEN, 2_900, 3_000, "a", True),
        (3_000, MAX, 2_999, 3_000, "a", True),
        # Equal: the earlier leads at that amount.
        (3_000, OPEN, 3_000, 3_000, "a", True),
        (3_000, MAX, 3_000, 3_000, "a", True),
    ],
)
def test_challenger_meets_hidden_maximum(
    leader_max: int, kind: BidKind, challenge: int, price: int, leader: str, auto: bool
) -> None:
    lot = open_lot(increment=STEPPED)
    proxy(lot, "a", leader_max)
    event = bid(lot, "b", kind, challenge)
    assert (event.seq, event.price, event.leader, event.auto) == (2, price, leader, auto)
    assert event.outbid == ("a" if leader == "b" else None)
    assert (lot.price, lot.leader, lot.minimum) == (price, leader, event.minimum)


@pytest.mark.parametrize(
    ("kind", "challenge", "price"),
    [(MAX, 5_000, 3_250), (MAX, 3_250, 3_250), (OPEN, 5_000, 5_000), (OPEN, 3_250, 3_250)],
)
def test_challenger_meets_open_bid(kind: BidKind, challenge: int, price: int) -> None:
    lot = open_lot(increment=STEPPED)
    place(lot, "a", 3_000)
    event = bid(lot, "b", kind, challenge)
    assert (event.price, event.leader, event.outbid) == (price, "b", "a")


def test_winner_of_a_duel_keeps_the_rest_of_the_maximum() -> None:
    lot = open_lot()
    proxy(lot, "a", 2_000)
    assert proxy(lot, "b", 5_000).price == 2_100
    assert (place(lot, "c", 4_000).price, lot.leader) == (4_100, "b")
    assert (place(lot, "c", 4_950).price, lot.leader) == (5_000, "b")
    assert (place(lot, "c", 5_100).price, lot.leader) == (5_100, "c")


def test_three_equal_maxima_the_earliest_leads() -> None:
    lot = open_lot()
    proxy(lot, "a", 3_000)
    proxy(lot, "b", 3_000)
    assert (lot.price, lot.leader) == (3_000, "a")
    assert refusal(lot, "c", MAX, 3_000) == (Reason.TOO_LOW, 3_100)


# -- "A leader may raise the own maximum at any time without moving the price" -----------


def test_leader_raises_the_maximum_in_silence() -> None:
    lot = open_lot()
    proxy(lot, "a", 3_000)
    event = proxy(lot, "a", 9_000)
    assert (event.moved, event.seq, event.price, event.leader) == (False, 1, 1_000, "a")
    assert lot.snapshot("a").my_max == 9_000
    assert len(lot.snapshot().bids) == 1
    assert place(lot, "b", 8_000).price == 8_100


def test_leader_by_open_bid_puts_a_maximum_behind_it() -> None:
    lot = open_lot()
    place(lot, "a", 3_000)
    assert proxy(lot, "a", 3_001).moved is False
    assert (place(lot, "b", 3_100).price, lot.leader) == (3_100, "b")
    assert proxy(lot, "b", 4_000).moved is False
    assert (place(lot, "a", 3_200).price, lot.leader) == (3_300, "b")


@pytest.mark.parametrize("amount", [1, 1_000, 2_999, 3_000])
def test_leader_cannot_lower_or_repeat_the_maximum(amount: int) -> None:
    lot = open_lot()
    proxy(lot, "a", 3_000)
    assert refusal(lot, "a", MAX, amount) == (Reason.TOO_LOW, 3_001)


def test_leaders_own_open_bid_is_refused() -> None:
    lot = open_lot()
    place(lot, "a", 1_000)
    assert refusal(lot, "a", OPEN, 2_000) == (Reason.OWN_LEAD, None)


def test_someone_outbid_may_bid_again() -> None:
    lot = open_lot()
    place(lot, "a", 1_000)
    place(lot, "b", 1_100)
    assert place(lot, "a", 1_200).leader == "a"


# -- "Any whole amount from the minimum up is allowed unless the lot asks for the grid" --


@pytest.mark.parametrize("amount", [1_101, 1_199, 12_345])
def test_any_amount_from_the_minimum_up_is_allowed(amount: int) -> None:
    lot = open_lot()
    place(lot, "a", 1_000)
    assert place(lot, "b", amount).price == amount


def test_grid_lot_takes_rungs_only() -> None:
    lot = open_lot(grid=True, increment=STEPPED, start_price=1_950)
    assert refusal(lot, "a", OPEN, 2_000) == (Reason.BAD_REQUEST, 2_050)
    place(lot, "a", 2_050)
    assert refusal(lot, "b", MAX, 2_400) == (Reason.BAD_REQUEST, 2_550)
    assert refusal(lot, "b", MAX, 2_299) == (Reason.TOO_LOW, 2_300)
    assert place(lot, "b", 2_300).leader == "b"


def test_prices_of_a_grid_lot_stay_on_the_grid() -> None:
    lot = open_lot(grid=True, reserve=3_050)
    proxy(lot, "a", 4_000)
    assert lot.price == 3_100  # the reserve lies between two rungs
    assert lot.snapshot().reserve == "met"


# -- "A bid.max at or above an unmet reserve shows at least the reserve" -----------------


@pytest.mark.parametrize(
    ("amount", "price", "reserve"),
    [
        (1_000, 1_000, "unmet"),
        (2_999, 2_999, "unmet"),  # below it, the whole maximum
        (3_000, 3_000, "met"),
        (9_000, 3_000, "met"),
    ],
)
def test_first_maximum_under_a_reserve(amount: int, price: int, reserve: str) -> None:
    lot = open_lot(reserve=3_000)
    assert lot.snapshot().reserve == "unmet"
    assert proxy(lot, "a", amount).price == price
    assert lot.snapshot().reserve == reserve


@pytest.mark.parametrize(
    ("amount", "price"), [(2_500, 2_500), (2_999, 2_999), (3_000, 3_000), (9_000, 3_000)]
)
def test_challenging_maximum_under_an_unmet_reserve(amount: int, price: int) -> None:
    lot = open_lot(reserve=3_000)
    place(lot, "a", 1_500)
    event = proxy(lot, "b", amount)
    assert (event.price, event.leader, event.auto) == (price, "b", True)


def test_one_step_above_the_leader_may_lie_above_the_reserve() -> None:
    lot = open_lot(reserve=3_000)
    place(lot, "a", 2_950)
    assert proxy(lot, "b", 9_000).price == 3_050


def test_open_bid_under_a_reserve_shows_itself() -> None:
    lot = open_lot(reserve=3_000)
    assert place(lot, "a", 2_000).price == 2_000
    assert lot.snapshot().reserve == "unmet"
    assert place(lot, "b", 3_500).price == 3_500
    assert lot.snapshot().reserve == "met"


@pytest.mark.parametrize(("raise_to", "price"), [(2_500, 2_500), (3_000, 3_000), (8_000, 3_000)])
def test_leader_raising_under_an_unmet_reserve_moves_the_price(raise_to: int, price: int) -> None:
    lot = open_lot(reserve=3_000)
    proxy(lot, "a", 2_000)
    event = proxy(lot, "a", raise_to)
    assert (event.moved, event.seq, event.price, event.outbid) == (True, 2, price, None)


def test_met_reserve_moves_nothing_any_more() -> None:
    lot = open_lot(reserve=3_000)
    proxy(lot, "a", 5_000)
    assert proxy(lot, "a", 9_000).moved is False
    assert place(lot, "b", 4_000).price == 4_100


# -- buy now ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [OPEN, MAX])
@pytest.mark.parametrize("amount", [10_000, 10_001, MAX_AMOUNT])
def test_bid_at_buy_now_ends_the_lot_at_that_price(kind: BidKind, amount: int) -> None:
    lot = open_lot(buy_now=10_000)
    proxy(lot, "a", 9_999)
    event = bid(lot, "b", kind, amount, at=OPENED_AT + 500)
    assert (event.sold, event.price, event.leader, event.outbid) == (True, 10_000, "b", "a")
    assert (lot.state, lot.winner, lot.ends_at) == (LotState.SOLD, "b", OPENED_AT + 500)
    assert lot.next_deadline() is None
    assert refusal(lot, "c", OPEN, 20_000) == (Reason.NOT_OPEN, None)


def test_first_bid_may_buy_now() -> None:
    lot = open_lot(buy_now=10_000)
    assert place(lot, "a", 10_000).sold
    assert lot.snapshot().price == 10_000


def test_leader_buys_now_by_raising_the_maximum() -> None:
    lot = open_lot(buy_now=10_000)
    proxy(lot, "a", 5_000)
    assert refusal(lot, "a", OPEN, 10_000) == (Reason.OWN_LEAD, None)
    event = proxy(lot, "a", 10_000)
    assert (event.sold, event.moved, event.seq, event.price) == (True, True, 2, 10_000)


def test_buy_now_may_be_bid_where_a_step_would_pass_it() -> None:
    lot = open_lot(buy_now=10_000, grid=True, start_price=950)
    place(lot, "a", 9_950)
    assert lot.minimum == 10_000
    assert refusal(lot, "b", OPEN, 9_999) == (Reason.TOO_LOW, 10_050)
    assert place(lot, "b", 10_000).sold


def test_under_buy_now_the_lot_goes_on() -> None:
    lot = open_lot(buy_now=10_000)
    assert not place(lot, "a", 9_999).sold
    assert lot.state is LotState.OPEN


# -- soft close ---------------------------------------------------------------------------

ENDS = OPENED_AT + 60_000


@pytest.mark.parametrize(
    ("mode", "extend_ms", "at", "ends_at"),
    [
        ("reset", 10_000, ENDS - 10_001, ENDS),  # before the window
        ("reset", 10_000, ENDS - 10_000, ENDS),  # first moment: ten seconds from now is the same
        ("reset", 10_000, ENDS - 9_999, ENDS + 1),
        ("reset", 10_000, ENDS - 1, ENDS + 9_999),
        ("reset", 3_000, ENDS - 5_000, ENDS),  # never shorter
        ("reset", 30_000, ENDS - 5_000, ENDS + 25_000),
        ("add", 10_000, ENDS - 10_001, ENDS),
        ("add", 10_000, ENDS - 10_000, ENDS + 10_000),
        ("add", 10_000, ENDS - 1, ENDS + 10_000),
    ],
)
def test_price_moving_bid_in_the_window_extends(
    mode: str, extend_ms: int, at: int, ends_at: int
) -> None:
    lot = open_lot(soft_close=SoftClose(10_000, extend_ms, SoftCloseMode(mode)))
    event = place(lot, "a", 1_000, at)
    assert (event.ends_at, event.extended) == (ends_at, ends_at != ENDS)
    assert lot.ends_at == lot.next_deadline() == ends_at


def test_every_late_bid_extends_again() -> None:
    lot = open_lot(soft_close=SoftClose(10_000, 10_000, SoftCloseMode.ADD))
    place(lot, "a", 1_000, ENDS - 1)
    place(lot, "b", 1_100, ENDS + 9_999)
    assert lot.ends_at == ENDS + 20_000


def test_losing_challenge_extends_for_it_moves_the_price() -> None:
    lot = open_lot(soft_close=SoftClose(10_000, 10_000, SoftCloseMode.ADD))
    proxy(lot, "a", 5_000)
    assert proxy(lot, "b", 2_000, ENDS - 1).extended


def test_silent_raise_does_not_extend() -> None:
    lot = open_lot(soft_close=SoftClose(10_000, 10_000, SoftCloseMode.ADD))
    proxy(lot, "a", 5_000)
    event = proxy(lot, "a", 9_000, ENDS - 1)
    assert (event.extended, lot.ends_at) == (False, ENDS)


def test_without_soft_close_the_deadline_stands() -> None:
    lot = open_lot()
    assert place(lot, "a", 1_000, ENDS - 1).ends_at == ENDS


# -- a lot's life ---------------------------------------------------------------------------


def test_table_of_transitions_is_whole() -> None:
    assert set(TRANSITIONS) == set(LotState)
    reached = {LotState.CREATED}
    for commands in TRANSITIONS.values():
        for states in commands.values():
            reached |= states
    assert reached == set(LotState)


def test_listed_lot_takes_no_bid() -> None:
    assert refusal(created_lot(), "a", OPEN, 1_000) == (Reason.NOT_OPEN, None)


@pytest.mark.parametrize("at", [ENDS, ENDS + 1])
def test_bid_at_or_after_the_deadline_is_refused_before_the_hammer(at: int) -> None:
    lot = open_lot()
    assert refusal(lot, "a", OPEN, 1_000, at) == (Reason.NOT_OPEN, None)
    assert lot.state is LotState.OPEN


def test_last_millisecond_still_counts() -> None:
    assert place(open_lot(), "a", 1_000, ENDS - 1).seq == 1


def test_owner_may_not_bid() -> None:
    assert refusal(open_lot(), "host", OPEN, 1_000) == (Reason.OWN_LOT, None)
    assert refusal(open_lot(), "host", MAX, 1_000) == (Reason.OWN_LOT, None)


def test_hammer_falls_once_at_the_deadline() -> None:
    lot = open_lot()
    place(lot, "a", 1_000)
    assert lot.handle_timer(ENDS - 1) is None
    event = lot.handle_timer(ENDS)
    assert event == LotHammered(at=ENDS, price=1_000, winner="a", winner_name="A")
    lot.apply(event)
    assert (lot.state, lot.winner, lot.is_over) == (LotState.SOLD, "a", True)
    assert lot.handle_timer(ENDS + 1) is None
    with pytest.raises(BrokenLedger):
        lot.apply(event)


def test_no_bid_is_unsold() -> None:
    assert open_lot().handle_timer(ENDS) == LotHammered(ENDS, None, None, None)


def test_unmet_reserve_is_unsold() -> None:
    lot = open_lot(reserve=3_000)
    place(lot, "a", 2_999)
    event = lot.handle_timer(ENDS)
    assert event == LotHammered(ENDS, None, None, None)
    lot.apply(event)
    assert (lot.state, lot.winner) == (LotState.UNSOLD, None)


@pytest.mark.parametrize("lot", [created_lot(), open_lot()])
def test_lot_may_be_cancelled_before_the_hammer(lot: Lot) -> None:
    event = lot.cancel(OPENED_AT + 1, "host", "broken in transit")
    assert event == LotCancelled(OPENED_AT + 1, "host", "broken in transit")
    lot.apply(event)
    assert lot.is_over
    assert refusal(lot, "a", OPEN, 1_000) == (Reason.NOT_OPEN, None)


def test_lot_cannot_be_cancelled_once_its_time_is_up() -> None:
    outcome = open_lot().cancel(ENDS, "host", "second thoughts")
    assert isinstance(outcome, Refusal)
    assert outcome.reason is Reason.BAD_STATE


def test_lot_starts_once() -> None:
    lot = created_lot()
    event = lot.start(OPENED_AT + 7, "host")
    assert event == LotOpened(OPENED_AT + 7, "host", OPENED_AT + 60_007)
    lot.apply(event)
    again = lot.start(OPENED_AT + 8, "host")
    assert isinstance(again, Refusal)
    assert again.reason is Reason.BAD_STATE


def test_time_never_runs_backwards() -> None:
    lot = open_lot()
    place(lot, "a", 1_000, OPENED_AT + 500)
    assert place(lot, "b", 1_100, OPENED_AT + 100).at == OPENED_AT + 500


def test_snapshot_shows_the_newest_twenty_bids() -> None:
    lot = open_lot()
    for number in range(30):
        place(lot, f"b{number % 2}", 1_000 + 100 * number)
    bids = lot.snapshot().bids
    assert [shown.seq for shown in bids] == list(range(30, 10, -1))
    assert bids[0].price == lot.price


# -- keys -------------------------------------------------------------------------------------


def test_same_key_and_body_is_answered_alike_for_ever() -> None:
    lot = open_lot()
    first = bid(lot, "a", MAX, 5_000, key="k")
    for number in range(5):
        place(lot, "b", 1_100 + 200 * number)
    hammer = lot.handle_timer(ENDS)
    assert hammer is not None
    lot.apply(hammer)
    assert replayed(lot.earlier("a", "k", MAX, 5_000)) == receipt_of(first)


@pytest.mark.parametrize(("kind", "amount"), [(MAX, 5_001), (OPEN, 5_000)])
def test_same_key_with_another_body_is_refused(kind: BidKind, amount: int) -> None:
    lot = open_lot()
    bid(lot, "a", MAX, 5_000, key="k")
    outcome = lot.earlier("a", "k", kind, amount)
    assert isinstance(outcome, Refusal)
    assert outcome.reason is Reason.BAD_KEY


def test_keys_belong_to_one_identity() -> None:
    lot = open_lot()
    bid(lot, "a", OPEN, 1_000, key="k")
    assert lot.earlier("b", "k", OPEN, 1_000) is None


# -- folding -----------------------------------------------------------------------------------


def test_ledger_must_begin_with_creation() -> None:
    with pytest.raises(BrokenLedger):
        Lot.fold([])
    with pytest.raises(BrokenLedger):
        Lot.fold([LotOpened(1, "host", 2)])


def test_ledger_cannot_open_twice() -> None:
    lot = open_lot()
    with pytest.raises(BrokenLedger):
        lot.apply(LotOpened(OPENED_AT, "host", ENDS))
