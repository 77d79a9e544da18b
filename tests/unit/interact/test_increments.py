"""Steps and the grid."""

from __future__ import annotations

import pytest

from interact.increments import MAX_AMOUNT, Increments, IncrementSpec, increment_problem

TABLE: IncrementSpec = [(0, 100), (1_000, 250), (2_000, 500)]


@pytest.mark.parametrize(
    ("price", "step"),
    [(1, 100), (999, 100), (1_000, 250), (1_999, 250), (2_000, 500), (MAX_AMOUNT, 500)],
)
def test_step_in_force_is_that_of_the_last_row_reached(price: int, step: int) -> None:
    assert Increments(TABLE, 1).step(price) == step


def test_one_increment_holds_at_every_price() -> None:
    assert [Increments(7, 10).step(price) for price in (10, 11, MAX_AMOUNT)] == [7, 7, 7]


@pytest.mark.parametrize(
    ("amount", "rung"),
    [
        (1, 950),
        (950, 950),
        (951, 1_050),  # 950 + 100, past the row at 1,000
        (1_050, 1_050),
        (1_051, 1_300),
        (1_800, 1_800),
        (2_000, 2_050),  # 1,800 + 250
        (2_051, 2_550),
        (1_000_000, 1_000_050),
    ],
)
def test_rungs_climb_by_the_step_in_force_at_each(amount: int, rung: int) -> None:
    increments = Increments(TABLE, 950)
    assert increments.rung_at_or_above(amount) == rung
    assert increments.is_rung(amount) == (amount == rung)


def test_rungs_agree_with_climbing_one_by_one() -> None:
    increments = Increments(TABLE, 130)
    rungs = [130]
    while rungs[-1] < 6_000:
        rungs.append(rungs[-1] + increments.step(rungs[-1]))
    for amount in range(1, 6_000):
        assert increments.rung_at_or_above(amount) == next(r for r in rungs if r >= amount)


@pytest.mark.parametrize(
    ("table", "word"),
    [
        (0, "increment must be"),
        (-5, "increment must be"),
        (MAX_AMOUNT + 1, "increment must be"),
        ([], "rows"),
        ([(0, 1)] * 101, "rows"),
        ([(0, 0)], "step"),
        ([(-1, 5)], "from_price"),
        ([(0, 5), (0, 6)], "above the one before"),
        ([(0, 5), (100, 6), (50, 7)], "above the one before"),
        ([(1_001, 5)], "must not be above start_price"),
    ],
)
def test_unusable_increment_says_why(table: IncrementSpec, word: str) -> None:
    problem = increment_problem(table, 1_000)
    assert problem is not None
    assert word in problem


@pytest.mark.parametrize("table", [1, MAX_AMOUNT, [(0, 1)], [(1_000, 1)], TABLE])
def test_usable_increment_has_no_problem(table: IncrementSpec) -> None:
    assert increment_problem(table, 1_000) is None
