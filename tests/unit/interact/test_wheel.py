"""The timer wheel."""

from __future__ import annotations

import pytest

from interact.wheel import Wheel


def test_item_comes_out_at_its_second_and_only_once() -> None:
    wheel: Wheel[str] = Wheel(100.0)
    wheel.add("a", 103.2)
    assert wheel.advance(103.9) == []
    assert wheel.advance(104.0) == ["a"]
    assert wheel.advance(105.0) == []


def test_deadline_already_past_comes_out_at_the_next_turn() -> None:
    wheel: Wheel[str] = Wheel(100.5)
    wheel.add("late", 3.0)
    assert wheel.advance(101.0) == ["late"]


def test_removed_item_never_comes_out() -> None:
    wheel: Wheel[str] = Wheel(0.0)
    number = wheel.add("a", 5.0)
    wheel.remove("a", number)
    wheel.remove("a", number)
    assert wheel.advance(60.0) == []
    assert len(wheel) == 0


@pytest.mark.parametrize("pause", [1.0, 7.0, 10_000.0])
def test_long_pause_of_the_loop_gives_everything_due_in_order(pause: float) -> None:
    wheel: Wheel[int] = Wheel(0.0)
    for n in range(1, 6):
        wheel.add(n, float(n))
    due = wheel.advance(pause)
    assert due == [n for n in range(1, 6) if n <= pause]
    assert len(wheel) == 5 - len(due)
