"""Encoded pictures and sound into RTP payloads, for a publisher that encodes nothing.

RFC 6184 §5 (H.264: single unit, STAP-A, FU-A), RFC 7741 §4.2 (VP8), RFC 7587 (Opus).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

MAX_PAYLOAD_BYTES: Final = 1170
"""Room for RTP, SRTP, UDP and IPv6 within 1,280 bytes."""
_STAP_A: Final = 24
_FU_A: Final = 28


def nal_units(annex_b: bytes) -> Iterator[bytes]:
    """NAL units of an Annex B byte stream, without start codes."""
    at = annex_b.find(b"\0\0\1")
    while at >= 0:
        start = at + 3
        at = annex_b.find(b"\0\0\1", start)
        unit = annex_b[start:] if at < 0 else annex_b[start:at]
        unit = unit.rstrip(b"\0") if at >= 0 else unit
        if unit:
            yield unit


def h264_payloads(annex_b: bytes, limit: int = MAX_PAYLOAD_BYTES) -> list[bytes]:
    """Payloads of one access unit; the last one's packet carries the marker.

    Small units in a row (parameter sets) share one STAP-A, units above `limit` bytes are
    cut into FU-A fragments.
    """
    payloads: list[bytes] = []
    small: list[bytes] = []

    def flush() -> None:
        if len(small) == 1:
            payloads.append(small[0])
        elif small:
            importance = max(unit[0] & 0x60 for unit in small)
            body = b"".join(len(unit).to_bytes(2, "big") + unit for unit in small)
            payloads.append(bytes([importance | _STAP_A]) + body)
        small.clear()

    for unit in nal_units(annex_b):
        if 1 + sum(2 + len(u) for u in small) + 2 + len(unit) > limit:
            flush()
        if len(unit) <= limit:
            small.append(unit)
            continue
        indicator, kind = unit[0] & 0xE0 | _FU_A, unit[0] & 0x1F
        body = memoryview(unit)[1:]
        pieces = -(-len(body) // (limit - 2))
        size = -(-len(body) // pieces)  # equal pieces: no tiny last packet
        for index in range(pieces):
            flags = (0x80 if index == 0 else 0) | (0x40 if index == pieces - 1 else 0)
            piece = body[index * size : (index + 1) * size]
            payloads.append(bytes([indicator, flags | kind]) + piece)
    flush()
    return payloads


def vp8_payloads(frame: bytes, picture_id: int, limit: int = MAX_PAYLOAD_BYTES) -> list[bytes]:
    """Payloads of one VP8 frame with a 15-bit picture id."""
    tail = bytes([0x80, 0x80 | picture_id >> 8 & 0x7F, picture_id & 0xFF])
    size = limit - 1 - len(tail)
    return [
        bytes([0x80 | (0x10 if at == 0 else 0)]) + tail + frame[at : at + size]
        for at in range(0, len(frame), size)
    ]
