"""What arrives at a viewer, counted: **core**, one call a packet, no clock of its own.

RFC 3550 §A.3 (loss), §A.8 (jitter).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MAX_MISSING: Final = 2048
"""Numbers remembered as missing, so that one that comes late is told from a duplicate."""


@dataclass
class StreamCount:
    """One received RTP stream. Times in monotonic seconds."""

    clock_rate: int
    ssrc: int = 0
    packets: int = 0
    octets: int = 0
    frames: int = 0
    duplicates: int = 0
    late: int = 0
    restarts: int = 0
    first_at: float | None = None
    last_at: float = 0.0
    longest_gap_s: float = 0.0
    """Longest time without a packet."""
    jitter: float = 0.0
    """RTP ticks, as in receiver reports."""

    def __post_init__(self) -> None:
        self._base = 0
        self._missing: dict[int, None] = {}
        self._gone = 0
        self.highest = 0
        self._rtp_ts = -1
        self._transit = 0.0

    def count(self, seq: int, rtp_ts: int, ssrc: int, size: int, now: float) -> None:
        """Take one packet in: 16-bit number, 32-bit timestamp, payload bytes."""
        if self.first_at is None or ssrc != self.ssrc:
            if self.first_at is None:
                self.first_at = now
            else:
                self.restarts += 1
                self._gone += len(self._missing)
                self._missing.clear()
            self.ssrc = ssrc
            self._base = self.highest = seq
            self._rtp_ts = -1
        else:
            step = (seq - self.highest + 0x8000 & 0xFFFF) - 0x8000
            if step <= 0:
                if self._missing.pop(self.highest + step, 0) is None:
                    self.late += 1
                    self.packets += 1
                    self.octets += size
                else:
                    self.duplicates += 1
                return
            if step > 1:
                for gone in range(self.highest + 1, self.highest + min(step, _MAX_MISSING)):
                    self._missing[gone] = None
                while len(self._missing) > _MAX_MISSING:
                    del self._missing[next(iter(self._missing))]
                    self._gone += 1
            self.highest += step
            if now - self.last_at > self.longest_gap_s:
                self.longest_gap_s = now - self.last_at
        self.last_at = now
        self.packets += 1
        self.octets += size
        if rtp_ts != self._rtp_ts:
            self.frames += 1
            transit = now * self.clock_rate - rtp_ts
            if self._rtp_ts >= 0:
                difference = abs(transit - self._transit)
                if difference < 0x40000000:  # the timestamp did not wrap
                    self.jitter += (difference - self.jitter) / 16
            self._transit = transit
            self._rtp_ts = rtp_ts

    @property
    def lost(self) -> int:
        """Packets that should have come and did not."""
        return len(self._missing) + self._gone

    @property
    def jitter_ms(self) -> float:
        """Jitter between arrival and timestamps in milliseconds."""
        return self.jitter / self.clock_rate * 1000
