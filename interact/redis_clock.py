"""Redis' clock as everybody's clock: how far ours is from it. Pure.

A sample is the time of asking, of hearing, and what the server said in between; its error
is at most half the round trip. The best of the last few is used, and the clock that comes
out moves towards it without ever jumping.
"""

from __future__ import annotations

from collections import deque
from typing import Final

SAMPLES: Final = 8
SLEW: Final = 0.05
"""A better offset is approached by at most this much time in each unit of time; a lot's last
second stays a second for everybody."""


class SharedClock:
    """Unix milliseconds by the server's clock, from our own monotonic seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)  # (round trip, offset)
        self._offset_s: float | None = None  # server's Unix time minus our monotonic time
        self._moved_at = 0.0

    def sample(self, asked: float, heard: float, server_s: float) -> None:
        """Take in one exchange; all in seconds, `asked` and `heard` monotonic."""
        self._samples.append((heard - asked, server_s - (asked + heard) / 2))
        if self._offset_s is None:
            self._offset_s = min(self._samples)[1]
            self._moved_at = heard

    def now_ms(self, monotonic: float) -> int:
        """The server's Unix milliseconds. Needs one sample."""
        assert self._offset_s is not None, "the clock was not sampled yet"
        target = min(self._samples)[1]
        room = max(0.0, monotonic - self._moved_at) * SLEW
        self._offset_s += min(room, max(-room, target - self._offset_s))
        self._moved_at = monotonic
        return int((monotonic + self._offset_s) * 1000)

    @property
    def error_ms(self) -> float:
        """What the best sample may be off by."""
        return min(self._samples)[0] * 500 if self._samples else 0.0
