"""One line of a viewer: the picture or the sound it is sent, whatever camera that is.

A line keeps its SSRC for life and takes packets from one layer at a time. It moves:

    IDLE ── follow ──► WAITING ── key frame ──► LIVE ── follow another ──► LIVE + target
                          │  cached key frame       ▲
                          └────────► REPLAYING ─────┘ caught up

WAITING: nothing is sent yet. REPLAYING: the cached key frame and what followed it leave
in small portions, live packets wait their turn in the ring. LIVE with a target: the old
source goes on until the new one can begin with a key frame, so a cut shows no black.
If that key frame comes in the middle of a frame of the old source, the old frame is
finished first (`FRAME_END_S` at most), so that no receiver is left with half of one.
A line that its viewer's link cannot carry is paused, always at the end of a frame.
On a link known to be narrow (`pace_bps`) every new source begins by REPLAYING: its key
frame is worth half a second of such a link, and a burst of it would be lost.

In the steady state a burst costs one `protect` and one `queue` for each run; everything
else happens when something changes.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from media.drops import DropReason, Drops, count_drop
from media.extensions import ExtensionIds, ids_of, write_block
from media.negotiation import Codec, Line, match_codec
from media.rtp.feedback import ResendLimiter
from media.rtp.history import Packet
from media.rtp.keyframe import shift_picture_ids
from media.rtp.rewrite import Position, Rewriter, position_of
from media.srtp import HEADER_BYTES, OutPacket
from media.track import LAYER_SILENCE_S, Burst, Layer, Track, plan_runs

if TYPE_CHECKING:
    from media.peer import Peer
    from media.udp import UdpPort

REPLAY_PORTION: Final = 24
"""Packets of a replay that leave at once: some 28 kB, a quarter of a small router's queue."""

REPLAY_INTERVAL_S: Final = 0.004
"""Between two portions: 55 Mbit/s."""

PACE_BURST_BYTES: Final = 3_000
"""What a paced replay may send at once."""

PACE_FACTOR: Final = 1.5
"""A paced replay sends this many times the layer's rate at least, so that it catches up."""

FRESH_REPLAY_BYTES: Final = 300_000
"""A cached key frame with more than this behind it is old: a new one comes sooner to the
eye than a second of catching up, and serves all who join at once. About one second at
2.5 Mbit/s. Of an encoder that hears no requests the whole cache is replayed (2 MB):
Chromium showed the first picture of FFmpeg's H.264 after 63 ms so, 690 ms by waiting, and
decoded every frame of the squeezed three seconds."""

KEY_FRAME_PATIENCE_S: Final = 0.6
"""How long to wait for a requested key frame before an old cached one is used after all."""

FRAME_END_S: Final = 0.06
"""How long an unfinished frame of the old source holds up a switch: two frames' time."""

MAX_PADDING_PACKETS: Final = 40
"""At a time, ten times a second: at most 3.6 Mbit/s of padding."""

RECENT_KEY_S: Final = 0.25
"""A key frame this young may begin a switch between layers of one picture: an older one
would show the viewer again what has been shown."""

DEFAULT_RTT_S: Final = 0.1


class LineState(StrEnum):
    """Where a line stands (see the module's diagram)."""

    IDLE = "idle"
    WAITING = "waiting"
    REPLAYING = "replaying"
    LIVE = "live"


class OutLine:
    """One m-line towards one viewer. `send_burst` is the hot path of the whole server."""

    __slots__ = (
        "_first",
        "_held_since",
        "_is_resuming",
        "_limiter",
        "_pace_room",
        "_paced_at",
        "_port",
        "_replay_next",
        "_rtx_seq",
        "_sent_at",
        "_sources",
        "codec",
        "drops",
        "extension_ids",
        "first_sent_at",
        "fraction_lost",
        "goal",
        "is_paused",
        "jitter",
        "kind",
        "last",
        "layer",
        "line",
        "nacks",
        "pace_bps",
        "packets",
        "packets_lost",
        "payload_bytes",
        "payload_type",
        "peer",
        "plis",
        "repeat_bytes",
        "resend_room_bytes",
        "resent",
        "rewriter",
        "rtt_s",
        "rtx_ssrc",
        "ssrc",
        "state",
        "switches",
        "target",
        "track",
        "waiting_since",
    )

    def __init__(self, line: Line, peer: Peer, port: UdpPort, rng: random.Random) -> None:
        self.line = line
        self.kind = line.kind
        self.ssrc = line.ssrc
        self.rtx_ssrc = line.rtx_ssrc
        self.peer = peer
        self.state = LineState.IDLE
        self.track: Track | None = None
        self.layer: Layer | None = None
        """Where packets come from now."""
        self.target: Layer | None = None
        """Where they will come from at its next key frame."""
        self.waiting_since = 0.0
        self.goal: int | None = None
        """Number of the layer it would show if that was sent. Written by its steering."""
        self.pace_bps: float | None = None
        """How fast a new source may begin; None: the link is wide. Written by its steering."""
        self.is_paused = False
        """Left out for a while: the viewer's link is too narrow."""
        clock_rate = line.codecs[0].clock_rate
        # Below 2**15, so that a receiver that misses the first packets still guesses the
        # roll-over counter right (RFC 3711 §3.3.1).
        self.rewriter = Rewriter(rng.randrange(1, 1 << 15), rng.randrange(1 << 31), clock_rate)
        self.codec: Codec | None = None
        self.payload_type = 0
        self.extension_ids: ExtensionIds | None = None
        """What packets of the present codec carry; None where a resend must repeat every byte."""
        self.last: Packet | None = None
        """The newest packet sent of the current source."""
        self.rtt_s = DEFAULT_RTT_S
        # Counters.
        self.packets = 0
        self.payload_bytes = 0
        self.repeat_bytes = 0
        """Payload of resends and padding."""
        self.resend_room_bytes = 100_000.0
        """What may be resent now; filled up by the session's timer."""
        self.resent = 0
        self.nacks = 0
        self.plis = 0
        self.switches = 0
        self.first_sent_at: float | None = None
        self.fraction_lost = 0
        self.packets_lost = 0
        self.jitter = 0
        self.drops: Drops = {}
        self._port = port
        self._sources: OrderedDict[int, Layer] = OrderedDict()
        self._replay_next = 0
        self._rtx_seq = rng.randrange(1, 1 << 15)
        self._limiter = ResendLimiter()
        self._sent_at = 0.0
        self._first: Packet | None = None
        """Where the target begins, while a frame of the old source is being finished."""
        self._held_since = 0.0
        self._is_resuming = False
        self._pace_room = 0.0
        self._paced_at = 0.0

    # What to show.

    def follow(self, track: Track | None, now: float, layer: Layer | None = None) -> None:
        """Show `track` from its next possible moment on; None: nothing.

        `layer` is the one to show; None: the tallest that sends.
        """
        if track is not self.track:
            if self.track is not None:
                self.track.subscribers.remove(self)
            self.track = track
            if track is not None:
                track.subscribers.append(self)
        if layer is None and track is not None:
            layer = track.best_layer(now, self.layer)
        if layer is None:
            self._leave_target()
            if track is None:
                self._leave_layer()
                self.state = LineState.IDLE
            return
        self.aim(layer, now)

    def aim(self, layer: Layer, now: float) -> None:
        """Move to `layer`: at once where that shows a whole picture, else at its key frame."""
        if layer is self.layer:
            self._leave_target()
            self.is_paused = False
            if self in layer.leaving:
                layer.leaving.remove(self)
            return
        if layer is self.target:
            return
        self._leave_target()
        if match_codec(self.line.codecs, layer.codec) is None:
            count_drop(self.drops, DropReason.NO_COMMON_CODEC)
            return
        self.waiting_since = now
        if layer.is_video and self._can_replay(layer, now):
            if self.layer is not None and self._is_in_frame(self.layer):
                self.target = layer
                self._hold(self.layer, layer.key_frames.packets()[0], now)
            else:
                self._replay(layer, now)
            return
        self._is_resuming, self.is_paused = self.is_paused, False
        self.target = layer
        layer.waiting.append(self)
        if self.state is LineState.IDLE:
            self.state = LineState.WAITING
        if layer.is_video:
            layer.ask_key_frame(now)

    def begin(self, layer: Layer, first: Packet) -> None:
        """Go live on `layer` with the packet `first`, which is in its current burst.

        Called by the layer with `self` already off its waiting list.
        """
        old = self.layer
        if old is not None and self._is_in_frame(old):
            self._hold(old, first, first.arrived)
            return
        self.target = None
        self._enter(layer, first, None, first.arrived)
        if layer.is_video and self.pace_bps is not None:
            self._start_paced(first)
            return
        layer.lines.append(self)
        self.state = LineState.LIVE

    def _start_paced(self, first: Packet) -> None:
        """Send from the ring, in portions, by the relay's timer."""
        self._replay_next = first.seq
        self.state = LineState.REPLAYING

    def _hold(self, old: Layer, first: Packet, now: float) -> None:
        """Begin the target with `first`, but only when `old` has finished its frame."""
        self._first = first
        self._held_since = now
        if self not in old.leaving:
            old.leaving.append(self)

    def _is_in_frame(self, layer: Layer) -> bool:
        """Whether more of a frame of `layer`, begun on this line, is on its way."""
        if not layer.is_video or self not in layer.lines:
            return False
        last = self.last
        return layer.has_burst or (last is not None and not last.marker)

    def leave_frame_end(self, now: float) -> None:
        """The old source's frame is whole (or will not be): pause, or begin the target.

        Called by the old layer after it sent the end of the frame, and by the timer.
        """
        first, target = self._first, self.target
        self._first = None
        self._leave_layer()
        if first is None or target is None:
            self.state = LineState.WAITING
            return
        if target.ring.get(first.seq) is not first:
            self.state = LineState.WAITING
            target.waiting.append(self)  # it began anew meanwhile
            return
        self.target = None
        newest = target.ring.newest
        if newest is None or newest.rtp_ts <= first.rtp_ts:
            self._enter(target, first, None, first.arrived)
        else:
            self._enter(target, first, newest, now)
        if self.pace_bps is not None or now - first.arrived > RECENT_KEY_S:
            self._start_paced(first)
            return
        moved = []
        for packet in target.since(first.seq):
            place = self._moved(
                target, packet.seq, packet.rtp_ts, 0x80 if packet.marker else 0, packet.payload
            )
            if place is not None:
                moved.append(place)
                self.last = packet
        self._send_moved(moved)
        target.lines.append(self)
        self.state = LineState.LIVE

    def pause(self, now: float) -> None:
        """Send no picture from the next frame end on, until `aim` names a layer again."""
        self._leave_target()
        self.is_paused = True
        layer = self.layer
        if layer is None:
            return
        if self._is_in_frame(layer):
            self._held_since = now
            layer.leaving.append(self)
        else:
            self._leave_layer()
            self.state = LineState.WAITING

    def source_restarted(self) -> None:
        """The layer changed codec or numbering: begin anew at its next key frame."""
        layer = self.layer
        if layer is None:
            return
        target = self.target or layer
        self._leave_target()
        self._leave_layer()
        self.state = LineState.WAITING
        self.target = target
        target.waiting.append(self)

    def source_gone(self, track: Track) -> None:
        """The publisher of `track` is gone: keep the line open and wait."""
        if self in track.subscribers:
            track.subscribers.remove(self)
        if self.track is track:
            self.track = None
        self._leave_target()
        self._leave_layer()
        self.state = LineState.IDLE

    def close(self) -> None:
        """Let go of every layer and track."""
        if self.track is not None:
            self.track.subscribers.remove(self)
            self.track = None
        self._leave_target()
        self._leave_layer()
        self._sources.clear()
        self.state = LineState.IDLE

    # Sending.

    def send_burst(self, burst: Burst, port: UdpPort) -> None:
        """Send a burst of the current layer. Called once per line and receive burst."""
        peer = self.peer
        sender = peer.sender
        destination = peer.destination
        if sender is None or destination is None:
            count_drop(self.drops, DropReason.NOT_CONNECTED, len(burst.packets))
            return
        rewriter = self.rewriter
        if burst.first_seq < rewriter.plain_from:
            self._send_mixed(burst)
            return
        packets = burst.packets
        if rewriter.picture_offset or rewriter.tl0_offset:
            assert self.codec is not None
            packets = burst.shifted(self.codec.name, rewriter.picture_offset, rewriter.tl0_offset)
        ids = self.extension_ids
        block = burst.block(ids) if ids is not None else b""
        runs, size = burst.plan(HEADER_BYTES + len(block) + sender.tag_bytes)
        at = port.reserve(size)
        sender.protect(
            port.out,
            at,
            packets,
            rewriter.seq_offset,
            rewriter.ts_offset,
            self.payload_type,
            self.ssrc,
            block,
        )
        for start, length, segment, count in runs:
            port.queue(destination, at + start, length, segment, count)
        self.packets += len(packets)
        self.payload_bytes += burst.payload_bytes
        self.last = burst.newest

    def _send_mixed(self, burst: Burst) -> None:
        """A burst with packets from before the switch: those one by one."""
        assert self.layer is not None
        moved = []
        for seq, rtp_ts, marker, payload in burst.packets:
            packet = self._moved(self.layer, seq, rtp_ts, marker, bytes(payload))
            if packet is None:
                count_drop(self.drops, DropReason.OUTDATED)
            else:
                moved.append(packet)
        self._send_moved(moved)
        self.last = burst.newest

    def _moved(
        self, layer: Layer, seq: int, rtp_ts: int, marker: int, payload: bytes
    ) -> OutPacket | None:
        """A packet with this line's numbers, or None if it has no place here."""
        place = self.rewriter.rewrite(layer.number, seq, rtp_ts)
        if place is None:
            return None
        out_seq, out_ts, picture_offset, tl0_offset = place
        if picture_offset or tl0_offset:
            payload = shift_picture_ids(layer.codec.name, payload, picture_offset, tl0_offset)
        return out_seq, out_ts, marker, payload

    def _send_moved(
        self, packets: Sequence[OutPacket], payload_type: int = -1, ssrc: int = 0
    ) -> int:
        """Send packets that carry this line's numbers already; how many left."""
        sender, destination = self.peer.sender, self.peer.destination
        if not packets:
            return 0
        if sender is None or destination is None:
            count_drop(self.drops, DropReason.NOT_CONNECTED, len(packets))
            return 0
        port = self._port
        block = b""
        if self.extension_ids is not None:
            block = write_block(
                self.extension_ids, time.monotonic(), with_playout=True, captured_unix_s=None
            )
        overhead = HEADER_BYTES + len(block) + sender.tag_bytes
        runs, size = plan_runs([len(p[3]) for p in packets], overhead)
        at = port.reserve(size)
        payload_bytes = sum(len(p[3]) for p in packets)
        if payload_type < 0:
            payload_type, ssrc = self.payload_type, self.ssrc
            self.packets += len(packets)
            self.payload_bytes += payload_bytes
        else:
            self.repeat_bytes += payload_bytes
        sender.protect(port.out, at, packets, 0, 0, payload_type, ssrc, block)
        for start, length, segment, count in runs:
            port.queue(destination, at + start, length, segment, count)
        return len(packets)

    # Replay of the cached key frame.

    def _can_replay(self, layer: Layer, now: float) -> bool:
        cache = layer.key_frames
        is_fresh = cache.size_bytes <= FRESH_REPLAY_BYTES or layer.key_requests.is_deaf
        if self.is_paused or not is_fresh:
            return False
        packets = cache.packets()
        if not packets:
            return False
        return not self._is_same_picture(layer) or now - packets[0].arrived < RECENT_KEY_S

    def _is_same_picture(self, layer: Layer) -> bool:
        """Whether `layer` is another layer of what the line shows now."""
        track = self.track
        return track is not None and self.layer in track.layers and layer in track.layers

    def _replay(self, layer: Layer, now: float) -> bool:
        packets = layer.key_frames.packets()
        newest = layer.ring.newest
        if not packets or newest is None:
            return False
        self._enter(layer, packets[0], newest, now)
        self._replay_next = packets[0].seq
        self.state = LineState.REPLAYING
        self.send_replay(now)
        return True

    def send_replay(self, now: float) -> None:
        """Send the next portion of a replay; go live when nothing is left of it.

        Never called while a burst is being received: what it brought is in the ring
        already and would be sent twice.
        """
        layer = self.layer
        if layer is None or self.state is not LineState.REPLAYING:
            return
        packets = layer.ring.since(self._replay_next)
        portion = packets[:REPLAY_PORTION]
        if self.pace_bps is not None:
            portion = self._within_pace(layer, portion, now)
        moved = []
        for packet in portion:
            place = self._moved(
                layer, packet.seq, packet.rtp_ts, 0x80 if packet.marker else 0, packet.payload
            )
            if place is not None:
                moved.append(place)
        self._send_moved(moved)
        if portion:
            self.last = portion[-1]
            self._replay_next = portion[-1].seq + 1
        if len(portion) == len(packets):
            layer.lines.append(self)
            self.state = LineState.LIVE

    def _within_pace(self, layer: Layer, packets: list[Packet], now: float) -> list[Packet]:
        """As many of `packets` as may leave now."""
        assert self.pace_bps is not None
        rate = max(self.pace_bps, layer.bitrate_bps * PACE_FACTOR) / 8
        room = min(self._pace_room + (now - self._paced_at) * rate, PACE_BURST_BYTES)
        self._paced_at = now
        portion = []
        for packet in packets:
            if room <= 0:
                break
            room -= len(packet.payload)
            portion.append(packet)
        self._pace_room = room
        return portion

    def handle_timer(self, now: float) -> None:
        """Give up waiting: for the end of a frame, or for a new key frame where an old one
        is at hand. Called some 10 times a second, never during a burst."""
        old = self.layer
        if old is not None and self in old.leaving:
            if now - self._held_since > FRAME_END_S:
                self.leave_frame_end(now)
            return
        layer = self.target
        goes_on = old is not None and now - old.last_at < LAYER_SILENCE_S
        if layer is not None and goes_on and self._is_same_picture(layer):
            return
        if (
            layer is not None
            and layer.is_video
            and now - self.waiting_since > KEY_FRAME_PATIENCE_S
            and not self._is_resuming
            and layer.key_frames.packets()
        ):
            self._leave_target()
            self._replay(layer, now)

    # Feedback from the viewer.

    def resend(self, seqs: Sequence[int], now: float) -> None:
        """Answer a NACK from the ring: each packet once per round trip, within a budget."""
        self.nacks += len(seqs)
        last = self.last
        if last is None:
            return
        rewriter = self.rewriter
        for seq16 in seqs:
            found = rewriter.find(seq16, last.seq)
            layer = self._sources.get(found[0]) if found is not None else None
            packet = layer.ring.get(found[1]) if layer is not None and found is not None else None
            if packet is None or layer is None:
                count_drop(self.drops, DropReason.FORGOTTEN)
                continue
            if layer is not self.layer and layer.is_video:
                # The new source began with a key frame: nothing before it is needed, and a
                # full link that has just been given less must not carry it.
                count_drop(self.drops, DropReason.OUTDATED)
                continue
            moved = self._moved(
                layer, packet.seq, packet.rtp_ts, 0x80 if packet.marker else 0, packet.payload
            )
            if moved is None:
                count_drop(self.drops, DropReason.OUTDATED)
                continue
            size = len(packet.payload)
            if self.resend_room_bytes < size or not self._limiter.allow(
                seq16, now, max(self.rtt_s, 0.01)
            ):
                count_drop(self.drops, DropReason.RESEND_LIMIT)
                continue
            self.resend_room_bytes -= size
            self._resend_one(moved, layer)

    def _resend_one(self, packet: OutPacket, layer: Layer) -> None:
        """By RTX where agreed (RFC 4588), else the same bytes once more."""
        codec = match_codec(self.line.codecs, layer.codec)
        if codec is None:
            return
        self.resent += 1
        out_seq, out_ts, marker, payload = packet
        if self.rtx_ssrc and codec.rtx is not None:
            self._rtx_seq += 1
            body = (out_seq & 0xFFFF).to_bytes(2, "big") + bytes(payload)
            self._send_moved([(self._rtx_seq, out_ts, marker, body)], codec.rtx, self.rtx_ssrc)
        else:
            self._send_moved([packet], codec.payload_type, self.ssrc)

    def send_padding(self, size_bytes: int) -> int:
        """Send recent packets once more by RTX, to learn what the link carries; bytes sent.

        Receivers drop what they have already. 0 where no RTX is agreed.
        """
        layer, last = self.layer, self.last
        if layer is None or last is None or self.extension_ids is None:
            return 0
        codec = match_codec(self.line.codecs, layer.codec)
        if codec is None or codec.rtx is None:
            return 0
        packets: list[OutPacket] = []
        left = size_bytes
        seq = last.seq
        while left > 0 and len(packets) < MAX_PADDING_PACKETS:
            packet = layer.ring.get(seq)
            moved = self._moved(layer, seq, packet.rtp_ts, 0, packet.payload) if packet else None
            if packet is None or moved is None:
                break
            self._rtx_seq += 1
            marker = 0x80 if packet.marker else 0
            body = (moved[0] & 0xFFFF).to_bytes(2, "big") + bytes(moved[3])
            packets.append((self._rtx_seq, moved[1], marker, body))
            left -= len(body)
            seq -= 1
        self._send_moved(packets, codec.rtx, self.rtx_ssrc)
        return size_bytes - left

    def ask_key_frame(self, now: float) -> None:
        """The viewer lost its picture."""
        self.plis += 1
        if self.layer is not None and self.layer.is_video:
            self.layer.ask_key_frame(now)

    def timestamp_at(self, unix_s: float) -> int | None:
        """This line's RTP timestamp at a moment of our clock, for its sender report.

        None while nothing is sent or the publisher has sent no report of its own.
        """
        if self.layer is None or self.last is None:
            return None
        source_ts = self.layer.clock.rtp_at(unix_s)
        return None if source_ts is None else source_ts + self.rewriter.ts_offset

    # Moving between layers.

    def _enter(self, layer: Layer, first: Packet, live: Packet | None, now: float) -> None:
        codec = match_codec(self.line.codecs, layer.codec)
        assert codec is not None, "checked by aim"
        last = self.last
        last_position: Position | None = None
        if last is not None and self.codec is not None:
            self._sent_at = last.arrived
            last_position = position_of(last, self.codec.name)
        elapsed = max(0.0, now - self._sent_at) if self._sent_at else 0.0
        self._leave_layer()
        name = layer.codec.name
        self.rewriter.switch(
            layer.number,
            position_of(first, name),
            last_position,
            elapsed,
            position_of(live, name) if live is not None else None,
        )
        self.layer = layer
        self.codec = layer.codec
        self.payload_type = codec.payload_type
        self._is_resuming = False
        has_rtx = self.rtx_ssrc and codec.rtx is not None
        self.extension_ids = ids_of(self.line.extensions) if has_rtx else None
        self.last = None
        self._sources[layer.number] = layer
        if len(self._sources) > 2:
            self._sources.popitem(last=False)
        self.switches += 1
        if self.first_sent_at is None:
            self.first_sent_at = now

    def _leave_layer(self) -> None:
        layer = self.layer
        self.layer = None
        if layer is not None:
            if self in layer.lines:
                layer.lines.remove(self)
            if self in layer.leaving:
                layer.leaving.remove(self)

    def _leave_target(self) -> None:
        target = self.target
        self.target = None
        if target is not None and self in target.waiting:
            target.waiting.remove(self)
        if self._first is not None:
            self._first = None
            if self.layer is not None and self in self.layer.leaving:
                self.layer.leaving.remove(self)
