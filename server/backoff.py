"""When to start a dead child again: doubling delays, forgiven after steady health."""

from __future__ import annotations

from typing import Final

FIRST_DELAY_S: Final = 0.2
LONGEST_DELAY_S: Final = 10.0
FORGIVEN_AFTER_S: Final = 60.0


class Backoff:
    """Delay before each restart. Pure: `now` is monotonic seconds.

    A child that ran for a minute starts over at the first delay, so one crash a day
    costs 0.2 s, and a child that can never start costs a try every 10 s.
    """

    def __init__(self) -> None:
        self.failures = 0
        self._started_at: float | None = None

    def started(self, now: float) -> None:
        """The child serves since `now`."""
        self._started_at = now

    def ended(self, now: float) -> float:
        """The child is gone: seconds to wait before the next start."""
        if self._started_at is not None and now - self._started_at >= FORGIVEN_AFTER_S:
            self.failures = 0
        self._started_at = None
        delay: float = min(FIRST_DELAY_S * 2 ** min(self.failures, 16), LONGEST_DELAY_S)
        self.failures += 1
        return delay
