"""Joining history with what was published meanwhile."""

from __future__ import annotations

from interact.engine import HistoryPage, Position, Publication
from interact.recovery import merge


def pubs(*offsets: int) -> tuple[Publication, ...]:
    return tuple(Publication("room:r", n, b"%d" % n) for n in offsets)


def page(newest: int, *offsets: int, recovered: bool = True, epoch: str = "e") -> HistoryPage:
    return HistoryPage(Position(epoch, newest), pubs(*offsets), recovered)


def test_without_recovery_starts_at_the_newest() -> None:
    joined = merge(None, page(7), [])
    assert joined is not None
    assert (joined.offset, joined.top, joined.epoch) == (7, 7, "e")
    assert not joined.was_recovering
    assert not joined.recovered


def test_live_ones_that_history_has_are_dropped_and_later_ones_follow() -> None:
    joined = merge(None, page(7), pubs(6, 7, 8, 9))
    assert joined is not None
    assert joined.follow == pubs(8, 9)
    assert joined.top == 9
    assert joined.offset == 7


def test_recovery_replies_with_the_client_s_own_offset_and_what_it_missed() -> None:
    joined = merge(Position("e", 4), page(7, 5, 6, 7), pubs(7, 8))
    assert joined is not None
    assert joined.recovered
    assert joined.offset == 4
    assert joined.publications == pubs(5, 6, 7)
    assert joined.follow == pubs(8)


def test_nothing_missed_is_recovered() -> None:
    joined = merge(Position("e", 7), page(7), [])
    assert joined is not None
    assert joined.recovered
    assert joined.publications == ()


def test_wrong_epoch_gap_future_and_cut_page_are_not_recovered() -> None:
    for since, found in [
        (Position("other", 4), page(7, 5, 6, 7)),
        (Position("e", 4), page(7, recovered=False)),
        (Position("e", 9), page(7)),
        (Position("e", 4), page(7, 5, 6)),
        (Position("e", 4), page(7, 5, 7, 8)),
    ]:
        joined = merge(since, found, pubs(8))
        assert joined is not None
        assert joined.was_recovering
        assert not joined.recovered
        assert joined.publications == ()
        assert (joined.offset, joined.follow, joined.top) == (7, pubs(8), 8)


def test_hole_between_history_and_live_must_be_read_again() -> None:
    assert merge(None, page(7), pubs(9)) is None
    assert merge(Position("e", 7), page(7), pubs(8, 10)) is None
