"""Feedback kept within bounds: key-frame requests, resends, and sender reports.

Hundreds of viewers may lose the same picture at once; the publisher must hear of it
once. One viewer may ask for the same packet over and over; it must not be sent more
than once a round trip. And sound and picture stay together only if a viewer's sender
reports place both on one clock, whatever camera they come from.
"""

from __future__ import annotations

from typing import Final

from media.rtp.rtcp import ReceptionReport, SenderReport, middle_ntp, unix_from_ntp
from media.rtp.seq import extend_ts

KEY_FRAME_INTERVAL_S: Final = 0.5
"""At most one request per layer in this time; also how long an answer is waited for."""
KEY_FRAME_TRIES: Final = 20
RESENDS_PER_S: Final = 500
RESEND_BURST: Final = 250
_RESEND_SLOTS: Final = 512
CLOCK_STEP_S: Final = 1.0
CLOCK_FOLLOW: Final = 0.02
"""Share of a later arrival that moves the clock: drift is followed, delay peaks are not."""


class KeyFrameRequests:
    """Merges the wishes of all viewers of one layer into few requests.

    The first wish goes out at once. Wishes within the interval wait for it to end and are
    met by any key frame that arrives meanwhile. A request without an answer is repeated
    each interval, 20 times at most, until somebody wishes again.

    Encoders such as OBS and FFmpeg 8 know no such request. Who lets one pass for a whole
    interval is taken to be `is_deaf`, until one is answered.
    """

    __slots__ = (
        "_interval_s",
        "_sent_at",
        "_tries",
        "_unanswered",
        "is_deaf",
        "is_waiting",
        "sent",
    )

    def __init__(self, interval_s: float = KEY_FRAME_INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._sent_at: float | None = None
        self._tries = 0
        self._unanswered = 0
        self.is_waiting = False
        self.is_deaf = False
        """Whether waiting for a key frame is waiting for the encoder's own rhythm."""
        self.sent = 0

    def ask(self, now: float) -> bool:
        """Somebody needs a key frame. True: send a PLI (or FIR) now."""
        self.is_waiting = True
        self._tries = 0
        return self.handle_timer(now)

    def handle_timer(self, now: float) -> bool:
        """True: send a request now. Call at `next_deadline`."""
        if not self.is_waiting:
            return False
        if self._sent_at is not None and now < self._sent_at + self._interval_s:
            return False
        if self._tries >= KEY_FRAME_TRIES:
            self.is_waiting = False
            return False
        self.is_deaf = self.is_deaf or self._unanswered > 0
        self._unanswered += 1
        self._tries += 1
        self._sent_at = now
        self.sent += 1
        return True

    def key_frame_arrived(self) -> None:
        """Everybody who waited is served."""
        if self._unanswered == 1:
            self.is_deaf = False
        self._unanswered = 0
        self.is_waiting = False

    def next_deadline(self) -> float | None:
        """When the request is to be repeated, monotonic seconds; None when nobody waits."""
        if not self.is_waiting or self._sent_at is None:
            return None
        return self._sent_at + self._interval_s


class ResendLimiter:
    """Says whether a subscriber's NACK for one packet is answered.

    Each packet at most once a round trip, and all of them at most RESENDS_PER_S with a
    burst, so a broken viewer cannot double what it costs.
    """

    __slots__ = ("_allowance", "_at", "_sent", "_updated", "refused")

    def __init__(self) -> None:
        self._sent: list[int] = [-1] * _RESEND_SLOTS
        self._at: list[float] = [0.0] * _RESEND_SLOTS
        self._allowance = float(RESEND_BURST)
        self._updated = 0.0
        self.refused = 0

    def allow(self, out_seq: int, now: float, round_trip_s: float) -> bool:
        """Whether to resend the 16-bit `out_seq` now; a yes is counted as sent."""
        slot = out_seq % _RESEND_SLOTS
        if self._sent[slot] == out_seq and now < self._at[slot] + round_trip_s:
            self.refused += 1
            return False
        earned = (now - self._updated) * RESENDS_PER_S
        self._updated = now
        self._allowance = min(float(RESEND_BURST), self._allowance + earned)
        if self._allowance < 1:
            self.refused += 1
            return False
        self._allowance -= 1
        self._sent[slot] = out_seq
        self._at[slot] = now
        return True


class PublisherClock:
    """A publisher's NTP clock on ours, shared by all its streams.

    A report of time T that arrives at A was sent no later than A, so the offset A - T is
    the clocks' difference plus the delay of the path; the smallest seen is the best. It
    is one number for sound and picture, so an error in it moves both alike.
    """

    __slots__ = ("offset_s",)

    def __init__(self) -> None:
        self.offset_s: float | None = None
        """Seconds to add to the publisher's Unix time; None before the first report."""

    def update(self, ntp: int, unix_now: float) -> None:
        """Take in a sender report's 64-bit NTP time that arrived at `unix_now`."""
        sample = unix_now - unix_from_ntp(ntp)
        offset = self.offset_s
        if offset is None or sample < offset or sample > offset + CLOCK_STEP_S:
            self.offset_s = sample
        else:
            self.offset_s = offset + (sample - offset) * CLOCK_FOLLOW


class StreamClock:
    """Which RTP timestamp of one stream belongs to a moment of our clock."""

    __slots__ = ("_clock", "_ntp_unix", "_rtp_ts", "clock_rate", "has_report")

    def __init__(self, clock: PublisherClock, clock_rate: int) -> None:
        self._clock = clock
        self._ntp_unix = 0.0
        self._rtp_ts = 0
        self.clock_rate = clock_rate
        self.has_report = False

    def update(self, report: SenderReport, reference_ts: int, unix_now: float) -> None:
        """Take in a report; `reference_ts` is the stream's newest extended timestamp."""
        self._clock.update(report.ntp, unix_now)
        self._ntp_unix = unix_from_ntp(report.ntp)
        self._rtp_ts = extend_ts(report.rtp_ts, reference_ts)
        self.has_report = True

    def rtp_at(self, unix_s: float) -> int | None:
        """The stream's extended timestamp at a moment of our clock (Unix seconds).

        For a subscriber's own sender report: NTP is our time, the RTP timestamp is this
        plus the line's `ts_offset`. None before the publisher's first report.
        """
        offset = self._clock.offset_s
        if offset is None or not self.has_report:
            return None
        return self._rtp_ts + round((unix_s - offset - self._ntp_unix) * self.clock_rate)

    def unix_at(self, rtp_ts: int) -> float | None:
        """The moment of our clock (Unix seconds) that an extended timestamp belongs to: when
        it was captured. None before the publisher's first report."""
        offset = self._clock.offset_s
        if offset is None or not self.has_report:
            return None
        return self._ntp_unix + (rtp_ts - self._rtp_ts) / self.clock_rate + offset


def round_trip_s(report: ReceptionReport, ntp_now: int) -> float | None:
    """The round trip that a reception report shows, in seconds (RFC 3550 §6.4.1).

    None if the peer had no sender report yet, or the numbers make no sense.
    """
    if not report.last_sr:
        return None
    units = middle_ntp(ntp_now) - report.last_sr - report.delay_since_sr & 0xFFFFFFFF
    # A peer's clock may run a little fast, which makes a tiny negative number.
    if units & 0x80000000:
        return 0.0 if units > 0xFFFF0000 else None
    trip = units / 65536
    return trip if trip < 60 else None
