"""What another media worker is sent when it pulls a camera: every layer, on its own line.

A pull is WHEP between workers, with JSON where WHEP has SDP: an answer to a browser has one
picture line and cannot say which SSRC is which simulcast layer, and it names codecs as the
viewer offered them, while the puller must know them exactly as the publisher sends them. So
every layer is an `OutLine` of its own with the publisher's payload types. All else is a
viewer's: cached key frame first, NACK and RTX from the ring, PLI merged with those of local
viewers, sender reports on our clock, so sound and picture stay together over any number of
hops.

A feed belongs to one publisher's session and ends with it; whoever pulls hears of the
camera's return by the event stream and pulls again.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from media.drops import DropReason, Drops, count_drop
from media.negotiation import Codec, Line, PlayPlan, Remote
from media.rtp.feedback import round_trip_s
from media.rtp.rtcp import (
    Fir,
    Item,
    Nack,
    Pli,
    ReceiverReport,
    ReceptionReport,
    SenderReport,
    build_sdes,
    build_sr,
    ntp_from_unix,
)
from media.subscriber import LineState, OutLine
from media.track import Track

if TYPE_CHECKING:
    from media.peer import Peer
    from media.publisher import Publisher
    from media.rooms import Room
    from media.udp import UdpPort
    from media.viewer import Viewer

REPORT_INTERVAL_S: Final = 1.0

RESEND_ROOM_BYTES: Final = 200_000
"""What may be resent each timer call: links between workers are wide, and the limit on
packets a second still holds."""


class PullOffer(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the pulling worker says of itself. It starts ICE and DTLS."""

    ufrag: str
    fingerprints: list[tuple[str, str]]
    """(hash function, colon-separated hex)."""
    identity: str
    """Who pulls, for people."""


class PullLine(msgspec.Struct, frozen=True):
    """One stream of the feed."""

    rid: str
    """Simulcast layer; "" where there is only one."""
    ssrc: int
    rtx_ssrc: int
    """0: resends come on `ssrc` itself."""


class PullTrack(msgspec.Struct, frozen=True):
    """The picture or the sound."""

    kind: str
    codecs: list[Codec]
    """Everything the publisher may send, its payload types kept."""
    lines: list[PullLine]


class PullAnswer(msgspec.Struct, frozen=True):
    """What the pulled worker says: where to check, and what will come."""

    session: str
    publisher: str
    """The session there that publishes the camera; the pull ends with it."""
    ufrag: str
    pwd: str
    fingerprints: list[tuple[str, str]]
    candidates: list[tuple[str, int]]
    """(IP, UDP port), the likeliest first."""
    tracks: list[PullTrack]


@dataclass(slots=True)
class FeedLine:
    """One layer of the camera and the line it goes out on."""

    track: Track
    rid: str
    out: OutLine


class Feed:
    """One pull, at the end that has the camera. Owned by the relay like any session."""

    def __init__(
        self,
        session_id: str,
        room: Room[Publisher, Viewer],
        identity: str,
        publisher: Publisher,
        cname: str,
    ) -> None:
        self.id = session_id
        self.room = room
        self.identity = identity
        self.publisher = publisher
        self.plan = PlayPlan("", Remote("", "", (), (), False), None, None)
        self.etag = ""
        self.peer: Peer
        self.lines: list[FeedLine] = []
        self.by_ssrc: dict[int, OutLine] = {}
        self.drops: Drops = {}
        self.rtt_s: float | None = None
        self._cname = cname
        self._report_at = 0.0
        self._wanted: frozenset[str] | None = None
        """The rids that the puller's viewers need; None: all."""

    def set_wanted(self, rids: Iterable[str], now: float) -> None:
        """Send only these simulcast layers from now on, and count as their viewer."""
        self._wanted = frozenset(rids)
        self.publisher.far_wants[self.id] = self._wanted
        self.follow(now)

    def open_lines(self, port: UdpPort, rng: random.Random) -> list[PullTrack]:
        """Make a line for each layer that the publisher announced, and say which is which."""
        tracks = []
        used = {0}
        for track in self.publisher.tracks:
            codecs = track.line.codecs
            lines = []
            for rid in track.line.rids or ("",):
                ssrc = _fresh(rng, used)
                rtx_ssrc = _fresh(rng, used) if any(c.rtx is not None for c in codecs) else 0
                line = Line(track.kind, "", codecs, {}, ssrc=ssrc, rtx_ssrc=rtx_ssrc)
                out = OutLine(line, self.peer, port, rng)
                self.lines.append(FeedLine(track, rid, out))
                self.by_ssrc[ssrc] = out
                if rtx_ssrc:
                    self.by_ssrc[rtx_ssrc] = out
                lines.append(PullLine(rid, ssrc, rtx_ssrc))
            tracks.append(PullTrack(track.kind, list(codecs), lines))
            if track.kind == "video":
                # Until the other worker knows better: what is stopped comes late when wanted.
                self.publisher.far_wants[self.id] = frozenset(track.line.rids)
        return tracks

    def follow(self, now: float) -> None:
        """Begin each line whose layer has packets. Not called during a receive burst."""
        if self.peer.sender is None:
            return
        for line in self.lines:
            if line.rid and self._wanted is not None and line.rid not in self._wanted:
                line.out.source_gone(line.track)
                continue
            for layer in line.track.layers:
                if layer.rid == line.rid and layer.first_at is not None:
                    line.out.aim(layer, now)

    def handle_rtp(self, data: memoryview, size: int, now: float) -> None:
        """A puller has nothing to send."""
        count_drop(self.drops, DropReason.UNEXPECTED)

    def handle_rtcp(self, items: list[Item], now: float, unix_now: float) -> None:
        """Take one authenticated compound packet, parsed."""
        for item in items:
            match item:
                case ReceiverReport() | SenderReport():
                    for report in item.reports:
                        self._note_report(report, unix_now)
                case Nack():
                    out = self.by_ssrc.get(item.media_ssrc)
                    if out is None or out.ssrc != item.media_ssrc:
                        count_drop(self.drops, DropReason.UNKNOWN_STREAM)
                    else:
                        out.resend(item.seqs, now)
                case Pli():
                    self._ask_key_frame(item.media_ssrc, now)
                case Fir():
                    for ssrc, _ in item.entries:
                        self._ask_key_frame(ssrc, now)
                case _:
                    continue

    def _ask_key_frame(self, ssrc: int, now: float) -> None:
        out = self.by_ssrc.get(ssrc)
        if out is None:
            count_drop(self.drops, DropReason.UNKNOWN_STREAM)
        else:
            out.ask_key_frame(now)

    def _note_report(self, report: ReceptionReport, unix_now: float) -> None:
        out = self.by_ssrc.get(report.ssrc)
        if out is None or out.ssrc != report.ssrc:
            return
        out.fraction_lost = report.fraction_lost
        out.packets_lost = report.packets_lost
        out.jitter = report.jitter
        trip = round_trip_s(report, ntp_from_unix(unix_now))
        if trip is not None:
            self.rtt_s = trip
            for line in self.lines:
                line.out.rtt_s = trip

    def handle_timer(self, now: float, unix_now: float) -> None:
        """Send sender reports when due. Called some 10 times a second."""
        for line in self.lines:
            line.out.resend_room_bytes = RESEND_ROOM_BYTES
            line.out.handle_timer(now)
        if self.peer.sender is None or now - self._report_at < REPORT_INTERVAL_S:
            return
        ntp = ntp_from_unix(unix_now)
        for line in self.lines:
            out = line.out
            rtp_ts = out.timestamp_at(unix_now)
            if rtp_ts is None or out.state is LineState.IDLE:
                continue
            self._report_at = now
            self.peer.send_rtcp(
                build_sr(out.ssrc, ntp, rtp_ts, out.packets, out.payload_bytes)
                + build_sdes(out.ssrc, self._cname)
            )

    def close(self) -> None:
        """Let go of every layer."""
        self.publisher.far_wants.pop(self.id, None)
        for line in self.lines:
            line.out.close()

    def stats(self) -> dict[str, Any]:
        """Figures for the control API: one entry a line."""
        return {
            "camera": self.publisher.camera.name,
            "rtt_ms": round(self.rtt_s * 1000, 1) if self.rtt_s is not None else None,
            "wanted": sorted(self._wanted) if self._wanted is not None else None,
            "drops": {reason.value: n for reason, n in self.drops.items()},
            "tracks": [
                {
                    "kind": line.out.kind,
                    "rid": line.rid,
                    "state": line.out.state.value,
                    "ssrc": line.out.ssrc,
                    "packets": line.out.packets,
                    "bytes": line.out.payload_bytes,
                    "resent": line.out.resent,
                    "nacks": line.out.nacks,
                    "plis": line.out.plis,
                    "lost": line.out.packets_lost,
                    "drops": {reason.value: n for reason, n in line.out.drops.items()},
                }
                for line in self.lines
            ],
        }


def _fresh(rng: random.Random, used: set[int]) -> int:
    """An SSRC that is not in `used` yet, put there: two of one key must never be equal."""
    while (ssrc := rng.randrange(1, 1 << 32)) in used:
        continue
    used.add(ssrc)
    return ssrc
