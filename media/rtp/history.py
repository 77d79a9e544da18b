"""The recent past of a stream: packets to resend, and the newest key frame onwards.

One ring of packets serves both. `PacketRing` finds any recent packet by its extended
sequence number in one step. `KeyFrameCache` only remembers where in the ring the newest
key frame begins, so a late or resent packet that fills a hole is in both at once.

Invariants: a slot holds the newest packet that maps to it; `key_seq` is None or the
ring still reaches back to it.
"""

from __future__ import annotations

from typing import Final

VIDEO_PACKETS: Final = 2048
"""Ring size for video: 7.6 s at 270 packets/s (2.5 Mbit/s), about 2.4 MB a layer."""
AUDIO_PACKETS: Final = 128
"""Ring size for sound: 2.6 s of 20 ms packets."""
MAX_KEY_PACKETS: Final = 1792
MAX_KEY_BYTES: Final = 2_000_000
"""What a joining viewer is sent at once, at most: two seconds of OBS at 8 Mbit/s, whose key
frames come every two and not sooner for any request; six seconds at 2.5 Mbit/s."""


class Packet:
    """One RTP packet as kept: its numbers extended, its payload copied out, padding gone.

    Immutable by agreement; shared by every subscriber that sends it.
    """

    __slots__ = (
        "arrived",
        "extensions",
        "is_key_start",
        "marker",
        "payload",
        "payload_type",
        "rtp_ts",
        "seq",
    )

    def __init__(
        self,
        seq: int,
        rtp_ts: int,
        marker: bool,
        payload_type: int,
        payload: bytes,
        extensions: bytes,
        is_key_start: bool,
        arrived: float,
    ) -> None:
        self.seq = seq  # extended
        self.rtp_ts = rtp_ts  # extended
        self.marker = marker
        self.payload_type = payload_type  # the publisher's
        self.payload = payload
        self.extensions = extensions  # the publisher's whole block, or b""
        self.is_key_start = is_key_start
        self.arrived = arrived  # seconds, monotonic

    def __repr__(self) -> str:
        return f"Packet(seq={self.seq}, rtp_ts={self.rtp_ts}, {len(self.payload)} bytes)"


class PacketRing:
    """The last `capacity` packets (a power of two) by extended sequence number.

    `slots` and `mask` may be read directly in a hot loop.
    """

    __slots__ = ("capacity", "mask", "newest", "slots")

    def __init__(self, capacity: int) -> None:
        if capacity < 1 or capacity & (capacity - 1):
            raise ValueError(f"a ring holds a power of two of packets, not {capacity}")
        self.capacity = capacity
        self.mask = capacity - 1
        self.slots: list[Packet | None] = [None] * capacity
        self.newest: Packet | None = None  # the one with the highest number

    def put(self, packet: Packet) -> bool:
        """Keep a packet. False if it was there already or is older than the ring reaches."""
        index = packet.seq & self.mask
        old = self.slots[index]
        if old is not None and old.seq >= packet.seq:
            return False
        newest = self.newest
        if newest is None or packet.seq > newest.seq:
            self.newest = packet
        elif packet.seq <= newest.seq - self.capacity:
            return False
        self.slots[index] = packet
        return True

    def get(self, seq: int) -> Packet | None:
        """The packet with the extended number `seq`, or None if lost or forgotten."""
        packet = self.slots[seq & self.mask]
        return packet if packet is not None and packet.seq == seq else None

    def since(self, seq: int) -> list[Packet]:
        """Every packet kept from `seq` on, in order; holes are passed over."""
        newest = self.newest
        if newest is None:
            return []
        first = max(seq, newest.seq - self.mask)
        slots, mask = self.slots, self.mask
        return [
            packet
            for number in range(first, newest.seq + 1)
            if (packet := slots[number & mask]) is not None and packet.seq == number
        ]

    def clear(self) -> None:
        """Forget everything: the publisher is gone or began anew."""
        self.slots = [None] * self.capacity
        self.newest = None


class KeyFrameCache:
    """Where the newest key frame begins in a ring, as long as all since is worth replaying."""

    __slots__ = ("_key_ts", "_max_bytes", "_max_packets", "_ring", "key_seq", "size_bytes")

    def __init__(
        self,
        ring: PacketRing,
        max_packets: int = MAX_KEY_PACKETS,
        max_bytes: int = MAX_KEY_BYTES,
    ) -> None:
        self._ring = ring
        self._max_packets = min(max_packets, ring.capacity)
        self._max_bytes = max_bytes
        self._key_ts = 0
        self.key_seq: int | None = None
        """Extended number of the packet to begin with; None: ask for a key frame first."""
        self.size_bytes = 0
        """Payload bytes since the key frame began."""

    def add(self, packet: Packet) -> bool:
        """Note a packet just put into the ring.

        Returns True once when what follows the key frame has grown beyond the bound: a
        viewer who joins now waits for a new key frame, so ask for one if joins should
        be instant. Called once per video packet received.
        """
        key_seq = self.key_seq
        size = len(packet.payload)
        if packet.is_key_start:
            if packet.rtp_ts == self._key_ts and key_seq is not None:
                self.size_bytes += size
                if packet.seq < key_seq:  # the SPS came after the slices it belongs to
                    self.key_seq = packet.seq
                return False
            if key_seq is None or packet.seq > key_seq:
                self.key_seq = packet.seq
                self._key_ts = packet.rtp_ts
                self.size_bytes = size
                return False
        if key_seq is None or packet.seq < key_seq:
            return False
        self.size_bytes += size
        if packet.seq - key_seq < self._max_packets and self.size_bytes <= self._max_bytes:
            return False
        self.key_seq = None
        return True

    def packets(self) -> list[Packet]:
        """From the key frame to the newest packet; empty when there is no usable key frame.

        Empty too while a packet of the key frame itself is missing: a picture that
        begins with a hole is no instant picture.
        """
        key_seq = self.key_seq
        if key_seq is None:
            return []
        packets = self._ring.since(key_seq)
        if not packets or packets[0].seq != key_seq:
            return []
        for expected, packet in enumerate(packets, key_seq):
            if packet.seq != expected:
                return []
            if packet.marker and packet.rtp_ts == self._key_ts:
                break
            if packet.rtp_ts != self._key_ts:
                break
        return packets

    def clear(self) -> None:
        """Forget the key frame."""
        self.key_seq = None
        self.size_bytes = 0
