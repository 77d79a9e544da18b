"""A camera's picture or sound: the streams a publisher sends and who gets each.

A packet is parsed once and kept once (`Layer.receive`); what one receive burst brought
is then sent to every live line in one pass (`Layer.fan_out`). Between the two nothing is
computed per viewer that could be computed per burst: the runs that leave as one GSO
message, and payloads with shifted picture ids, are made once and shared.

Ownership: a `Layer` belongs to its `Track`, a `Track` to a publisher session; `lines`
and `waiting` are written by `OutLine` (media/subscriber.py) only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from media.drops import DropReason
from media.extensions import CAPTURE_INTERVAL_S, ExtensionIds, write_block
from media.fanout import send_to_all
from media.negotiation import Codec, Line
from media.rtp.feedback import KeyFrameRequests, PublisherClock, StreamClock
from media.rtp.history import AUDIO_PACKETS, VIDEO_PACKETS, KeyFrameCache, Packet, PacketRing
from media.rtp.keyframe import KEY_START, never_key_start, picture_size, shift_picture_ids
from media.rtp.receive import Receiver
from media.srtp import OutPacket
from media.udp import MAX_GSO_BYTES, MAX_SEGMENTS, BatchPort, Run, UdpPort

if TYPE_CHECKING:
    from media.subscriber import OutLine

LAYER_SILENCE_S: Final = 0.7
"""A simulcast layer that has sent nothing for this long is taken for switched off. A frame
a second is the least that browsers send of a layer that is on."""

LAYER_TRUST_S: Final = 0.5
"""How long a layer must have been sending before viewers are moved up to it."""

RATE_INTERVAL_S: Final = 0.5
RATE_WEIGHT: Final = 0.25
"""Weight of a new measurement: a key frame in it must not look like a richer layer."""


def plan_runs(lengths: list[int], overhead: int) -> tuple[list[Run], int]:
    """Cut packets into runs that UDP_SEGMENT can carry; also the bytes altogether.

    `lengths` are payload lengths, `overhead` what each packet has besides. In a run all
    datagrams are as long as the first but for the last, which may be shorter.
    """
    runs: list[Run] = []
    at = start = segment = count = 0
    for length in lengths:
        size = length + overhead
        run_bytes = at - start
        if count and (
            size > segment
            or run_bytes != count * segment
            or count == MAX_SEGMENTS
            or run_bytes + size > MAX_GSO_BYTES
        ):
            runs.append((start, run_bytes, segment, count))
            start, count = at, 0
        if not count:
            segment = size
        count += 1
        at += size
    if count:
        runs.append((start, at - start, segment, count))
    return runs, at


class Burst:
    """What one receive burst brought of one layer, ready to be sent many times."""

    __slots__ = (
        "_blocks",
        "_plans",
        "_shifted",
        "captured_unix_s",
        "first_seq",
        "has_key",
        "newest",
        "packets",
        "payload_bytes",
        "sent_at",
    )

    def __init__(
        self,
        packets: list[OutPacket],
        first_seq: int,
        newest: Packet,
        sent_at: float = 0.0,
        *,
        has_key: bool = False,
        captured_unix_s: float | None = None,
    ) -> None:
        self.packets = packets
        self.sent_at = sent_at
        self.has_key = has_key
        self.captured_unix_s = captured_unix_s
        """When its one frame was taken, if it has only one and viewers are to be told."""
        self.first_seq = first_seq
        """The lowest extended number in it."""
        self.newest = newest
        """The layer's newest packet, in this burst or before it."""
        self.payload_bytes = sum(len(packet[3]) for packet in packets)
        self._plans: dict[int, tuple[list[Run], int]] = {}
        self._shifted: dict[tuple[int, int], list[OutPacket]] = {}
        self._blocks: dict[ExtensionIds, bytes] = {}

    def block(self, ids: ExtensionIds) -> bytes:
        """The extension block of all its packets, for lines that agreed on these ids."""
        block = self._blocks.get(ids)
        if block is None:
            block = self._blocks[ids] = write_block(
                ids, self.sent_at, with_playout=self.has_key, captured_unix_s=self.captured_unix_s
            )
        return block

    def plan(self, overhead: int) -> tuple[list[Run], int]:
        """GSO runs and bytes of the whole burst for packets with this much around a payload."""
        plan = self._plans.get(overhead)
        if plan is None:
            lengths = [len(packet[3]) for packet in self.packets]
            plan = self._plans[overhead] = plan_runs(lengths, overhead)
        return plan

    def shifted(self, codec: str, picture_offset: int, tl0_offset: int) -> list[OutPacket]:
        """The packets with their picture numbers moved on."""
        key = (picture_offset, tl0_offset)
        packets = self._shifted.get(key)
        if packets is None:
            packets = self._shifted[key] = [
                (seq, ts, marker, shift_picture_ids(codec, bytes(payload), *key))
                for seq, ts, marker, payload in self.packets
            ]
        return packets


class Layer:
    """One RTP stream of a publisher: a sound, a picture, or one simulcast encoding of it."""

    __slots__ = (
        "_burst",
        "_burst_first",
        "_burst_has_key",
        "_capture_told_at",
        "_is_key_start",
        "_key_ts",
        "_rate_at",
        "_rate_octets",
        "_request_key",
        "_restarts",
        "active_since",
        "bitrate_bps",
        "clock",
        "codec",
        "first_at",
        "height",
        "key_frame_count",
        "key_frames",
        "key_requests",
        "kind",
        "last_at",
        "leaving",
        "lines",
        "number",
        "receiver",
        "rid",
        "ring",
        "ssrc",
        "waiting",
        "width",
    )

    def __init__(
        self,
        number: int,
        kind: str,
        ssrc: int,
        codec: Codec,
        rid: str,
        clock: PublisherClock,
        request_key: Callable[[Layer], None],
    ) -> None:
        self.number = number
        """Unique in the worker: the `source` of the rewriters."""
        self.kind = kind
        self.ssrc = ssrc
        self.rid = rid
        self.codec = codec
        self.ring = PacketRing(VIDEO_PACKETS if kind == "video" else AUDIO_PACKETS)
        self.key_frames = KeyFrameCache(self.ring)
        self.lines: list[OutLine] = []
        """Lines that get every packet as it comes."""
        self.waiting: list[OutLine] = []
        """Lines that begin with the next key frame (sound: the next packet)."""
        self.leaving: list[OutLine] = []
        """Of `lines`, those that go when the frame now coming is whole."""
        self.width = 0
        self.height = 0
        self.first_at: float | None = None
        self.last_at = 0.0
        self.active_since = 0.0
        """Since when it has been sending without a pause of `LAYER_SILENCE_S`."""
        self.receiver = Receiver(
            ssrc, codec.clock_rate, wants_resend=any(f == "nack" for f in codec.feedback)
        )
        self.clock = StreamClock(clock, codec.clock_rate)
        self.key_requests = KeyFrameRequests()
        self.key_frame_count = 0
        self.bitrate_bps = 0.0
        """Measured over some two seconds; after it stopped, what it was. 0: never measured."""
        self._rate_at = 0.0
        self._rate_octets = 0
        self._request_key = request_key
        self._restarts = 0
        self._burst: list[OutPacket] = []
        self._burst_first = 0
        self._burst_has_key = False
        self._capture_told_at = 0.0
        self._is_key_start = KEY_START.get(codec.name, never_key_start)
        self._key_ts = -1

    @property
    def is_video(self) -> bool:
        return self.kind == "video"

    def set_codec(self, codec: Codec) -> None:
        """The publisher changed its codec in mid-stream: what was kept is of no use."""
        self.codec = codec
        self._is_key_start = KEY_START.get(codec.name, never_key_start)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.ring.clear()
        self.key_frames.clear()
        self._burst = []
        for line in tuple(self.lines):
            line.source_restarted()

    def receive(
        self,
        seq16: int,
        timestamp: int,
        marker: bool,
        payload: bytes,
        now: float,
        is_resent: bool = False,
    ) -> DropReason | None:
        """Take one packet: keep it, note key frames, put it into the current burst.

        Returns why it goes no further, if so. Called once per packet received;
        `is_resent` marks one that came by RTX.
        """
        receiver = self.receiver
        place = receiver.receive(seq16, timestamp, len(payload), now, is_resent=is_resent)
        if place is None:
            return DropReason.REPEATED
        if receiver.restarts != self._restarts:
            self._restarts = receiver.restarts
            self._begin_anew()
        seq, rtp_ts = place
        is_key_start = self._is_key_start(payload, 0, len(payload))
        packet = Packet(
            seq, rtp_ts, marker, self.codec.payload_type, payload, b"", is_key_start, now
        )
        if not self.ring.put(packet):
            return DropReason.REPEATED
        if self.first_at is None:
            self.first_at = now
        if now - self.last_at > LAYER_SILENCE_S:
            self.active_since = now
        self.last_at = now
        burst = self._burst
        if not burst or seq < self._burst_first:
            self._burst_first = seq
        burst.append((seq, rtp_ts, 0x80 if marker else 0, payload))
        if self.is_video:
            self.key_frames.add(packet)
            if is_key_start and rtp_ts > self._key_ts:
                self._key_ts = rtp_ts
                self._note_key_frame(packet)
        elif self.waiting:
            self._start_waiting(packet)
        return None

    def _note_key_frame(self, packet: Packet) -> None:
        self.key_frame_count += 1
        self._burst_has_key = True
        self.key_requests.key_frame_arrived()
        self.receiver.key_frame_arrived(packet.seq)
        size = picture_size(self.codec.name, packet.payload, 0, len(packet.payload))
        if size is not None:
            self.width, self.height = size
        if self.waiting:
            self._start_waiting(packet)

    def _start_waiting(self, first: Packet) -> None:
        waiting, self.waiting = self.waiting, []
        for line in waiting:
            line.begin(self, first)

    def fan_out(self, port: UdpPort, now: float) -> int:
        """Send what this burst brought to every live line; how many packets that made."""
        packets = self._burst
        newest = self.ring.newest
        if not packets or newest is None:
            return 0
        self._burst = []
        lines = self.lines
        if not lines:
            return 0
        has_key, self._burst_has_key = self._burst_has_key, False
        captured = None
        if self.is_video and (has_key or now - self._capture_told_at >= CAPTURE_INTERVAL_S):
            captured = self._captured(packets, now)
        burst = Burst(
            packets, self._burst_first, newest, now, has_key=has_key, captured_unix_s=captured
        )
        if isinstance(port, BatchPort):
            send_to_all(burst, lines, port)
        else:
            for line in lines:
                line.send_burst(burst, port)
        sent = len(lines) * len(packets)
        if self.leaving and newest.marker:
            for line in tuple(self.leaving):
                line.leave_frame_end(now)
        return sent

    def _captured(self, packets: list[OutPacket], now: float) -> float | None:
        rtp_ts = packets[0][1]
        if any(packet[1] != rtp_ts for packet in packets):
            return None
        self._capture_told_at = now
        return self.clock.unix_at(rtp_ts)

    @property
    def has_burst(self) -> bool:
        """Whether packets wait for `fan_out`."""
        return bool(self._burst)

    def since(self, seq: int) -> list[Packet]:
        """Packets kept from `seq` on, without those that the coming `fan_out` brings."""
        coming = {packet[0] for packet in self._burst}
        return [packet for packet in self.ring.since(seq) if packet.seq not in coming]

    def ask_key_frame(self, now: float) -> None:
        """A viewer needs a key frame; all their wishes are merged into few requests."""
        if self.key_requests.ask(now):
            self._request_key(self)

    def handle_timer(self, now: float) -> None:
        """Send a key-frame request that was held back or had no answer."""
        if now - self._rate_at >= RATE_INTERVAL_S:
            self._measure_rate(now)
        if self.waiting and self.is_video:
            self.key_requests.is_waiting = True
        if self.key_requests.handle_timer(now):
            self._request_key(self)

    def _measure_rate(self, now: float) -> None:
        octets = self.receiver.octets
        bps = (octets - self._rate_octets) * 8 / (now - self._rate_at)
        if self._rate_octets and bps:
            before = self.bitrate_bps
            self.bitrate_bps = bps if not before else before + RATE_WEIGHT * (bps - before)
        self._rate_at, self._rate_octets = now, octets


class Track:
    """A camera's picture (one layer, or several by simulcast) or sound."""

    def __init__(self, kind: str, line: Line) -> None:
        self.kind = kind
        self.line = line
        self.codecs = line.by_payload_type()
        self.layers: list[Layer] = []
        self.subscribers: list[OutLine] = []
        """Every line that shows this track, live or waiting. Written by OutLine only."""

    def add_layer(self, layer: Layer) -> None:
        """A new stream of this track was seen."""
        self.layers.append(layer)

    def best_layer(self, now: float, current: Layer | None = None) -> Layer | None:
        """The tallest layer that sends, for a line that nobody steers.

        Senders switch layers off when their uplink is short, so a silent one is left. One
        that came back is trusted after `LAYER_TRUST_S`; `current` is kept until then.
        """
        known = [layer for layer in self.layers if layer.first_at is not None]
        sending = [layer for layer in known if now - layer.last_at < LAYER_SILENCE_S]
        if not sending:
            return current if current in known else (known[0] if known else None)
        if current in sending:
            sending = [
                layer
                for layer in sending
                if layer is current or now - layer.active_since > LAYER_TRUST_S
            ]
        return max(sending, key=lambda layer: (layer.height, layer is current))

    @property
    def codec(self) -> Codec:
        """What it sends, or before the first packet what it will most likely send."""
        return self.layers[0].codec if self.layers else self.line.codecs[0]
