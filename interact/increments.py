"""The steps a price climbs in: one amount, or a table of amounts by price.

The *grid* of a lot is the ladder that starts at its start price and climbs by the step
in force at each rung. Most lots take any whole amount from the minimum up; a lot that
asks for the grid takes rungs only.
"""

from __future__ import annotations

from bisect import bisect_right

MAX_AMOUNT = 2**53 - 1
"""Largest amount, minor units: the largest integer that every JSON reader keeps exact."""

MAX_ROWS = 100
"""Rows of an increment table; real auction houses print fewer than twenty."""

IncrementSpec = int | list[tuple[int, int]]
"""As on the wire: `500`, or `[[0, 100], [5000, 500]]` (from this price on, this step)."""


def increment_problem(spec: IncrementSpec, start_price: int) -> str | None:
    """Why `spec` cannot be used for a lot that starts at `start_price`, or None."""
    if isinstance(spec, int):
        return None if 1 <= spec <= MAX_AMOUNT else f"increment must be 1 to {MAX_AMOUNT}"
    if not 1 <= len(spec) <= MAX_ROWS:
        return f"increment must have 1 to {MAX_ROWS} rows of [from_price, step]"
    previous = -1
    for from_price, step in spec:
        if not 0 <= from_price <= MAX_AMOUNT:
            return f"increment: from_price must be 0 to {MAX_AMOUNT}"
        if not 1 <= step <= MAX_AMOUNT:
            return f"increment: step must be 1 to {MAX_AMOUNT}"
        if from_price <= previous:
            return "increment: each from_price must be above the one before"
        previous = from_price
    if spec[0][0] > start_price:
        return "increment: the first from_price must not be above start_price"
    return None


class Increments:
    """`step(p)` and the grid for one lot. `spec` must have passed `increment_problem`."""

    __slots__ = ("_from", "_start", "_steps")

    def __init__(self, spec: IncrementSpec, start_price: int) -> None:
        rows = [(0, spec)] if isinstance(spec, int) else spec
        self._from = [from_price for from_price, _ in rows]
        self._steps = [step for _, step in rows]
        self._start = start_price

    def step(self, price: int) -> int:
        """The increment in force at `price`, which is at least the start price."""
        return self._steps[bisect_right(self._from, price) - 1]

    def rung_at_or_above(self, amount: int) -> int:
        """The lowest amount of the grid that is not below `amount`.

        Walks the table row by row, not rung by rung, so a price far up costs no more.
        """
        rung = self._start
        row = bisect_right(self._from, rung) - 1
        while rung < amount:
            step = self._steps[row]
            is_last = row + 1 == len(self._from)
            goal = amount if is_last else min(amount, self._from[row + 1])
            rung += -(-(goal - rung) // step) * step
            while row + 1 < len(self._from) and self._from[row + 1] <= rung:
                row += 1
        return rung

    def is_rung(self, amount: int) -> bool:
        """Whether `amount` lies on the grid."""
        return amount >= self._start and self.rung_at_or_above(amount) == amount
