"""What a video payload says about its frame: key frame, picture numbers, size.

Called on every video packet, so each test looks at one byte and goes on only where that
byte allows a key frame. All functions take the packet's buffer with the payload's start
and end, never raise on any bytes, and never look beyond `end`.

A "key start" is the first packet from which a decoder can begin. In H.264 an access unit
may show several (SPS, then IDR slices), all with one timestamp: the first counts.

RFC 7741 (VP8), RFC 9628 (VP9), RFC 6184 (H.264), the AV1 RTP specification §4.4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from media.rtp.packet import Buffer
from media.rtp.picture import sequence_header_size, sps_size

KeyStartTest: TypeAlias = Callable[[Buffer, int, int], bool]

_H264_IDR: Final = 5
_H264_SPS: Final = 7
_H264_STAP_A: Final = 24
_H264_FU_A: Final = 28


def vp8_key_start(data: Buffer, payload: int, end: int) -> bool:
    """Whether this is the first packet of a VP8 key frame."""
    # S set and partition 0, else this is the middle of a frame (RFC 7741 §4.2).
    if end - payload < 2 or data[payload] & 0x17 != 0x10:
        return False
    body = _vp8_body(data, payload, end)
    return body < end and not data[body] & 0x01


def vp9_key_start(data: Buffer, payload: int, end: int) -> bool:
    """Whether this is the first packet of a VP9 key picture (its lowest spatial layer)."""
    if end <= payload or data[payload] & 0x48 != 0x08:  # begins a frame, predicted from none
        return False
    first = data[payload]
    if not first & 0x20:  # no layer indices: one layer
        return True
    at = payload + 1
    if first & 0x80:
        if at >= end:
            return False
        at += 2 if data[at] & 0x80 else 1
    return at < end and not data[at] & 0x0E


def h264_key_start(data: Buffer, payload: int, end: int) -> bool:
    """Whether this packet holds an SPS or begins an IDR slice."""
    if end - payload < 2:
        return False
    kind = data[payload] & 0x1F
    if kind == _H264_FU_A:
        second = data[payload + 1]
        return second & 0x80 != 0 and (second & 0x1F) in (_H264_IDR, _H264_SPS)
    if kind == _H264_STAP_A:
        at = payload + 1
        while at + 3 <= end:
            if data[at + 2] & 0x1F in (_H264_IDR, _H264_SPS):
                return True
            at += 2 + (data[at] << 8 | data[at + 1])
        return False
    return kind in (_H264_IDR, _H264_SPS)


def av1_key_start(data: Buffer, payload: int, end: int) -> bool:
    """Whether this is the first packet of a coded video sequence (the N bit)."""
    return end > payload and data[payload] & 0x88 == 0x08


def never_key_start(data: Buffer, payload: int, end: int) -> bool:
    """For sound: nothing is a key frame."""
    return False


KEY_START: Final[Mapping[str, KeyStartTest]] = {
    "VP8": vp8_key_start,
    "VP9": vp9_key_start,
    "H264": h264_key_start,
    "AV1": av1_key_start,
    "opus": never_key_start,
}
"""The test for each codec name that media/negotiation.py uses. Look it up once a stream."""


def starts_frame(codec: str, data: Buffer, payload: int, end: int) -> bool | None:
    """Whether a packet begins a frame; None where the payload cannot say (H.264).

    A new timestamp always begins a frame, and the marker ends one.
    """
    if end <= payload:
        return False
    first = data[payload]
    match codec:
        case "VP8":
            return first & 0x17 == 0x10
        case "VP9":
            return first & 0x08 != 0
        case "AV1":
            return first & 0x80 == 0
        case _:
            return None


def _vp8_body(data: Buffer, payload: int, end: int) -> int:
    """Where the VP8 payload header begins behind the descriptor; `end` if cut off."""
    at = payload + 1
    if data[payload] & 0x80:
        if at >= end:
            return end
        bits = data[at]
        at += 1
        if bits & 0x80:
            if at >= end:
                return end
            at += 2 if data[at] & 0x80 else 1
        if bits & 0x40:
            at += 1
        if bits & 0x30:
            at += 1
    return min(at, end)


PictureIds: TypeAlias = tuple[int, int, int, int]
"""(picture id, its position, TL0PICIDX, its position); -1 and 0 where there is none.

Positions count from the start of the payload. A picture id of two bytes is told by its
first byte's top bit, as on the wire.
"""

NO_PICTURE_IDS: Final[PictureIds] = (-1, 0, -1, 0)


def picture_ids(codec: str, data: Buffer, payload: int, end: int) -> PictureIds:
    """The running picture numbers of a VP8 or VP9 packet, which must stay continuous."""
    if end <= payload:
        return NO_PICTURE_IDS
    first = data[payload]
    at = payload + 1
    if codec == "VP8":
        if not first & 0x80 or at >= end:
            return NO_PICTURE_IDS
        bits = data[at]
        at += 1
        has_id, has_tl0 = bits & 0x80 != 0, bits & 0x40 != 0
    elif codec == "VP9":
        # Layer indices are one byte, followed by TL0PICIDX unless in flexible mode.
        has_id, has_tl0 = first & 0x80 != 0, first & 0x30 == 0x20
    else:
        return NO_PICTURE_IDS
    picture_id, id_at = -1, 0
    if has_id:
        if at >= end:
            return NO_PICTURE_IDS
        id_at = at - payload
        if data[at] & 0x80:
            if at + 1 >= end:
                return NO_PICTURE_IDS
            picture_id = (data[at] & 0x7F) << 8 | data[at + 1]
            at += 2
        else:
            picture_id = data[at]
            at += 1
    tl0, tl0_at = -1, 0
    if has_tl0:
        if codec == "VP9":
            at += 1
        if at < end:
            tl0, tl0_at = data[at], at - payload
    return (picture_id, id_at, tl0, tl0_at)


def shift_picture_ids(codec: str, payload: bytes, picture_offset: int, tl0_offset: int) -> bytes:
    """A copy of a whole payload with its picture numbers moved on; itself if none are there."""
    picture_id, id_at, tl0, tl0_at = picture_ids(codec, payload, 0, len(payload))
    if picture_id < 0 and tl0 < 0:
        return payload
    out = bytearray(payload)
    if picture_id >= 0:
        if out[id_at] & 0x80:
            moved = picture_id + picture_offset & 0x7FFF
            out[id_at] = 0x80 | moved >> 8
            out[id_at + 1] = moved & 0xFF
        else:
            out[id_at] = picture_id + picture_offset & 0x7F
    if tl0 >= 0:
        out[tl0_at] = tl0 + tl0_offset & 0xFF
    return bytes(out)


# Picture size, for statistics and for a viewer's cap. Read once a key frame.


def picture_size(codec: str, data: Buffer, payload: int, end: int) -> tuple[int, int] | None:
    """(width, height) in pixels from a packet at a key start; None where it does not say."""
    match codec:
        case "VP8":
            return _vp8_size(data, payload, end)
        case "VP9":
            return _vp9_size(data, payload, end)
        case "H264":
            return _h264_size(data, payload, end)
        case "AV1":
            return _av1_size(data, payload, end)
        case _:
            return None


def _vp8_size(data: Buffer, payload: int, end: int) -> tuple[int, int] | None:
    """RFC 6386 §9.1: frame tag, start code, 14 bits each of width and height."""
    if not vp8_key_start(data, payload, end):
        return None
    at = _vp8_body(data, payload, end)
    if at + 10 > end or bytes(data[at + 3 : at + 6]) != b"\x9d\x01\x2a":
        return None
    width = (data[at + 6] | data[at + 7] << 8) & 0x3FFF
    height = (data[at + 8] | data[at + 9] << 8) & 0x3FFF
    return (width, height) if width and height else None


def _vp9_size(data: Buffer, payload: int, end: int) -> tuple[int, int] | None:
    """RFC 9628 §4.2: the scalability structure names each layer's size; the last is largest."""
    if end <= payload or data[payload] & 0x42 != 0x02:  # V set, not predicted
        return None
    first = data[payload]
    at = payload + 1
    if first & 0x80:
        if at >= end:
            return None
        at += 2 if data[at] & 0x80 else 1
    if first & 0x20:
        at += 1 if first & 0x10 else 2
    if at >= end or not data[at] & 0x10:  # Y: sizes are present
        return None
    at += 1 + 4 * (data[at] >> 5)  # the last of N_S + 1 entries
    if at + 4 > end:
        return None
    width, height = data[at] << 8 | data[at + 1], data[at + 2] << 8 | data[at + 3]
    return (width, height) if width and height else None


def _h264_size(data: Buffer, payload: int, end: int) -> tuple[int, int] | None:
    if end - payload < 5:
        return None
    kind = data[payload] & 0x1F
    if kind == _H264_SPS:
        return sps_size(bytes(data[payload + 1 : end]))
    if kind == _H264_STAP_A:
        at = payload + 1
        while at + 3 <= end:
            length = data[at] << 8 | data[at + 1]
            if data[at + 2] & 0x1F == _H264_SPS:
                return sps_size(bytes(data[at + 3 : min(at + 2 + length, end)]))
            at += 2 + length
    return None


def _av1_size(data: Buffer, payload: int, end: int) -> tuple[int, int] | None:
    """AV1 RTP specification §4.4: find the sequence header among the OBUs of the packet."""
    if not av1_key_start(data, payload, end):
        return None
    count = data[payload] >> 4 & 3  # W: elements in the packet; 0 if each has a length
    at = payload + 1
    element = 0
    while at < end:
        element += 1
        size = end - at
        if element != count:
            size = shift = 0
            while at < end and shift < 28:
                byte = data[at]
                at += 1
                size |= (byte & 0x7F) << shift
                shift += 7
                if not byte & 0x80:
                    break
        if at >= end or size == 0:
            return None
        header = data[at]
        if header >> 3 & 0x0F == 1:
            body = at + (2 if header & 4 else 1)
            if header & 2:  # an OBU with a size of its own, which senders should leave out
                body += 1
            return sequence_header_size(bytes(data[body : min(at + size, end)]))
        at += size
    return None
