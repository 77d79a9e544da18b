"""A viewer's session: its two lines, its wish for a camera, and its feedback.

Owned by the relay. A session outlives publishers: without one its lines wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from media.drops import DropReason, Drops, count_drop
from media.negotiation import PlayPlan
from media.rtp.feedback import round_trip_s
from media.rtp.rtcp import (
    Fir,
    Item,
    Nack,
    Pli,
    ReceiverReport,
    ReceptionReport,
    Remb,
    SenderReport,
    build_sdes,
    build_sr,
    ntp_from_unix,
)
from media.steering import Steering
from media.subscriber import LineState, OutLine

if TYPE_CHECKING:
    from media.peer import Peer
    from media.publisher import Publisher
    from media.rooms import Room

REPORT_INTERVAL_S: Final = 1.0


class Viewer:
    """One WHEP session."""

    def __init__(
        self,
        session_id: str,
        room: Room[Publisher, Viewer],
        identity: str,
        wish: str | None,
        plan: PlayPlan,
        cname: str,
    ) -> None:
        self.id = session_id
        self.room = room
        self.identity = identity
        self.wish = wish
        """The camera asked for; None: the room's program."""
        self.plan = plan
        self.etag = ""
        self.peer: Peer
        self.steering: Steering | None = None
        """Of the picture line, if there is one."""
        self.lines: list[OutLine] = []
        self.by_ssrc: dict[int, OutLine] = {}
        self.source: Publisher | None = None
        """Whose tracks the lines follow now."""
        self.drops: Drops = {}
        self.rtt_s: float | None = None
        self._cname = cname
        self._report_at = 0.0

    def add_line(self, line: OutLine) -> None:
        self.lines.append(line)
        self.by_ssrc[line.ssrc] = line
        if line.rtx_ssrc:
            self.by_ssrc[line.rtx_ssrc] = line
        video = next((x for x in self.lines if x.kind == "video"), None)
        if video is not None:
            self.steering = Steering(video, [x for x in self.lines if x is not video])

    @property
    def max_height(self) -> int | None:
        """The viewer's own cap, in pixels; None: automatic."""
        return self.steering.chooser.max_allowed if self.steering is not None else None

    def set_max_height(self, max_height: int | None) -> None:
        """Cap the picture, or leave it to the estimate. Takes effect with `follow`."""
        if self.steering is not None:
            self.steering.chooser.max_allowed = max_height
            self.steering.chooser.forget_wait()

    def follow(self, publisher: Publisher | None, now: float) -> None:
        """Show what `publisher` sends, sound and picture together; None: wait.

        Nothing is sent before the keys are there. Not called during a receive burst.
        """
        self.source = publisher
        if self.peer.sender is None:
            return
        for line in self.lines:
            track = None
            if publisher is not None:
                track = publisher.video if line.kind == "video" else publisher.audio
            layer = None
            if track is not None and self.steering is not None and line is self.steering.line:
                layer = self.steering.choose(track, now)
            line.follow(track, now, layer)

    def handle_rtp(self, data: memoryview, size: int, now: float) -> None:
        """A viewer has nothing to send."""
        count_drop(self.drops, DropReason.UNEXPECTED)

    def handle_rtcp(self, items: list[Item], now: float, unix_now: float) -> None:
        """Take one authenticated compound packet, parsed.

        A BYE in it names the viewer's own SSRC, which means nothing to us: browsers and
        aiortc end a session by DTLS, encoders by DELETE.
        """
        for item in items:
            match item:
                case ReceiverReport() | SenderReport():
                    for report in item.reports:
                        self._note_report(report, now, unix_now)
                case Nack():
                    line = self.by_ssrc.get(item.media_ssrc)
                    if line is None or line.ssrc != item.media_ssrc:
                        count_drop(self.drops, DropReason.UNKNOWN_STREAM)
                    else:
                        line.resend(item.seqs, now)
                case Pli():
                    self._ask_key_frame(item.media_ssrc, now)
                case Fir():
                    for ssrc, _ in item.entries:
                        self._ask_key_frame(ssrc, now)
                case Remb():
                    if self.steering is not None:
                        self.steering.estimate.note_remb(item.bitrate_bps, now)
                case _:
                    continue

    def _ask_key_frame(self, ssrc: int, now: float) -> None:
        line = self.by_ssrc.get(ssrc)
        if line is None:
            count_drop(self.drops, DropReason.UNKNOWN_STREAM)
        else:
            line.ask_key_frame(now)

    def _note_report(self, report: ReceptionReport, now: float, unix_now: float) -> None:
        line = self.by_ssrc.get(report.ssrc)
        if line is None:
            return
        if line.ssrc != report.ssrc:
            if self.steering is not None and line is self.steering.line:
                self.steering.note_repeats_report(report, now)
            return
        line.fraction_lost = report.fraction_lost
        line.packets_lost = report.packets_lost
        line.jitter = report.jitter
        trip = round_trip_s(report, ntp_from_unix(unix_now))
        if trip is not None:
            self.rtt_s = trip
            for other in self.lines:
                other.rtt_s = trip
        if self.steering is not None and line is self.steering.line:
            self.steering.note_report(report, trip, now)

    def handle_timer(self, now: float, unix_now: float) -> None:
        """Send sender reports when due. Called some 10 times a second."""
        for line in self.lines:
            line.handle_timer(now)
        if self.steering is not None and self.peer.sender is not None:
            self.steering.handle_timer(now)
        if self.peer.sender is None or now - self._report_at < REPORT_INTERVAL_S:
            return
        self._report_at = now
        ntp = ntp_from_unix(unix_now)
        for line in self.lines:
            rtp_ts = line.timestamp_at(unix_now)
            if rtp_ts is None or line.state is LineState.IDLE:
                continue
            self.peer.send_rtcp(
                build_sr(line.ssrc, ntp, rtp_ts, line.packets, line.payload_bytes)
                + build_sdes(line.ssrc, self._cname)
            )

    def close(self) -> None:
        """Let go of every source."""
        for line in self.lines:
            line.close()
        self.source = None

    def stats(self) -> dict[str, Any]:
        """Figures for the control API: one entry a line."""
        return {
            "wish": self.wish,
            "camera": self.source.camera.name if self.source is not None else None,
            "rtt_ms": round(self.rtt_s * 1000, 1) if self.rtt_s is not None else None,
            **(self.steering.stats() if self.steering is not None else {}),
            "drops": {reason.value: n for reason, n in self.drops.items()},
            "tracks": [self._line_stats(line) for line in self.lines],
        }

    def _line_stats(self, line: OutLine) -> dict[str, Any]:
        codec = line.codec
        return {
            "kind": line.kind,
            "state": line.state.value,
            "codec": codec.name if codec is not None else None,
            "ssrc": line.ssrc,
            "rid": line.layer.rid if line.layer is not None else None,
            "height": line.layer.height if line.layer is not None else None,
            "packets": line.packets,
            "bytes": line.payload_bytes,
            "resent": line.resent,
            "nacks": line.nacks,
            "plis": line.plis,
            "switches": line.switches,
            "lost": line.packets_lost,
            "fraction_lost": round(line.fraction_lost / 256, 4),
            "jitter_ms": round(line.jitter / line.rewriter.clock_rate * 1000, 2),
            "drops": {reason.value: n for reason, n in line.drops.items()},
        }
