"""One burst to many lines: the loop that the cost of a viewer is made of.

`OutLine.send_burst` says what is to be done for one line; this does the same for all
lines in their steady state at once. What is left per line is the encryption, a header and
a nonce; addresses, places and lengths go into the message headers by the column, for a
hundred lines with one copy each. A line that is not steady (just switched), or whose
profile is not AES-GCM, is sent by its own `send_burst`.

With 200 viewers and one packet a burst this takes 1.7 µs of Python and AES for each packet,
line by line it took 2.7; with nine packets a burst it is 1.5 after 1.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from media.srtp import GCM_TAG_BYTES, HEADER_BYTES, GcmSender

if TYPE_CHECKING:
    from media.subscriber import OutLine
    from media.track import Burst
    from media.udp import BatchPort, Destination

_PACK_HEADER: Final = Struct(">BBHII").pack


def send_to_all(
    burst: Burst, lines: Sequence[OutLine], port: BatchPort, pack: Any = _PACK_HEADER
) -> None:
    """Queue `burst` for every line; the last of it leaves with the port's next flush.

    `lines` must not change meanwhile. Called once per layer and receive burst.
    """
    first_seq = burst.first_seq
    count = len(burst.packets)
    payload_bytes = burst.payload_bytes
    newest = burst.newest
    out = port.out
    apart: list[OutLine] = []
    rest = lines
    while rest:
        # Lines with the same extension block have packets of the same size, so their
        # copies stand evenly spaced in the send buffer.
        ids = rest[0].extension_ids
        others: list[OutLine] = []
        block = burst.block(ids) if ids is not None else b""
        runs, size = burst.plan(HEADER_BYTES + len(block) + GCM_TAG_BYTES)
        if not port.takes(runs):
            for line in rest:
                line.send_burst(burst, port)
            return
        first = 0x90 if block else 0x80
        header_bytes = HEADER_BYTES + len(block)
        room = port.room(size, len(runs))
        start = at = port.position
        to: list[Destination] = []
        for line in rest:
            if line.extension_ids is not ids:
                others.append(line)
                continue
            peer = line.peer
            sender = peer.sender
            destination = peer.destination
            rewriter = line.rewriter
            if (
                destination is None
                or first_seq < rewriter.plain_from
                or not isinstance(sender, GcmSender)
            ):
                apart.append(line)
                continue
            if not room:
                port.queue_all(to, start, size, runs)
                port.flush()
                to = []
                room = port.room(size, len(runs))
                start = at = port.position
            room -= 1
            packets = burst.packets
            if rewriter.picture_offset or rewriter.tl0_offset:
                assert line.codec is not None
                packets = burst.shifted(
                    line.codec.name, rewriter.picture_offset, rewriter.tl0_offset
                )
            ssrc = line.ssrc
            payload_type = line.payload_type
            seq_offset = rewriter.seq_offset
            ts_offset = rewriter.ts_offset
            encrypt = sender.encrypt
            nonce_base = sender.salt ^ (ssrc << 48)
            for seq, rtp_ts, marker, payload in packets:
                index = seq + seq_offset
                header = pack(
                    first,
                    marker | payload_type,
                    index & 0xFFFF,
                    rtp_ts + ts_offset & 0xFFFFFFFF,
                    ssrc,
                )
                if block:
                    header += block
                body = at + header_bytes
                out[at:body] = header
                at = body + len(payload) + GCM_TAG_BYTES
                encrypt((nonce_base ^ index).to_bytes(12, "big"), payload, header, out[body:at])
            to.append(destination)
            line.packets += count
            line.payload_bytes += payload_bytes
            line.last = newest
        port.queue_all(to, start, size, runs)
        rest = others
    for line in apart:
        line.send_burst(burst, port)
