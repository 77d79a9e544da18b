"""The estimate of one viewer's link."""

from __future__ import annotations

import pytest

from media.estimate import (
    FLOOR_BPS,
    GROWTH_PER_S,
    KNOWN_EXTRA_BPS,
    KNOWN_FACTOR,
    SETTLE_S,
    START_BPS,
    BandwidthEstimate,
)

_totals: dict[int, int] = {}


def send(estimate: BandwidthEstimate, bps: float, start: float, seconds: float) -> float:
    """Send at a steady rate for a while, timer ten times a second; the end."""
    before = _totals.get(id(estimate), 0)
    steps = round(seconds * 10)
    for i in range(1, steps + 1):
        estimate.note_sent(before + int(bps / 8 * i / 10), start + i / 10)
    _totals[id(estimate)] = before + int(bps / 8 * seconds)
    return start + seconds


def test_before_any_sign_it_is_a_guess() -> None:
    estimate = BandwidthEstimate()
    assert (estimate.bps, estimate.is_known) == (START_BPS, False)


def test_rate_sent_is_measured_over_a_second() -> None:
    estimate = BandwidthEstimate()
    now = send(estimate, 1_000_000, 0, 2)
    assert estimate.sent_bps == pytest.approx(1_000_000, rel=0.01)
    send(estimate, 200_000, now, 1.2)
    assert estimate.sent_bps == pytest.approx(200_000, rel=0.01)


def test_a_falling_remb_is_believed_at_once() -> None:
    estimate = BandwidthEstimate()
    now = send(estimate, 1_700_000, 0, 2)
    estimate.note_remb(2_000_000, now)
    assert not estimate.is_known
    estimate.note_remb(420_000, now + 0.3)
    assert (estimate.bps, estimate.is_known, estimate.falls) == (420_000, True, 1)


def test_a_first_remb_far_below_what_is_sent_is_believed() -> None:
    estimate = BandwidthEstimate()
    now = send(estimate, 1_700_000, 0, 2)
    estimate.note_remb(300_000, now)
    assert estimate.bps == 300_000


def test_a_low_remb_while_little_is_sent_says_nothing() -> None:
    estimate = BandwidthEstimate()
    now = send(estimate, 150_000, 0, 2)
    estimate.note_remb(235_000, now)
    assert (estimate.bps, estimate.is_known) == (START_BPS, False)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(0.0, START_BPS), (0.05, START_BPS), (0.10, START_BPS), (0.5, 500_000), (0.9, 100_000)],
)
def test_heavy_loss_means_that_only_the_rest_fits(loss: float, expected: float) -> None:
    estimate = BandwidthEstimate()
    now = send(estimate, 1_000_000, 0, 2)
    estimate.note_report(loss, 0.05, now)
    assert estimate.bps == pytest.approx(expected, rel=0.01)


def test_a_standing_queue_lowers_it_where_there_is_no_remb() -> None:
    estimate = BandwidthEstimate()
    now = send(estimate, 1_000_000, 0, 2)
    estimate.note_report(0.0, 0.040, now)
    estimate.note_report(0.0, 0.280, now + 1)
    assert not estimate.is_known
    estimate.note_report(0.0, 0.300, now + 1)
    assert estimate.bps == pytest.approx(850_000, rel=0.01)


def test_with_a_fresh_remb_the_round_trip_is_left_to_the_viewer() -> None:
    estimate = BandwidthEstimate()
    now = send(estimate, 1_000_000, 0, 2)
    estimate.note_remb(1_400_000, now)
    estimate.note_report(0.0, 0.040, now)
    estimate.note_report(0.0, 0.400, now + 1)
    assert not estimate.is_known


def test_after_a_fall_it_grows_slowly_and_not_beyond_what_is_known() -> None:
    estimate = BandwidthEstimate()
    now = send(estimate, 400_000, 0, 2)
    estimate.note_report(0.5, None, now)
    assert estimate.bps == pytest.approx(200_000, rel=0.01)
    now = send(estimate, 400_000, now, SETTLE_S)
    assert estimate.bps == pytest.approx(200_000, rel=0.01)
    now = send(estimate, 400_000, now, 2)
    assert estimate.bps == pytest.approx(200_000 * (1 + GROWTH_PER_S / 10) ** 20, rel=0.02)
    send(estimate, 400_000, now, 60)
    assert estimate.bps == pytest.approx(400_000 * KNOWN_FACTOR + KNOWN_EXTRA_BPS, rel=0.01)


def test_what_went_through_unharmed_is_known_to_fit() -> None:
    estimate = BandwidthEstimate()
    now = send(estimate, 150_000, 0, 2)
    estimate.note_report(0.5, None, now)
    now = send(estimate, 700_000, now, 2)
    estimate.note_report(0.0, 0.05, now)
    assert estimate.bps == pytest.approx(700_000, rel=0.01)


def test_right_after_a_fall_a_good_report_speaks_of_the_past() -> None:
    estimate = BandwidthEstimate()
    now = send(estimate, 1_700_000, 0, 2)
    estimate.note_remb(2_000_000, now)
    estimate.note_remb(400_000, now)
    estimate.note_report(0.0, 0.05, now + SETTLE_S / 2)
    estimate.note_remb(900_000, now + SETTLE_S / 2)
    assert estimate.bps == 400_000


def test_it_never_falls_below_its_floor() -> None:
    estimate = BandwidthEstimate()
    now = send(estimate, 100_000, 0, 2)
    for i in range(20):
        estimate.note_report(0.9, None, now + i)
    assert estimate.bps == FLOOR_BPS


def test_loss_is_no_worse_than_a_fresh_remb_says() -> None:
    estimate = BandwidthEstimate()
    now = send(estimate, 700_000, 0, 2)
    estimate.note_remb(650_000, now)
    estimate.note_remb(340_000, now + 0.1)
    estimate.note_report(0.9, None, now + 1)
    assert estimate.bps == 340_000


def test_reports_in_quick_succession_do_not_add_up() -> None:
    estimate = BandwidthEstimate()
    now = send(estimate, 1_000_000, 0, 2)
    for i in range(4):
        estimate.note_report(0.5, None, now + i / 10)
    assert estimate.bps == pytest.approx(500_000, rel=0.01)


def test_a_remb_that_lags_behind_is_a_sign_without_a_number() -> None:
    estimate = BandwidthEstimate()
    now = send(estimate, 700_000, 0, 2)
    estimate.note_report(0.0, 0.02, now)
    estimate.note_remb(600_000, now)
    estimate.note_remb(330_000, now)
    now = send(estimate, 700_000, now, 2)
    estimate.note_report(0.0, 0.02, now)
    estimate.note_remb(332_000, now)
    estimate.note_remb(300_000, now)
    assert estimate.bps == pytest.approx(595_000, rel=0.01)


def test_lost_padding_only_stops_the_rise() -> None:
    estimate = BandwidthEstimate()
    now = send(estimate, 200_000, 0, 2)
    estimate.note_report(0.5, None, now)
    now = send(estimate, 600_000, now, 2)
    estimate.note_lost_padding(now)
    before = estimate.bps
    estimate.note_report(0.0, 0.02, now + 0.1)
    assert estimate.bps == before


def test_lost_padding_does_not_hide_losses_of_the_picture() -> None:
    estimate = BandwidthEstimate()
    now = send(estimate, 1_000_000, 0, 2)
    estimate.note_lost_padding(now)
    estimate.note_report(0.5, None, now + 0.1)
    assert estimate.bps == pytest.approx(500_000, rel=0.01)


def test_a_report_about_next_to_nothing_shows_nothing() -> None:
    estimate = BandwidthEstimate()
    now = send(estimate, 200_000, 0, 2)
    estimate.note_report(0.5, None, now)
    now = send(estimate, 600_000, now, 2)
    before = estimate.bps
    estimate.note_report(0.0, 0.02, now, covers=False)
    assert estimate.bps == before
