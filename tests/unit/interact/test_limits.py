"""Token buckets."""

from __future__ import annotations

import pytest

from interact.limits import TokenBuckets


def test_burst_then_rate() -> None:
    buckets = TokenBuckets(20, 40)
    assert [buckets.take("a", 0) for _ in range(41)] == [1] * 40 + [0]
    taken = sum(buckets.take("a", now) for now in range(1_001))
    assert taken == 20


def test_bucket_never_holds_more_than_the_burst() -> None:
    buckets = TokenBuckets(20, 40)
    buckets.take("a", 0)
    assert buckets.take("a", 10**9, 1_000) == 40


def test_keys_do_not_share() -> None:
    buckets = TokenBuckets(1, 1)
    assert buckets.take("a", 0) == buckets.take("b", 0) == 1
    assert buckets.take("a", 0) == 0


def test_what_is_there_of_a_larger_wish_is_given() -> None:
    assert TokenBuckets(30, 30).take("a", 0, 50) == 30


@pytest.mark.parametrize("rate", [0.5, 3, 7, 20, 30])
def test_retry_after_is_when_the_next_token_is_there(rate: float) -> None:
    buckets = TokenBuckets(rate, 1)
    buckets.take("a", 0)
    wait_ms = buckets.retry_after_ms("a", 0)
    assert buckets.take("a", wait_ms - 1) == 0
    assert buckets.take("a", wait_ms) == 1
    assert buckets.retry_after_ms("b", 0) == 0


def test_clock_that_runs_backwards_gives_nothing_extra() -> None:
    buckets = TokenBuckets(20, 1)
    buckets.take("a", 1_000)
    assert buckets.take("a", 0) == 0
    assert buckets.take("a", 1_049) == 0
    assert buckets.take("a", 1_050) == 1


def test_memory_is_bounded_and_the_busy_are_not_forgotten() -> None:
    buckets = TokenBuckets(20, 40, max_keys=100)
    for number in range(10_000):
        buckets.take(f"k{number}", number * 100)
        assert len(buckets) <= 100
    for number in range(10_000):
        buckets.take(f"flood{number}", 2_000_000)
        assert len(buckets) <= 100
