"""Restart delays."""

from __future__ import annotations

from server.backoff import FIRST_DELAY_S, FORGIVEN_AFTER_S, LONGEST_DELAY_S, Backoff


def test_delays_double_up_to_the_longest() -> None:
    backoff = Backoff()
    delays = [backoff.ended(float(i)) for i in range(9)]
    assert delays[:6] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
    assert delays[6:] == [LONGEST_DELAY_S] * 3


def test_never_overflows() -> None:
    backoff = Backoff()
    assert [backoff.ended(0.0) for _ in range(5000)][-1] == LONGEST_DELAY_S


def test_a_minute_of_health_starts_over() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.ended(0.0)
    backoff.started(100.0)
    assert backoff.ended(100.0 + FORGIVEN_AFTER_S) == FIRST_DELAY_S


def test_short_health_does_not() -> None:
    backoff = Backoff()
    backoff.ended(0.0)
    backoff.started(1.0)
    assert backoff.ended(FORGIVEN_AFTER_S) == 2 * FIRST_DELAY_S


def test_a_life_before_counts_once() -> None:
    backoff = Backoff()
    backoff.started(0.0)
    assert backoff.ended(1000.0) == FIRST_DELAY_S
    assert backoff.ended(2000.0) == 2 * FIRST_DELAY_S  # died again before it ever served
