"""The RTP header as offsets into a buffer: parse once, copy nothing.

A parsed packet is a plain tuple (`Header`), because it is made for every packet that
arrives: building one costs a tenth of an object with named fields. Positions in it:

    (payload_type, marker, seq, timestamp, ssrc, extensions, payload, end)

`extensions` is where the 4-byte header of the extension block stands, 0 without one;
the block ends where `payload` begins. `end` is the end of the payload with padding
taken off, so `payload == end` marks a packet of padding alone (a bandwidth probe).

RFC 3550 §5.1 (header, padding), RFC 8285 (one-byte and two-byte extensions).
Parsers return None for anything that is not a whole, sound packet; they never raise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from struct import Struct
from typing import Final, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
Header: TypeAlias = tuple[int, bool, int, int, int, int, int, int]

PAYLOAD_TYPE: Final = 0
MARKER: Final = 1
SEQ: Final = 2
TIMESTAMP: Final = 3
SSRC: Final = 4
EXTENSIONS: Final = 5
PAYLOAD: Final = 6
END: Final = 7

HEADER_BYTES: Final = 12
MAX_PACKET_BYTES: Final = 1500

ONE_BYTE_PROFILE: Final = 0xBEDE
TWO_BYTE_PROFILE: Final = 0x1000
_MAX_ONE_BYTE_ID: Final = 14
_MAX_ONE_BYTE_LENGTH: Final = 16

_HEADER = Struct(">BBHII")
_read_header = _HEADER.unpack_from
_pack_header = _HEADER.pack
_write_header = _HEADER.pack_into
_U16 = Struct(">H")
_read_u16 = _U16.unpack_from
_write_u16 = _U16.pack_into
_EXTENSION_HEADER = Struct(">HH")
_pack_extension_header = _EXTENSION_HEADER.pack


class ExtensionUri(StrEnum):
    """Header extensions that Livehouse reads, writes or carries through."""

    MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
    RID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
    REPAIRED_RID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
    AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
    VIDEO_ORIENTATION = "urn:3gpp:video-orientation"
    ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
    TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
    ABS_CAPTURE_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
    PLAYOUT_DELAY = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
    DEPENDENCY_DESCRIPTOR = (
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
    )


def parse_header(data: Buffer, size: int) -> Header | None:
    """Find the parts of the RTP packet in `data[:size]`.

    Returns None when it is not an RTP packet or any length in it points outside.
    Never raises. Called once per packet received; `data` may be longer than `size`
    (a receive slot that is used again and again).
    """
    if size < HEADER_BYTES or size > len(data):
        return None
    first, second, seq, timestamp, ssrc = _read_header(data, 0)
    if first == 0x90:  # the usual video packet: an extension block, no padding, no CSRC
        payload = 16 + 4 * _read_u16(data, 14)[0] if size >= 16 else size + 1
        if payload > size:
            return None
        return (second & 0x7F, second > 0x7F, seq, timestamp, ssrc, 12, payload, size)
    if first == 0x80:
        return (second & 0x7F, second > 0x7F, seq, timestamp, ssrc, 0, 12, size)
    if first & 0xC0 != 0x80:
        return None
    payload = 12 + 4 * (first & 0x0F)
    extensions = 0
    if first & 0x10:
        extensions = payload
        if payload + 4 > size:
            return None
        payload += 4 + 4 * _read_u16(data, payload + 2)[0]
    end = size
    if first & 0x20:
        padding = data[size - 1]
        if padding == 0:
            return None
        end -= padding
    if payload > end:
        return None
    return (second & 0x7F, second > 0x7F, seq, timestamp, ssrc, extensions, payload, end)


def find_extension(
    data: Buffer, extensions: int, payload: int, extension_id: int
) -> tuple[int, int] | None:
    """Where the value of one header extension stands: (start, length in bytes), or None.

    `extensions` and `payload` come from `parse_header`. Reads one-byte and two-byte
    blocks. Never raises and never answers with a range outside the block.
    """
    if not extensions or not extension_id:
        return None
    profile = _read_u16(data, extensions)[0]
    at = extensions + 4
    if profile == ONE_BYTE_PROFILE:
        while at < payload:
            byte = data[at]
            if byte == 0:
                at += 1
                continue
            found = byte >> 4
            if found == 15 or not found:  # RFC 8285 §4.2: stop here
                return None
            length = (byte & 0x0F) + 1
            at += 1
            if found == extension_id:
                return (at, length) if at + length <= payload else None
            at += length
    elif profile & 0xFFF0 == TWO_BYTE_PROFILE:
        while at + 1 < payload:
            found = data[at]
            if found == 0:
                at += 1
                continue
            length = data[at + 1]
            at += 2
            if found == extension_id:
                return (at, length) if at + length <= payload else None
            at += length
    return None


def read_extensions(data: Buffer, extensions: int, payload: int) -> dict[int, tuple[int, int]]:
    """Every extension of the block: id → (start, length). For streams not yet known."""
    found: dict[int, tuple[int, int]] = {}
    if not extensions:
        return found
    profile = _read_u16(data, extensions)[0]
    one_byte = profile == ONE_BYTE_PROFILE
    if not one_byte and profile & 0xFFF0 != TWO_BYTE_PROFILE:
        return found
    at = extensions + 4
    while at < payload:
        byte = data[at]
        at += 1
        if byte == 0:
            continue
        if one_byte:
            extension_id, length = byte >> 4, (byte & 0x0F) + 1
            if extension_id == 15 or not extension_id:
                break
        else:
            if at >= payload:
                break
            extension_id, length = byte, data[at]
            at += 1
        if at + length > payload:
            break
        found.setdefault(extension_id, (at, length))
        at += length
    return found


def extension_text(data: Buffer, extensions: int, payload: int, extension_id: int) -> str | None:
    """A textual extension (mid, rid) as a string; None when absent, empty or not ASCII."""
    where = find_extension(data, extensions, payload, extension_id)
    if where is None or not where[1]:
        return None
    raw = bytes(data[where[0] : where[0] + where[1]])
    return raw.decode("ascii") if raw.isascii() else None


def extension_u16(data: Buffer, extensions: int, payload: int, extension_id: int) -> int | None:
    """A 16-bit extension (transport-wide sequence number), or None."""
    where = find_extension(data, extensions, payload, extension_id)
    if where is None or where[1] < 2:
        return None
    value: int = _read_u16(data, where[0])[0]
    return value


def extension_u24(data: Buffer, extensions: int, payload: int, extension_id: int) -> int | None:
    """A 24-bit extension (abs-send-time in 2**-18 s, playout-delay), or None."""
    where = find_extension(data, extensions, payload, extension_id)
    if where is None or where[1] != 3:
        return None
    at = where[0]
    return data[at] << 16 | data[at + 1] << 8 | data[at + 2]


def audio_level(
    data: Buffer, extensions: int, payload: int, extension_id: int
) -> tuple[bool, int] | None:
    """(speech, level) of RFC 6464: level is 0 (loudest) to 127 (silence) in -dBov, or None."""
    where = find_extension(data, extensions, payload, extension_id)
    if where is None or not where[1]:
        return None
    byte = data[where[0]]
    return byte > 0x7F, byte & 0x7F


def write_u16(data: bytearray | memoryview, at: int, value: int) -> None:
    """Overwrite a 16-bit value in place, for instance a transport-wide sequence number."""
    _write_u16(data, at, value & 0xFFFF)


def write_u24(data: bytearray | memoryview, at: int, value: int) -> None:
    """Overwrite a 24-bit value in place, for instance an abs-send-time."""
    data[at] = value >> 16 & 0xFF
    data[at + 1] = value >> 8 & 0xFF
    data[at + 2] = value & 0xFF


def abs_send_time(now: float) -> int:
    """`now` (seconds) as a 24-bit abs-send-time: 6 bits of seconds, 18 bits of fraction."""
    return int(now * 262144) & 0xFFFFFF


def build_extensions(values: Iterable[tuple[int, bytes]]) -> bytes:
    """A whole extension block, its 4-byte header included; empty when there is nothing.

    Ids are 1-255 and values at most 255 bytes long. The one-byte form is taken where
    every id and length fits, the two-byte form otherwise.
    """
    items = list(values)
    if not items:
        return b""
    if all(i <= _MAX_ONE_BYTE_ID and 0 < len(v) <= _MAX_ONE_BYTE_LENGTH for i, v in items):
        profile = ONE_BYTE_PROFILE
        body = b"".join(bytes((i << 4 | len(v) - 1,)) + v for i, v in items)
    else:
        profile = TWO_BYTE_PROFILE
        body = b"".join(bytes((i, len(v))) + v for i, v in items)
    body += bytes(-len(body) % 4)
    return _pack_extension_header(profile, len(body) // 4) + body


def translate_extensions(
    data: Buffer, extensions: int, payload: int, ids: Mapping[int, int]
) -> bytes:
    """The block again with only the extensions named in `ids`, under their new ids.

    `ids` maps the publisher's ids to a subscriber's. Returns b"" when nothing is left.
    Made once per packet for all subscribers that agreed on the same ids.
    """
    if not extensions or not ids:
        return b""
    found = read_extensions(data, extensions, payload)
    return build_extensions(
        (ids[extension_id], bytes(data[start : start + length]))
        for extension_id, (start, length) in found.items()
        if extension_id in ids
    )


def build_header(
    payload_type: int,
    marker: bool,
    seq: int,
    timestamp: int,
    ssrc: int,
    extension_block: bytes = b"",
) -> bytes:
    """An RTP header; `seq` and `timestamp` may be extended numbers (the low bits are sent)."""
    return (
        _pack_header(
            0x90 if extension_block else 0x80,
            payload_type | 0x80 if marker else payload_type,
            seq & 0xFFFF,
            timestamp & 0xFFFFFFFF,
            ssrc,
        )
        + extension_block
    )


def write_header(
    out: bytearray | memoryview,
    at: int,
    first: int,
    second: int,
    seq: int,
    timestamp: int,
    ssrc: int,
) -> None:
    """Write the 12 fixed bytes at `at`; `first` and `second` are the header's own two bytes.

    `first` is 0x80, with 0x10 for an extension block and 0x20 for padding; `second` is
    the payload type, with 0x80 for the marker.
    """
    _write_header(out, at, first, second, seq & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)


def unwrap_rtx(data: Buffer, header: Header, payload_type: int, ssrc: int) -> bytes | None:
    """The original packet inside an RTX packet (RFC 4588 §4), or None for a padding probe.

    `payload_type` is the one named by `apt`, `ssrc` that of the repaired stream. The
    extension block is kept as it is.
    """
    _, marker, _, timestamp, _, extensions, payload, end = header
    if end - payload < 2:
        return None
    block = bytes(data[extensions:payload]) if extensions else b""
    head = build_header(payload_type, marker, _read_u16(data, payload)[0], timestamp, ssrc, block)
    return head + bytes(data[payload + 2 : end])


def is_rtcp(second_byte: int) -> bool:
    """Whether a packet with this second byte is RTCP when both share a port (RFC 5761 §4)."""
    return 192 <= second_byte <= 223
