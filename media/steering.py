"""**Shell**: steers one viewer's picture by what its link carries.

Between the two cores and a line: feedback goes into media/estimate.py, the layers that the
camera sends and the estimate into media/layers.py, and what it decides is done to the
line. Feedback arrives in the middle of receive bursts, so it only changes the estimate;
decisions are taken by the session's timer, a tenth of a second later at most.

A link too narrow for the lowest layer gets what fits of it: the line plays until its
budget is spent, is paused at the end of a frame, and goes on with a new key frame when the
budget is filled again. Nothing queues up on our side, and sound is never left out.

All figures are the picture's alone: browsers estimate from the packets that carry
abs-send-time, so a REMB is what the link carries beside the sound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from media.drops import DropReason, count_drop
from media.estimate import LOSS_HIGH, BandwidthEstimate
from media.layers import LayerChooser, LayerOffer, Want
from media.subscriber import LineState, OutLine
from media.track import LAYER_TRUST_S, Layer, Track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from media.rtp.rtcp import ReceptionReport

CHOOSE_INTERVAL_S: Final = 0.25
"""Between two decisions while the estimate does not fall and nothing is being tried."""
THIN_SPEND_S: Final = 1.0
"""A thinned picture plays at least this long at its full rate before it pauses."""
THIN_PAUSE_S: Final = 2.0
"""...and pauses at least this long: its return costs everybody on the layer a key frame."""
PACE_FACTOR: Final = 1.5
"""A key frame leaves this many times as fast as the link is thought to be: its queue holds
the rest for a moment, and the picture is there the sooner."""
REPLAY_PATIENCE_S: Final = 1.0
"""How long a new source may take to catch up before its choice is thought over."""
MIN_REPORT_PACKETS: Final = 5
"""A report about fewer shows nothing of what the link carries."""
NARROW_RESEND_SHARE: Final = 0.25
"""Of a known estimate, at most, for resends: a full link loses those like everything else, and
a viewer that asks for the same packets every round trip would keep it full."""
RESEND_MIN_BYTES: Final = 12_000
_NOT_SENDING_S: Final = 1e6


class Steering:
    """One viewer's picture line and what is known of its link."""

    __slots__ = (
        "_budget_bits",
        "_choose_at",
        "_falls_seen",
        "_paid_bytes",
        "_paused_at",
        "_replaying_since",
        "_reported_seq",
        "_seen_seq",
        "_timer_at",
        "chooser",
        "estimate",
        "line",
        "others",
    )

    def __init__(self, line: OutLine, others: Sequence[OutLine]) -> None:
        """`others`: the viewer's further lines, which resend under the same bound."""
        self.line = line
        self.others = others
        self.estimate = BandwidthEstimate()
        self.chooser = LayerChooser()
        self._budget_bits = 0.0
        self._choose_at = 0.0
        self._falls_seen = 0
        self._paid_bytes = 0
        self._paused_at = 0.0
        self._replaying_since = 0.0
        self._reported_seq = 0
        self._seen_seq = 0
        self._timer_at: float | None = None

    def choose(self, track: Track, now: float) -> Layer | None:
        """The layer of `track` to show now, without acting. For a line that moves to it."""
        if track is not self.line.track:
            self.chooser.restart()
        by_number = {layer.number: layer for layer in track.layers}
        choice = self.chooser.choose(
            self._offers(track, now),
            self.estimate.bps,
            now,
            is_known=self.estimate.is_known,
            can_probe=self._can_probe,
        )
        self.line.goal = self.chooser.goal
        return by_number.get(choice.target) if choice.target is not None else None

    def note_report(self, report: ReceptionReport, rtt_s: float | None, now: float) -> None:
        """Take in what the viewer says of the picture's packets."""
        packets = report.highest_seq - self._reported_seq
        self._reported_seq = report.highest_seq
        self.estimate.note_report(
            report.fraction_lost / 256, rtt_s, now, covers=packets >= MIN_REPORT_PACKETS
        )

    def note_repeats_report(self, report: ReceptionReport, now: float) -> None:
        """Take in what the viewer says of resends and padding."""
        if report.fraction_lost / 256 > LOSS_HIGH:
            self.estimate.note_lost_padding(now)

    def handle_timer(self, now: float) -> None:
        """Measure, decide and act. Called ten times a second, never within a burst."""
        line, chooser, estimate = self.line, self.chooser, self.estimate
        estimate.note_sent(line.payload_bytes + line.repeat_bytes, now)
        elapsed = now - self._timer_at if self._timer_at is not None else 0.0
        self._timer_at = now
        resend_rate = estimate.bps / 8 * (NARROW_RESEND_SHARE if estimate.is_known else 1)
        for each in (line, *self.others):
            room = each.resend_room_bytes + resend_rate * elapsed
            each.resend_room_bytes = min(room, resend_rate + RESEND_MIN_BYTES)
        spent_bytes = line.payload_bytes - self._paid_bytes
        self._paid_bytes = line.payload_bytes
        track = line.track
        line.pace_bps = estimate.bps * PACE_FACTOR if estimate.is_known else None
        if line.state is not LineState.REPLAYING:
            self._replaying_since = now
        is_beginning = now - self._replaying_since < REPLAY_PATIENCE_S
        if track is None or line.state is LineState.IDLE:
            return
        if line.state is LineState.REPLAYING and is_beginning:
            return
        if len(track.layers) < 2 and not estimate.is_known:
            return  # one layer and no trouble: nothing to decide, for nearly everybody
        if estimate.falls == self._falls_seen and now < self._choose_at:
            return
        self._falls_seen = estimate.falls
        choice = chooser.choose(
            self._offers(track, now),
            estimate.bps,
            now,
            is_known=estimate.is_known,
            can_probe=self._can_probe,
        )
        line.goal = chooser.goal
        is_busy = choice.probe_bps > 0 or choice.is_thin
        self._choose_at = now if is_busy else now + CHOOSE_INTERVAL_S
        layer = next((x for x in track.layers if x.number == choice.target), None)
        if layer is None:
            return
        earned = estimate.bps * elapsed - spent_bytes * 8
        if not choice.is_thin:
            self._budget_bits = 0.0
        elif not self._afford(layer, earned, now):
            return
        if line.is_paused or layer is not (line.target or line.layer):
            line.aim(layer, now)
        if choice.probe_bps:
            # What is missing to the wanted rate, for the time until the next call.
            missing_bps = choice.probe_bps - estimate.sent_bps
            if missing_bps > 0:
                line.send_padding(int(missing_bps / 8 * elapsed) + 200)

    def _afford(self, layer: Layer, earned_bits: float, now: float) -> bool:
        """Whether the thinned picture may play on now; pauses it when its budget is spent."""
        line = self.line
        depth = layer.bitrate_bps * THIN_SPEND_S
        self._budget_bits = max(min(self._budget_bits + earned_bits, depth), -depth)
        if line.is_paused:
            newest = layer.ring.newest
            if newest is not None:
                if self._seen_seq and newest.seq > self._seen_seq:
                    skipped = newest.seq - self._seen_seq
                    count_drop(line.drops, DropReason.SLOW_VIEWER, skipped)
                self._seen_seq = newest.seq
            return self._budget_bits >= depth * 0.9 and now - self._paused_at >= THIN_PAUSE_S
        if self._budget_bits >= 0:
            return True
        line.pause(now)
        self._paused_at = now
        self._seen_seq = 0
        return False

    @property
    def _can_probe(self) -> bool:
        return self.line.extension_ids is not None

    def _offers(self, track: Track, now: float) -> list[LayerOffer]:
        shown = self.line.target or self.line.layer
        offers = []
        for layer in track.layers:
            if layer.first_at is None:
                continue
            silent_s = now - layer.last_at
            is_news = layer is not shown and now - layer.active_since < LAYER_TRUST_S
            if is_news and shown in track.layers:
                silent_s = _NOT_SENDING_S  # one that has just begun may stop again: not yet
            offers.append(LayerOffer(layer.number, layer.height, layer.bitrate_bps, silent_s))
        return offers

    def stats(self) -> dict[str, Any]:
        """Figures for the control API."""
        estimate, chooser = self.estimate, self.chooser
        return {
            "estimate_bps": round(estimate.bps),
            "estimate_known": estimate.is_known,
            "estimate_falls": estimate.falls,
            "remb_bps": estimate.remb_bps,
            "sent_bps": round(estimate.sent_bps),
            "max_height": chooser.max_allowed,
            "max_height_seen": chooser.max_seen or None,
            "climbs": chooser.climbs,
            "failed_climbs": chooser.failures,
            "thin": chooser.is_thin,
        }


def want_of(line: OutLine) -> Want:
    """What a line needs, steered or not."""
    return Want(
        line.layer.number if line.layer is not None else None,
        line.target.number if line.target is not None else None,
        line.goal,
    )
