"""Token buckets: how often one identity may do something.

A bucket holds up to `burst` tokens and gains `rate_per_s` a second; each action takes one.
Full buckets are forgotten, so memory follows the number of people active right now.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import ceil
from typing import Final

_ROUNDING: Final = 1e-6
"""Sums of floats fall short of whole tokens by less than this."""


class TokenBuckets:
    """One bucket a key. Time is passed in, Unix or any other milliseconds."""

    def __init__(self, rate_per_s: float, burst: int, max_keys: int = 20_000) -> None:
        self._rate_per_ms = rate_per_s / 1000
        self._burst = float(burst)
        self._max_keys = max_keys
        self._buckets: dict[Hashable, tuple[float, int]] = {}  # tokens left, at ms

    def take(self, key: Hashable, now: int, wanted: int = 1) -> int:
        """Take up to `wanted` tokens; gives how many there were to take."""
        tokens, at = self._buckets.get(key, (self._burst, now))
        tokens = min(self._burst, tokens + max(0, now - at) * self._rate_per_ms)
        taken = min(wanted, int(tokens + _ROUNDING))
        if key not in self._buckets and len(self._buckets) >= self._max_keys:
            self._forget(now)
        self._buckets[key] = (tokens - taken, max(at, now))
        return taken

    def retry_after_ms(self, key: Hashable, now: int) -> int:
        """How long until `take` gives a token; 0 where one is there now."""
        tokens, at = self._buckets.get(key, (self._burst, now))
        tokens = min(self._burst, tokens + max(0, now - at) * self._rate_per_ms)
        return max(0, ceil((1 - tokens) / self._rate_per_ms - _ROUNDING))

    def _forget(self, now: int) -> None:
        """Drop what is full again; under a flood of fresh keys, the older half too."""
        full_after_ms = self._burst / self._rate_per_ms
        self._buckets = {
            key: bucket for key, bucket in self._buckets.items() if now - bucket[1] < full_after_ms
        }
        if len(self._buckets) >= self._max_keys:
            by_age = sorted(self._buckets.items(), key=lambda item: item[1][1])
            self._buckets = dict(by_age[len(by_age) // 2 :])

    def __len__(self) -> int:
        return len(self._buckets)
