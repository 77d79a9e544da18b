"""A publisher's session: which packet belongs to which stream, and feedback to the sender.

Streams are found by SSRC. A new SSRC is placed by the RTX payload type, the mid and rid
header extensions, the offer's SSRC lines, and last by payload type where that is not
ambiguous (browsers repeat payload types across lines, so it comes last). Streams are
bounded, and only authenticated packets get this far.

Owned by the relay; packets come in from its receive loop, feedback leaves by `feed_back`.
RFC 8843 §9.2 (association), RFC 8852 (rid), RFC 4588 (RTX).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from media.drops import DropReason, Drops, count_drop
from media.layers import WantedLayers, wanted_layers
from media.negotiation import Line, PublishPlan
from media.rtp.feedback import PublisherClock, round_trip_s
from media.rtp.packet import ExtensionUri, extension_text, extension_u16, parse_header
from media.rtp.receive import TransportRecorder
from media.rtp.rtcp import (
    Bye,
    Item,
    ReceiverReport,
    SenderReport,
    build_fir,
    build_nack,
    build_pli,
    build_remb,
    build_rr,
    build_sdes,
    ntp_from_unix,
)
from media.steering import want_of
from media.track import Layer, Track

if TYPE_CHECKING:
    from media.peer import Peer
    from media.rooms import Camera, Room

MAX_STREAMS: Final = 16
"""SSRCs of one publisher: two lines, three layers with RTX each, and room for changes."""

REPORT_INTERVAL_S: Final = 1.0
JUDGE_INTERVAL_S: Final = 1.0
"""How often it is considered which layers anybody needs."""
REMB_BPS: Final = 12_000_000
"""Ceiling told to senders that estimate by REMB; what arrives above it nobody can watch."""
REMB_FLOOR_BPS: Final = 150_000
REMB_START_BPS: Final = 3_000_000
DEFAULT_RTT_S: Final = 0.1

_layer_numbers = count(1)


class _Lookup:
    """What one line's packets are recognised by."""

    __slots__ = ("codecs", "line", "mid_id", "rid_id", "rrid_id", "rtx", "track", "twcc_id")

    def __init__(self, line: Line, track: Track) -> None:
        self.line = line
        self.track = track
        self.codecs = line.by_payload_type()
        self.rtx = line.rtx_types()
        self.mid_id = line.extensions.get(ExtensionUri.MID, 0)
        self.rid_id = line.extensions.get(ExtensionUri.RID, 0)
        self.rrid_id = line.extensions.get(ExtensionUri.REPAIRED_RID, 0)
        self.twcc_id = line.extensions.get(ExtensionUri.TRANSPORT_CC, 0)


class _Stream:
    """One SSRC: a layer's media, or its RTX."""

    __slots__ = ("is_rtx", "layer", "lookup", "packets")

    def __init__(self, layer: Layer | None, lookup: _Lookup, is_rtx: bool) -> None:
        self.layer = layer
        self.lookup = lookup
        self.is_rtx = is_rtx
        self.packets = 0


class Publisher:
    """One WHIP session. `on_stream` is called when a layer sends its first packet."""

    is_pull = False
    """Whether the camera comes from another media worker (media/pull.py)."""

    def __init__(
        self,
        session_id: str,
        room: Room[Publisher, Any],
        camera: Camera[Publisher],
        identity: str,
        plan: PublishPlan,
        own_ssrc: int,
        cname: str,
        on_stream: Callable[[Publisher, Layer], None],
        on_bye: Callable[[Publisher], None],
    ) -> None:
        self.id = session_id
        self.room = room
        self.camera = camera
        self.identity = identity
        self.plan = plan
        self.etag = ""
        self.peer: Peer
        self.own_ssrc = own_ssrc
        self.video = Track("video", plan.video) if plan.video is not None else None
        self.audio = Track("audio", plan.audio) if plan.audio is not None else None
        self.drops: Drops = {}
        self.rtt_s = DEFAULT_RTT_S
        self.nacks_sent = 0
        self.plis_sent = 0
        self.clock = PublisherClock()
        self.dirty: set[Layer] | None = None
        """Layers with a burst to fan out. The relay's own set, shared by all publishers."""
        self._cname = cname
        self._lookups = [
            _Lookup(track.line, track) for track in (self.video, self.audio) if track is not None
        ]
        self._streams: dict[int, _Stream] = {}
        self._recorder = TransportRecorder()
        self._twcc_id = next((x.twcc_id for x in self._lookups if x.twcc_id), 0)
        self._wants_remb = not self._twcc_id
        self._remb_bps = float(REMB_START_BPS)
        self._remb_lost = 0
        self._remb_packets = 0
        self._on_stream = on_stream
        self._on_bye = on_bye
        self._report_at = 0.0
        self._judged_at = 0.0
        self._wanted = WantedLayers()
        self.far_wants: dict[str, frozenset[str]] = {}
        """The rids that each worker which pulls this camera wants. Written by its feed."""
        self._fir_count = 0

    @property
    def layers(self) -> list[Layer]:
        return [layer for x in self._lookups for layer in x.track.layers]

    @property
    def tracks(self) -> list[Track]:
        return [x.track for x in self._lookups]

    # Packets in.

    def handle_rtp(self, data: memoryview, size: int, now: float) -> None:
        """Take one authenticated RTP packet, which lies in the first `size` bytes of `data`."""
        header = parse_header(data, size)
        if header is None:
            count_drop(self.drops, DropReason.MALFORMED)
            return
        payload_type, marker, seq, timestamp, ssrc, extensions, start, end = header
        if self._twcc_id and extensions:
            number = extension_u16(data, extensions, start, self._twcc_id)
            if number is not None:
                self._recorder.record(number, now)
        stream = self._streams.get(ssrc)
        if stream is None:
            stream = self._place(data, payload_type, ssrc, extensions, start)
            if stream is None:
                count_drop(self.drops, DropReason.UNKNOWN_STREAM)
                return
        stream.packets += 1
        layer = stream.layer
        if stream.is_rtx:
            if end - start < 2:
                return  # padding alone: a bandwidth probe
            original = stream.lookup.rtx.get(payload_type)
            if layer is None or original is None:
                count_drop(self.drops, DropReason.UNKNOWN_STREAM)
                return
            seq = data[start] << 8 | data[start + 1]
            payload_type = original
            start += 2
        elif layer is None:
            return
        if payload_type != layer.codec.payload_type:
            codec = stream.lookup.codecs.get(payload_type)
            if codec is None:
                count_drop(self.drops, DropReason.UNKNOWN_CODEC)
                return
            layer.set_codec(codec)
            self._on_stream(self, layer)
        is_first = layer.first_at is None
        dropped = layer.receive(seq, timestamp, marker, bytes(data[start:end]), now, stream.is_rtx)
        if dropped is not None:
            count_drop(self.drops, dropped)
            return
        if self.dirty is not None:
            self.dirty.add(layer)
        if is_first:
            self._on_stream(self, layer)

    def _place(
        self, data: memoryview, payload_type: int, ssrc: int, extensions: int, start: int
    ) -> _Stream | None:
        """Find out what a new SSRC is. None: cannot be told from this packet."""
        if len(self._streams) >= MAX_STREAMS:
            return None
        lookup = self._find_line(data, payload_type, ssrc, extensions, start)
        if lookup is None:
            return None
        track = lookup.track
        if payload_type in lookup.rtx:
            stream = _Stream(self._repaired(data, ssrc, extensions, start, lookup), lookup, True)
            if stream.layer is None:
                return None  # what it repairs is not known yet; the next packet may tell
            self._streams[ssrc] = stream
            return stream
        codec = lookup.codecs.get(payload_type)
        if codec is None:
            return None
        rid = self.rid_of(data, ssrc, extensions, start, lookup.rid_id)
        if lookup.line.rids and rid not in lookup.line.rids:
            return None
        same = [layer for layer in track.layers if layer.rid == rid]
        for old in same:
            # The sender began anew with another SSRC: the new stream takes its place.
            self._retire(track, old)
        layer = Layer(
            next(_layer_numbers), track.kind, ssrc, codec, rid, self.clock, self._ask_key_frame
        )
        track.add_layer(layer)
        stream = self._streams[ssrc] = _Stream(layer, lookup, False)
        return stream

    def _retire(self, track: Track, old: Layer) -> None:
        track.layers.remove(old)
        for line in (*old.lines, *old.waiting):
            line.source_gone(track)
        for ssrc in [s for s, stream in self._streams.items() if stream.layer is old]:
            del self._streams[ssrc]

    def _find_line(
        self, data: memoryview, payload_type: int, ssrc: int, extensions: int, start: int
    ) -> _Lookup | None:
        for lookup in self._lookups:
            mid = extension_text(data, extensions, start, lookup.mid_id)
            if mid is not None and mid == lookup.line.mid:
                return lookup
        for lookup in self._lookups:
            if ssrc in lookup.line.ssrcs:
                return lookup
        fitting = [x for x in self._lookups if payload_type in x.codecs or payload_type in x.rtx]
        return fitting[0] if len(fitting) == 1 else None

    def _repaired(
        self, data: memoryview, ssrc: int, extensions: int, start: int, lookup: _Lookup
    ) -> Layer | None:
        """The layer that an RTX stream repairs."""
        layers = lookup.track.layers
        repaired = self.repaired_ssrc(ssrc)
        if repaired is not None:
            return next((layer for layer in layers if layer.ssrc == repaired), None)
        rid = extension_text(data, extensions, start, lookup.rrid_id)
        if rid is not None:
            return next((layer for layer in layers if layer.rid == rid), None)
        for semantics, group in lookup.line.ssrc_groups:
            if semantics == "FID" and len(group) == 2 and group[1] == ssrc:
                return next((layer for layer in layers if layer.ssrc == group[0]), None)
        return layers[0] if len(layers) == 1 and not lookup.line.rids else None

    def rid_of(self, data: memoryview, ssrc: int, extensions: int, start: int, rid_id: int) -> str:
        """Which simulcast layer a new stream is; "" where there is only one."""
        return extension_text(data, extensions, start, rid_id) or ""

    def repaired_ssrc(self, ssrc: int) -> int | None:
        """The stream that an RTX stream is known to repair without looking into it."""
        return None

    def handle_rtcp(self, items: list[Item], now: float, unix_now: float) -> None:
        """Take one authenticated compound packet, parsed."""
        for item in items:
            match item:
                case SenderReport():
                    stream = self._streams.get(item.ssrc)
                    if stream is not None and stream.layer is not None and not stream.is_rtx:
                        layer = stream.layer
                        layer.clock.update(item, layer.receiver.highest_ts, unix_now)
                        layer.receiver.note_sender_report(item.ntp, now)
                    self._note_reports(item.reports, unix_now)
                case ReceiverReport():
                    self._note_reports(item.reports, unix_now)
                case Bye():
                    gone = {layer.ssrc for layer in self.layers}
                    if gone and gone <= set(item.ssrcs) | {
                        layer.ssrc for layer in self.layers if layer.first_at is None
                    }:
                        self._on_bye(self)
                        return
                case _:
                    continue

    def _note_reports(self, reports: tuple[Any, ...], unix_now: float) -> None:
        for report in reports:
            trip = round_trip_s(report, ntp_from_unix(unix_now))
            if trip is not None:
                self.rtt_s = trip

    # Feedback out.

    def _ask_key_frame(self, layer: Layer) -> None:
        """PLI where agreed, else FIR: one of the two every browser and encoder knows."""
        self.plis_sent += 1
        if "nack pli" in layer.codec.feedback or "ccm fir" not in layer.codec.feedback:
            self.peer.send_rtcp(self._framed(build_pli(self.own_ssrc, layer.ssrc)))
        else:
            self._fir_count += 1
            self.peer.send_rtcp(self._framed(build_fir(self.own_ssrc, layer.ssrc, self._fir_count)))

    def _framed(self, feedback: bytes) -> bytes:
        """A compound packet around feedback: some stacks want an RR in front (RFC 3550 §6.1)."""
        return build_rr(self.own_ssrc) + feedback

    def feed_back(self, now: float) -> None:
        """Send the NACKs, transport-wide feedback, reports and key-frame requests now due.

        Called by the relay's timer, some 50 times a second.
        """
        peer = self.peer
        if peer.sender is None:
            return
        parts: list[bytes] = []
        for layer in self.layers:
            receiver = layer.receiver
            deadline = receiver.next_deadline()
            if deadline is not None and deadline <= now:
                requests = receiver.poll(now, self.rtt_s)
                if requests.seqs:
                    self.nacks_sent += len(requests.seqs)
                    parts.append(build_nack(self.own_ssrc, layer.ssrc, requests.seqs))
                if requests.needs_key_frame and layer.is_video:
                    layer.ask_key_frame(now)
            layer.handle_timer(now)
        deadline = self._recorder.next_deadline()
        if deadline is not None and deadline <= now:
            media_ssrc = next((layer.ssrc for layer in self.layers if layer.is_video), 0)
            feedback = self._recorder.feedback(self.own_ssrc, media_ssrc, now)
            if feedback is not None:
                parts.append(feedback)
        if now - self._report_at >= REPORT_INTERVAL_S and self.layers:
            self._report_at = now
            peer.send_rtcp(self._reports(now) + b"".join(parts))
        elif parts:
            peer.send_rtcp(self._framed(b"".join(parts)))

    def _reports(self, now: float) -> bytes:
        layers = self.layers
        reports = [layer.receiver.report(now) for layer in layers]
        out = build_rr(self.own_ssrc, reports) + build_sdes(self.own_ssrc, self._cname)
        if self._wants_remb:
            worst = max((report.fraction_lost for report in reports), default=0) / 256
            # Loss alone says what fits: up 8 % a second, down with what got lost, as in
            # draft-ietf-rmcat-gcc-02 §6.
            if worst > 0.1:
                self._remb_bps *= 1 - 0.5 * worst
            elif worst < 0.02:
                self._remb_bps *= 1.08
            self._remb_bps = min(max(self._remb_bps, REMB_FLOOR_BPS), REMB_BPS)
            video = [layer.ssrc for layer in layers if layer.is_video]
            if video:
                out += build_remb(self.own_ssrc, int(self._remb_bps), video)
        return out

    def judge_layers(self, now: float) -> tuple[str, ...] | None:
        """The rids that somebody needs, when the publisher should hear of a change.

        Called by the relay's timer; judges once a second. None for a plain picture.
        """
        video = self.video
        if video is None or len(video.line.rids) < 2 or now - self._judged_at < JUDGE_INTERVAL_S:
            return None
        self._judged_at = now
        sent = sorted(
            (layer for layer in video.layers if layer.first_at is not None),
            key=lambda layer: (layer.height, layer.bitrate_bps),
        )
        wants = [want_of(line) for line in video.subscribers]
        numbers = [layer.number for layer in sent]
        wanted = wanted_layers(numbers, wants)
        rids = {layer.rid for layer in sent if layer.number in wanted}
        if any(want.goal is not None and want.goal == numbers[-1] for want in wants):
            # Somebody would take more than ever came: what has not been sent yet is wanted.
            rids |= set(video.line.rids) - {layer.rid for layer in sent}
        for far in self.far_wants.values():
            rids |= far
        return self._wanted.update(video.line.rids, rids, now)

    def stats(self, now: float) -> dict[str, Any]:
        """Figures for the control API: one entry a stream."""
        return {
            "rtt_ms": round(self.rtt_s * 1000, 1),
            "nacks_sent": self.nacks_sent,
            "plis_sent": self.plis_sent,
            "wanted": self._wanted.told,
            "drops": {reason.value: n for reason, n in self.drops.items()},
            "tracks": [self._layer_stats(layer, now) for layer in self.layers],
        }

    def _layer_stats(self, layer: Layer, now: float) -> dict[str, Any]:
        receiver = layer.receiver
        return {
            "kind": layer.kind,
            "codec": layer.codec.name,
            "ssrc": layer.ssrc,
            "rid": layer.rid,
            "width": layer.width,
            "height": layer.height,
            "packets": receiver.packets,
            "bytes": receiver.octets,
            "lost": receiver.lost,
            "recovered": receiver.recovered,
            "given_up": receiver.given_up,
            "duplicates": receiver.duplicates,
            "jitter_ms": round(receiver.jitter / receiver.clock_rate * 1000, 2),
            "key_frames": layer.key_frame_count,
            "key_frame_requests": layer.key_requests.sent,
            "bitrate_bps": round(layer.bitrate_bps),
            "viewers": len(layer.lines),
            "waiting": len(layer.waiting),
            "silent_ms": round((now - layer.last_at) * 1000) if layer.last_at else None,
        }
