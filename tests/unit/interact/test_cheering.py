"""Cheers: what counts and what is bounded."""

from __future__ import annotations

import pytest

from interact.cheering import MAX_KINDS, MAX_TEAMS, TAPS_PER_S, Cheers, counter_name
from interact.protocol import Reason, Refused


def test_taps_count_by_kind_and_team() -> None:
    cheers = Cheers()
    assert cheers.tap(0, "a", "heart", 3, "red") == 3
    assert cheers.tap(0, "b", "heart", 2, None) == 2
    assert cheers.tap(0, "b", "star", 1, "blue") == 1
    assert cheers.by_kind == {"heart": 5, "star": 1}
    assert cheers.by_team == {"red": {"heart": 3}, "blue": {"star": 1}}


def test_taps_over_the_cap_are_dropped_not_refused() -> None:
    cheers = Cheers()
    assert cheers.tap(0, "a", "heart", TAPS_PER_S + 5, None) == TAPS_PER_S
    assert cheers.tap(0, "a", "heart", 1, None) == 0
    assert cheers.tap(1_000, "a", "heart", 1, None) == 1
    assert (cheers.by_kind, cheers.dropped) == ({"heart": TAPS_PER_S + 1}, 6)


def test_dropped_taps_name_no_kind() -> None:
    cheers = Cheers()
    cheers.tap(0, "a", "heart", TAPS_PER_S, None)
    assert cheers.tap(0, "a", "never", 1, "none") == 0
    assert "never" not in cheers.by_kind
    assert cheers.by_team == {}


def test_kinds_and_teams_of_a_room_are_bounded() -> None:
    cheers = Cheers()
    for number in range(max(MAX_KINDS, MAX_TEAMS)):
        cheers.tap(0, f"p{number}", f"k{number}", 1, f"t{number}")
    for kind, team in (("one-more", None), ("k0", "one-more")):
        with pytest.raises(Refused) as caught:
            cheers.tap(0, "late", kind, 1, team)
        assert caught.value.reason is Reason.BAD_REQUEST
    assert cheers.tap(0, "late", "k0", 1, "t0") == 1


def test_totals_of_all_workers_never_go_back() -> None:
    cheers = Cheers()
    cheers.tap(0, "ann", "heart", 5, "red")
    cheers.hear({"heart": 3, counter_name("wow"): 2, counter_name("heart", "red"): 9})
    assert cheers.by_kind == {"heart": 5, "wow": 2}
    assert cheers.by_team == {"red": {"heart": 9}}
    cheers.hear({"heart": 11})
    assert cheers.by_kind["heart"] == 11
