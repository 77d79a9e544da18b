"""One timer for all connections: a wheel of one-second slots. Pure.

Ten thousand connections with a timer each would be ten thousand heap entries moved at
every ping. Here a connection sits in the slot of its deadline's second; each second one
slot is emptied. Deadlines are met up to one slot late, never early.
"""

from __future__ import annotations

import math
from typing import Final, Generic, TypeVar

SLOT_S: Final = 1.0

T = TypeVar("T")


class Wheel(Generic[T]):
    """Items by deadline. An item may stand in one slot only: its owner keeps the number."""

    __slots__ = ("_done", "_slots")

    def __init__(self, now: float) -> None:
        self._done = math.floor(now / SLOT_S)
        self._slots: dict[int, set[T]] = {}

    def __len__(self) -> int:
        return sum(len(slot) for slot in self._slots.values())

    def add(self, item: T, deadline: float) -> int:
        """Returns the slot's number, for `remove`. `deadline` must be finite."""
        number = max(math.ceil(deadline / SLOT_S), self._done + 1)
        self._slots.setdefault(number, set()).add(item)
        return number

    def remove(self, item: T, number: int) -> None:
        """Take `item` out of its slot; it need not be there any more."""
        slot = self._slots.get(number)
        if slot is not None:
            slot.discard(item)
            if not slot:
                del self._slots[number]

    def advance(self, now: float) -> list[T]:
        """Everything due by `now`, taken out."""
        current = math.floor(now / SLOT_S)
        due: list[T] = []
        if current - self._done > len(self._slots):
            numbers = sorted(n for n in self._slots if n <= current)
        else:
            numbers = [n for n in range(self._done + 1, current + 1) if n in self._slots]
        for number in numbers:
            due.extend(self._slots.pop(number))
        self._done = max(self._done, current)
        return due
