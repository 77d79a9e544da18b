"""How fast one connection may talk: a bucket of tokens that may run into debt.

Commands over the limit are answered "too many requests"; a client that does not listen
gets deeper into debt with each, and is closed at the bottom.
"""

from __future__ import annotations


class Pace:
    """`rate_per_s` commands a second, `burst` at once, `debt` refused ones before the end."""

    __slots__ = ("_at", "_tokens")

    def __init__(self, now: float, burst: float) -> None:
        self._tokens = burst
        self._at = now

    def take(self, now: float, rate_per_s: float, burst: float) -> bool:
        """Whether one more command may be run."""
        earned = (now - self._at) * rate_per_s
        self._tokens = min(self._tokens + earned, burst) - 1
        self._at = now
        return self._tokens >= 0

    def is_below(self, debt: float) -> bool:
        """Whether more than `debt` commands were refused, less what time has paid back."""
        return self._tokens < -debt
