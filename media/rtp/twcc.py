"""Transport-wide congestion control feedback: arrival times of every packet, packed tight.

Between the fixed fields and the arrival deltas stand "packet chunks", 16 bits each: a
run of one symbol, or a vector of fourteen one-bit or seven two-bit symbols. A symbol
says that a packet did not arrive (0), arrived up to 63.75 ms after the one before it
(1, a delta of one byte), or otherwise (2, a signed delta of two bytes). Deltas count
250 us, the reference time 64 ms.

draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from media.rtp.packet import Buffer

_RTPFB: Final = 205
_FMT_TWCC: Final = 15
TWCC_MAX_PACKETS: Final = 2000
"""Most packets one feedback is read for; more than any sane interval holds."""
TWCC_TICK_S: Final = 0.00025
TWCC_REFERENCE_TICK_S: Final = 0.064

_PREFIX = Struct(">BBHII")
_PAIR = Struct(">HH")
_U32 = Struct(">I")


@dataclass(frozen=True, slots=True)
class TransportFeedback:
    """Arrival times of packets by transport-wide number.

    `arrivals[i]` belongs to number `base_seq + i` (16 bits): seconds on the receiver's own
    clock (which wraps every 12 days), or None for one that did not arrive.
    """

    sender_ssrc: int
    media_ssrc: int
    base_seq: int
    feedback_count: int
    arrivals: tuple[float | None, ...]


def read_twcc(data: Buffer, at: int, end: int, sender: int, media: int) -> TransportFeedback | None:
    """Read the body of a feedback packet, `data[at:end]`; None if it is cut off or absurd."""
    if end - at < 8:
        return None
    base, count = _PAIR.unpack_from(data, at)
    (word,) = _U32.unpack_from(data, at + 4)
    reference, feedback_count = word >> 8, word & 0xFF
    if count > TWCC_MAX_PACKETS:
        return None
    at += 8
    symbols: list[int] = []
    while len(symbols) < count:
        if at + 2 > end:
            return None
        chunk = data[at] << 8 | data[at + 1]
        at += 2
        if not chunk & 0x8000:  # run length
            symbols += [chunk >> 13 & 3] * min(chunk & 0x1FFF, count - len(symbols))
            if not chunk & 0x1FFF:
                return None
        elif chunk & 0x4000:  # seven symbols of two bits
            symbols += [chunk >> shift & 3 for shift in (12, 10, 8, 6, 4, 2, 0)]
        else:  # fourteen symbols of one bit
            symbols += [chunk >> shift & 1 for shift in range(13, -1, -1)]
    arrivals: list[float | None] = []
    ticks = reference * 256  # of 250 us
    for symbol in symbols[:count]:
        if symbol == 1:
            if at >= end:
                return None
            ticks += data[at]
            at += 1
        elif symbol == 2:
            if at + 2 > end:
                return None
            delta = data[at] << 8 | data[at + 1]
            ticks += delta - 0x10000 if delta & 0x8000 else delta
            at += 2
        else:
            arrivals.append(None)
            continue
        arrivals.append(ticks * TWCC_TICK_S)
    return TransportFeedback(sender, media, base, feedback_count, tuple(arrivals))


def build_twcc(
    sender_ssrc: int,
    media_ssrc: int,
    base_seq: int,
    feedback_count: int,
    arrivals: Sequence[float | None],
) -> bytes:
    """Transport-wide feedback; `arrivals` as in TransportFeedback.

    At most TWCC_MAX_PACKETS. Deltas beyond 8.2 s are cut short.
    """
    first = next((arrival for arrival in arrivals if arrival is not None), 0.0)
    reference = int(first / TWCC_REFERENCE_TICK_S)
    ticks = reference * 256
    symbols: list[int] = []
    deltas = bytearray()
    for arrival in arrivals:
        if arrival is None:
            symbols.append(0)
            continue
        delta = max(-0x8000, min(round(arrival / TWCC_TICK_S) - ticks, 0x7FFF))
        ticks += delta
        if 0 <= delta <= 255:
            symbols.append(1)
            deltas.append(delta)
        else:
            symbols.append(2)
            deltas += (delta & 0xFFFF).to_bytes(2, "big")
    body = bytearray(_PAIR.pack(base_seq & 0xFFFF, len(symbols)))
    body += _U32.pack((reference & 0xFFFFFF) << 8 | feedback_count & 0xFF)
    body += _twcc_chunks(symbols)
    body += deltas
    body += bytes(-len(body) % 4)
    words = (_PREFIX.size - 4 + len(body)) // 4
    return _PREFIX.pack(0x80 | _FMT_TWCC, _RTPFB, words, sender_ssrc, media_ssrc) + bytes(body)


def _twcc_chunks(symbols: Sequence[int]) -> bytes:
    """Runs where they pay, else seven two-bit symbols (or fourteen one-bit ones) a chunk."""
    out = bytearray()
    at, size = 0, len(symbols)
    while at < size:
        symbol = symbols[at]
        run = 1
        while at + run < size and symbols[at + run] == symbol and run < 0x1FFF:
            run += 1
        if run >= 14 or at + run == size:
            chunk = symbol << 13 | run
        elif (run < 7 and 2 in symbols[at : at + 14]) or (run >= 7 and symbol == 2):
            run = 7
            chunk = 0xC000
            for index, value in enumerate(symbols[at : at + 7]):
                chunk |= value << 12 - 2 * index
        elif 2 in symbols[at : at + 14]:
            chunk = symbol << 13 | run
        else:
            run = 14
            chunk = 0x8000
            for index, value in enumerate(symbols[at : at + 14]):
                chunk |= value << 13 - index
        out += chunk.to_bytes(2, "big")
        at += run
    return bytes(out)
