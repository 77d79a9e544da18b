"""The layer choice: situations as tables and sequences, and its rules for any history."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.layers import (
    FAIL_S,
    HOLD_OFF_MAX_S,
    HOLD_OFF_S,
    PROBE_S,
    THIN_AFTER_S,
    UNWANTED_S,
    UP_HOLD_S,
    LayerChooser,
    LayerOffer,
    Want,
    WantedLayers,
    wanted_layers,
)

LOW = LayerOffer(1, 180, 150_000, 0.0)
MIDDLE = LayerOffer(2, 360, 500_000, 0.0)
HIGH = LayerOffer(3, 720, 1_700_000, 0.0)
ALL = (LOW, MIDDLE, HIGH)


def stopped(offer: LayerOffer) -> LayerOffer:
    return offer._replace(silent_s=5.0)


@pytest.mark.parametrize(
    ("estimate", "cap", "offers", "target"),
    [
        (5_000_000, None, ALL, 3),
        (1_700_000, None, ALL, 3),
        (1_600_000, None, ALL, 2),
        (499_999, None, ALL, 1),
        (10, None, ALL, 1),
        (5_000_000, 360, ALL, 2),
        (5_000_000, 500, ALL, 2),
        (5_000_000, 179, ALL, 1),
        (5_000_000, None, (HIGH, LOW), 3),
        (5_000_000, None, (LOW, MIDDLE, stopped(HIGH)), 2),
        (5_000_000, 180, (stopped(LOW), MIDDLE, HIGH), 2),
        (5_000_000, None, (stopped(LOW), stopped(MIDDLE), stopped(HIGH)), 3),
        (5_000_000, None, (LOW,), 1),
        (5_000_000, None, (), None),
    ],
)
def test_first_choice(
    estimate: float, cap: int | None, offers: Sequence[LayerOffer], target: int | None
) -> None:
    chooser = LayerChooser()
    chooser.max_allowed = cap
    assert chooser.choose(offers, estimate, 0.0).target == target


def test_down_at_once_and_up_only_after_a_while() -> None:
    chooser = LayerChooser()
    assert chooser.choose(ALL, 5e6, 0.0).target == 3
    assert chooser.choose(ALL, 600_000, 0.1).target == 2
    assert chooser.choose(ALL, 5e6, 0.2).target == 2
    assert chooser.choose(ALL, 5e6, UP_HOLD_S).target == 2
    assert chooser.choose(ALL, 5e6, 0.1 + UP_HOLD_S).target == 3


def test_a_fall_leaves_room_to_drain() -> None:
    chooser = LayerChooser()
    chooser.choose(ALL, 5e6, 0.0)
    assert chooser.choose(ALL, 550_000, 0.1).target == 1


def test_a_guess_is_no_reason_to_go_down() -> None:
    chooser = LayerChooser()
    assert chooser.choose(ALL, 5e6, 0.0, is_known=False).target == 3
    richer = (LOW, MIDDLE, HIGH._replace(bitrate_bps=8e6))
    assert chooser.choose(richer, 5e6, 1.0, is_known=False).target == 3
    assert chooser.choose(richer, 5e6, 1.1, is_known=True).target == 2


def test_up_one_layer_at_a_time() -> None:
    chooser = LayerChooser()
    chooser.choose(ALL, 200_000, 0.0)
    seen = [chooser.choose(ALL, 5e6, i / 10).target for i in range(60)]
    assert seen[0] == 1 and 2 in seen and seen[-1] == 3
    assert seen == sorted(seen, key=lambda n: n or 0)


def test_no_climb_without_room_to_spare() -> None:
    chooser = LayerChooser()
    chooser.choose(ALL, 200_000, 0.0)
    for i in range(1, 40):
        assert chooser.choose(ALL, 510_000, i / 10, can_probe=False).target == 1


def test_a_cap_is_followed_at_once_both_ways() -> None:
    chooser = LayerChooser()
    chooser.choose(ALL, 5e6, 0.0)
    chooser.max_allowed = 180
    assert chooser.choose(ALL, 5e6, 10.0).target == 1
    chooser.max_allowed = None
    chooser.forget_wait()
    assert chooser.choose(ALL, 5e6, 10.1).target == 2


def test_a_layer_that_stopped_is_left_at_once_though_it_fits() -> None:
    chooser = LayerChooser()
    chooser.choose(ALL, 5e6, 0.0)
    assert chooser.choose((LOW, MIDDLE, stopped(HIGH)), 5e6, 0.3).target == 2


def test_probing_asks_for_padding_up_to_the_next_layer_and_gives_up() -> None:
    chooser = LayerChooser()
    chooser.choose(ALL, 200_000, 0.0)
    assert chooser.choose(ALL, 200_000, 1.0).probe_bps == 0
    assert chooser.choose(ALL, 200_000, UP_HOLD_S).probe_bps > MIDDLE.bitrate_bps
    assert chooser.choose(ALL, 200_000, UP_HOLD_S + PROBE_S).probe_bps > 0
    assert chooser.choose(ALL, 200_000, UP_HOLD_S + PROBE_S + 0.1).probe_bps == 0
    assert chooser.failures == 1
    assert chooser.choose(ALL, 200_000, UP_HOLD_S + PROBE_S + HOLD_OFF_S).probe_bps == 0
    assert chooser.choose(ALL, 200_000, UP_HOLD_S + PROBE_S + HOLD_OFF_S + 0.2).probe_bps > 0


def test_a_probe_that_brings_the_estimate_up_ends_in_a_climb() -> None:
    chooser = LayerChooser()
    chooser.choose(ALL, 200_000, 0.0)
    assert chooser.choose(ALL, 200_000, 3.0).probe_bps > 0
    choice = chooser.choose(ALL, 620_000, 4.0)
    assert (choice.target, choice.probe_bps) == (2, 0)


def test_failed_climbs_wait_longer_each_time() -> None:
    chooser = LayerChooser()
    chooser.choose(ALL, 200_000, 0.0)
    now, waits = 0.0, []
    for _ in range(7):
        fell = now
        while chooser.target == 1:
            now += 0.1
            chooser.choose(ALL, 600_000, now)
        waits.append(now - fell)
        now += FAIL_S / 2
        assert chooser.choose(ALL, 200_000, now).target == 1
    assert waits[1] == pytest.approx(HOLD_OFF_S, abs=0.2)
    assert waits[2] == pytest.approx(HOLD_OFF_S * 2, abs=0.2)
    assert max(waits) == pytest.approx(HOLD_OFF_MAX_S, abs=0.2)


def test_without_padding_the_climb_is_the_probe() -> None:
    chooser = LayerChooser()
    chooser.choose(ALL, 200_000, 0.0, can_probe=False)
    targets = [chooser.choose(ALL, 200_000, i / 10, can_probe=False) for i in range(1, 100)]
    assert all(choice.probe_bps == 0 for choice in targets)
    assert 2 in [choice.target for choice in targets]


def test_thin_below_the_lowest_layer_and_whole_again_with_room() -> None:
    chooser = LayerChooser()
    assert not chooser.choose(ALL, 100_000, 0.0).is_thin
    assert not chooser.choose(ALL, 80_000, 0.1).is_thin, "it may be a false alarm"
    assert chooser.choose(ALL, 80_000, THIN_AFTER_S).is_thin
    assert chooser.choose(ALL, 140_000, THIN_AFTER_S + 1).is_thin
    assert not chooser.choose(ALL, 150_000, THIN_AFTER_S + 2).is_thin
    assert not chooser.choose(ALL, 30_000, THIN_AFTER_S + 3, is_known=False).is_thin


def test_a_thinned_picture_is_not_probed() -> None:
    chooser = LayerChooser()
    chooser.choose(ALL, 50_000, 0.0)
    assert all(chooser.choose(ALL, 50_000, 2 + i).probe_bps == 0 for i in range(20))


def test_a_paused_layer_that_would_fit_is_a_goal() -> None:
    chooser = LayerChooser()
    paused = (LOW, stopped(MIDDLE), stopped(HIGH))
    assert chooser.choose(paused, 5e6, 0.0).target == 1
    assert chooser.goal == 3
    chooser.max_allowed = 360
    chooser.choose(paused, 5e6, 0.1)
    assert chooser.goal == 2


def test_wanted_layers() -> None:
    assert wanted_layers([1, 2, 3], []) == {1}
    assert wanted_layers([1, 2, 3], [Want(3, None, 3)]) == {1, 3}
    assert wanted_layers([1, 2, 3], [Want(1, 2, 3), Want(None, None, None)]) == {1, 2, 3}
    assert wanted_layers([1, 2, 3], [Want(9, 1, 1)]) == {1}
    assert wanted_layers([], [Want(1, 2, 3)]) == set()


def test_unwanted_is_told_late_and_wanted_at_once() -> None:
    told = WantedLayers()
    rids = ("q", "h", "f")
    assert told.update(rids, ["q"], 0.0) == rids
    assert told.update(rids, ["q"], UNWANTED_S - 0.1) is None
    assert told.update(rids, ["q"], UNWANTED_S) == ("q",)
    assert told.update(rids, ["q"], UNWANTED_S + 1) is None
    assert told.update(rids, ["q", "f"], UNWANTED_S + 2) == ("q", "f")
    assert told.update(rids, ["q", "h"], UNWANTED_S + 3) == rids


steps = st.lists(
    st.tuples(
        st.floats(0.01, 20.0),
        st.floats(1_000, 10_000_000),
        st.sampled_from([None, 90, 180, 360, 720]),
        st.sets(st.sampled_from([1, 2, 3])),
        st.booleans(),
        st.booleans(),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(steps)
def test_rules_that_hold_for_any_history(
    history: list[tuple[float, float, int | None, set[int], bool, bool]],
) -> None:
    chooser = LayerChooser()
    now, last_climb, before = 0.0, -UP_HOLD_S, None
    for wait, estimate, cap, silent, is_known, can_probe in history:
        now += wait
        chooser.max_allowed = cap
        offers = tuple(stopped(o) if o.number in silent else o for o in ALL)
        choice = chooser.choose(offers, estimate, now, is_known=is_known, can_probe=can_probe)
        sending = {o.number for o in offers if o.silent_s == 0} or {1, 2, 3}
        heights = {o.number: o.height_px for o in offers}
        assert choice.target in sending
        fitting = {n for n in sending if cap is None or heights[n] <= cap}
        if fitting:
            assert choice.target in fitting
        if is_known and can_probe and choice.target != min(fitting or sending):
            rate = next(o.bitrate_bps for o in offers if o.number == choice.target)
            assert rate <= estimate * 1.05
        if choice.probe_bps:
            assert can_probe and choice.target != 3
        if before in sending and before in (fitting or sending) and choice.target != before:
            assert before is not None and choice.target is not None
            if choice.target > before:
                assert now - last_climb >= UP_HOLD_S
                last_climb = now
        assert chooser.max_seen <= 720
        before = choice.target
