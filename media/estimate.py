"""How much one viewer's link carries: an estimate from what the viewer says. Pure.

Three signs, each weighed by what it can know:

- **REMB** (the viewer's own delay-based estimate; browsers send it while they see
  abs-send-time). A *fall* means that packets queue up somewhere, and the number is what
  got through: believed at once. A rise is believed too, but it never speaks of more than
  one and a half times what was received, so a low REMB while little is sent says nothing.
- **Loss** in receiver reports. Below 2 % is weather, above 10 % is a link that is full:
  the estimate becomes what arrived (draft-ietf-rmcat-gcc-02 §6 halves the step; a viewer
  with layers to go down to wants it whole).
- **Round trip**, where there is no REMB: a quarter of a second above the best one seen is
  a queue.

Up it goes in two ways: slowly by itself, as far as `KNOWN_FACTOR` times what was sent;
and at once to what was really sent whenever a report that covers it shows no harm. So
somebody who wants more must send more: media/layers.py asks for padding before it climbs.

Before any sign of trouble the estimate is a guess (`is_known` is False): a new viewer is
given the best picture, and the first second of feedback corrects it.

Invariants: the estimate lies in FLOOR_BPS .. CEILING_BPS; it never rises within
`SETTLE_S` of a fall; with `is_known` False it is not below START_BPS.
"""

from __future__ import annotations

from collections import deque
from typing import Final

START_BPS: Final = 5_000_000
"""The guess for a link nobody has complained about: a 1080p picture, and most of 4G."""
FLOOR_BPS: Final = 30_000
CEILING_BPS: Final = 100_000_000

LOSS_LOW: Final = 0.02
LOSS_HIGH: Final = 0.10
LOSS_INTERVAL_S: Final = 0.5
GROWTH_PER_S: Final = 0.08
"""A second's growth without any sign of trouble (libwebrtc's AIMD uses the same)."""
KNOWN_FACTOR: Final = 1.5
KNOWN_EXTRA_BPS: Final = 20_000
SETTLE_S: Final = 1.0
"""After a fall: what was sent before it is still draining, reports speak of the past."""
REMB_FALL: Final = 0.97
"""A REMB below this share of the one before is a fall (browsers send at once below it)."""
REMB_COLLAPSE: Final = 0.8
"""Below this share it names what arrives (85 % of it), however low it was before."""
REMB_FRESH_S: Final = 5.0
QUEUE_S: Final = 0.25
"""A round trip this much above the best one is a standing queue."""
QUEUE_BACKOFF: Final = 0.85
BEST_RTT_MEMORY_S: Final = 30.0
"""A best round trip is forgotten after this long: the path may have changed."""
WINDOW_S: Final = 1.0


class BandwidthEstimate:
    """The estimate for one viewer. Owned by its session; times are monotonic seconds."""

    __slots__ = (
        "_best_rtt_at",
        "_best_rtt_s",
        "_bytes",
        "_fell_at",
        "_held_at",
        "_remb_at",
        "_samples",
        "_timer_at",
        "bps",
        "falls",
        "is_known",
        "remb_bps",
        "sent_bps",
    )

    def __init__(self) -> None:
        self.bps = float(START_BPS)
        self.is_known = False
        """Whether it was ever corrected downwards; before that it is a guess."""
        self.remb_bps: int | None = None
        self.sent_bps = 0.0
        """What was sent in the last second, resends and padding included."""
        self.falls = 0
        self._samples: deque[tuple[float, int]] = deque()
        self._fell_at = -SETTLE_S
        self._held_at = -SETTLE_S
        self._remb_at = -REMB_FRESH_S
        self._best_rtt_s = 0.0
        self._best_rtt_at = -BEST_RTT_MEMORY_S
        self._timer_at: float | None = None

    def note_sent(self, total_bytes: int, now: float) -> None:
        """Take in the running total of bytes sent, and grow. Call some ten times a second."""
        samples = self._samples
        samples.append((now, total_bytes))
        while len(samples) > 2 and samples[1][0] <= now - WINDOW_S:
            samples.popleft()
        since, before = samples[0]
        # Less than half a window is mostly the first key frame, which says little.
        if now - since >= WINDOW_S / 2:
            self.sent_bps = (total_bytes - before) * 8 / (now - since)
        if self._timer_at is not None and self._is_settled(now):
            bound = self.sent_bps * KNOWN_FACTOR + KNOWN_EXTRA_BPS
            if self.bps < bound:
                growth = 1 + GROWTH_PER_S * min(now - self._timer_at, WINDOW_S)
                self._set(min(bound, self.bps * growth))
        self._timer_at = now

    def note_remb(self, bitrate_bps: int, now: float) -> None:
        """Take in the viewer's own estimate, in bits a second."""
        before, was_at = self.remb_bps, self._remb_at
        self.remb_bps = bitrate_bps
        self._remb_at = now
        is_fall = (
            before is not None
            and now - was_at < REMB_FRESH_S
            and bitrate_bps < before * (REMB_FALL)
        )
        if is_fall and before is not None:
            is_slight = bitrate_bps > before * REMB_COLLAPSE
            if is_slight and before < self.sent_bps * QUEUE_BACKOFF:
                # It has not caught up with what goes through: a sign of trouble, no number.
                self._fall(max(bitrate_bps, min(self.bps, self.sent_bps) * QUEUE_BACKOFF), now)
            else:
                self._fall(bitrate_bps, now)
        elif before is None and 0 < self.sent_bps > bitrate_bps * KNOWN_FACTOR:
            # The first word, and it is far below what we send: the link was never wide enough.
            self._fall(bitrate_bps, now)
        elif bitrate_bps > self.bps and self._is_settled(now):
            self._set(bitrate_bps)

    def note_report(
        self, fraction_lost: float, rtt_s: float | None, now: float, *, covers: bool = True
    ) -> None:
        """Take in a receiver report of the picture: loss 0 to 1, and the round trip if known.

        `covers` False: hardly anything was sent in the time it speaks of.
        """
        is_queueing = rtt_s is not None and self._is_queueing(rtt_s, now)
        if fraction_lost > LOSS_HIGH:
            # Reports come several a second in trouble, each about the same loss: not twice.
            if now - self._fell_at > LOSS_INTERVAL_S:
                arrived = (self.sent_bps or self.bps) * (1 - fraction_lost)
                # A key frame that overflows a short queue loses more than the link does, and
                # resends count as sent: where the viewer itself has a number, take that.
                is_fresh = self.remb_bps is not None and now - self._remb_at < REMB_FRESH_S
                if is_fresh and self.remb_bps is not None and self.remb_bps <= self.bps:
                    arrived = float(self.remb_bps)
                self._fall(arrived, now)
        elif is_queueing and now - self._remb_at > REMB_FRESH_S:
            self._fall(min(self.bps, self.sent_bps or self.bps) * QUEUE_BACKOFF, now)
        elif not covers or fraction_lost >= LOSS_LOW or is_queueing:
            return
        elif self._is_settled(now):
            # A second's worth went through unharmed: so much at least the link carries.
            self._set(max(self.bps, self.sent_bps))

    def note_lost_padding(self, now: float) -> None:
        """Much of what was sent besides got lost: no reason to go down, but none to go up."""
        self._held_at = now

    def _is_settled(self, now: float) -> bool:
        return now - max(self._fell_at, self._held_at) > SETTLE_S

    def _is_queueing(self, rtt_s: float, now: float) -> bool:
        if rtt_s <= self._best_rtt_s or now - self._best_rtt_at > BEST_RTT_MEMORY_S:
            self._best_rtt_s = rtt_s
            self._best_rtt_at = now
        return rtt_s > self._best_rtt_s + QUEUE_S

    def _fall(self, bps: float, now: float) -> None:
        if bps < self.bps:
            self.falls += 1
            self.is_known = True
            self._set(bps)
        self._fell_at = now

    def _set(self, bps: float) -> None:
        self.bps = min(max(bps, float(FLOOR_BPS)), float(CEILING_BPS))
