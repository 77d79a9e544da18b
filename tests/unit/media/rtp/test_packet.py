import pytest
from aiortc.rtp import RtpPacket
from hypothesis import given
from hypothesis import strategies as st

from media.rtp import packet as rtp
from media.rtp.packet import (
    abs_send_time,
    audio_level,
    build_extensions,
    build_header,
    extension_text,
    extension_u16,
    extension_u24,
    find_extension,
    parse_header,
    read_extensions,
    translate_extensions,
    unwrap_rtx,
    write_header,
    write_u16,
    write_u24,
)

extension_values = st.lists(
    st.tuples(st.integers(1, 14), st.binary(min_size=1, max_size=16)),
    max_size=6,
    unique_by=lambda item: item[0],
)
long_extension_values = st.lists(
    st.tuples(st.integers(1, 255), st.binary(max_size=40)),
    max_size=6,
    unique_by=lambda item: item[0],
)


@given(
    st.integers(0, 127),
    st.booleans(),
    st.integers(0, 65535),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    extension_values | long_extension_values,
    st.binary(max_size=50),
    st.integers(0, 255),
    st.lists(st.integers(0, 2**32 - 1), max_size=15),
)
def test_header_survives_a_round_trip(
    payload_type: int,
    marker: bool,
    seq: int,
    timestamp: int,
    ssrc: int,
    values: list[tuple[int, bytes]],
    payload: bytes,
    padding: int,
    csrc: list[int],
) -> None:
    block = build_extensions(values)
    head = bytearray(build_header(payload_type, marker, seq, timestamp, ssrc, block))
    head[12:12] = b"".join(c.to_bytes(4, "big") for c in csrc)
    head[0] |= len(csrc)
    tail = b""
    if padding:
        head[0] |= 0x20
        tail = bytes(padding - 1) + bytes((padding,))
    data = bytes(head) + payload + tail
    header = parse_header(data + b"slot remains", len(data))
    assert header is not None
    assert header[:5] == (payload_type, marker, seq, timestamp, ssrc)
    assert data[header[rtp.PAYLOAD] : header[rtp.END]] == payload
    found = read_extensions(data, header[rtp.EXTENSIONS], header[rtp.PAYLOAD])
    assert {i: data[a : a + n] for i, (a, n) in found.items()} == dict(values)
    for extension_id, value in values:
        where = find_extension(data, header[5], header[6], extension_id)
        assert where is not None
        assert data[where[0] : where[0] + where[1]] == value


@given(st.binary(max_size=80), st.integers(0, 100), st.integers(0, 15))
def test_any_bytes_are_parsed_or_turned_down(data: bytes, size: int, extension_id: int) -> None:
    header = parse_header(data, size)
    if header is None:
        return
    assert 12 <= header[rtp.PAYLOAD] <= header[rtp.END] <= size <= len(data)
    where = find_extension(data, header[5], header[6], extension_id)
    if where is not None:
        assert header[5] < where[0] <= where[0] + where[1] <= header[6]
        assert read_extensions(data, header[5], header[6])[extension_id] == where
    extension_text(data, header[5], header[6], extension_id)
    extension_u16(data, header[5], header[6], extension_id)
    extension_u24(data, header[5], header[6], extension_id)
    audio_level(data, header[5], header[6], extension_id)


@given(st.binary(max_size=60))
def test_any_extension_block_is_read_within_its_bounds(body: bytes) -> None:
    for profile in (0xBEDE, 0x1000, 0x1007, 0x0000):
        padded = body + bytes(-len(body) % 4)
        block = profile.to_bytes(2, "big") + (len(padded) // 4).to_bytes(2, "big") + padded
        data = build_header(96, False, 1, 2, 3, block)
        header = parse_header(data, len(data))
        assert header is not None
        for extension_id, where in read_extensions(data, header[5], header[6]).items():
            assert find_extension(data, header[5], header[6], extension_id) == where


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(11),
        bytes(12),  # version 0
        b"\x40" + bytes(20),  # version 1
        b"\x90" + bytes(12),  # extension header cut off
        b"\x90" + bytes(11) + b"\xbe\xde\x00\x01",  # extension body cut off
        b"\x8f" + bytes(20),  # CSRC list cut off
        b"\xa0" + bytes(20),  # padding of zero bytes
        b"\xa0" + bytes(19) + b"\xff",  # more padding than packet
    ],
)
def test_unsound_packet_is_turned_down(data: bytes) -> None:
    assert parse_header(data, len(data)) is None


def test_size_beyond_buffer_is_turned_down() -> None:
    assert parse_header(build_header(96, False, 1, 2, 3), 13) is None


def test_padding_only_packet_has_an_empty_payload() -> None:
    data = b"\xa0" + build_header(96, False, 1, 2, 3)[1:] + bytes(254) + b"\xff"
    header = parse_header(data, len(data))
    assert header is not None
    assert header[rtp.PAYLOAD] == header[rtp.END]


def test_aiortc_reads_what_we_build() -> None:
    block = build_extensions([(1, b"\x85"), (3, b"\x12\x34")])
    theirs = RtpPacket.parse(build_header(111, True, 65537, 2**32 + 5, 7, block) + b"abc")
    assert theirs.payload_type == 111
    assert theirs.marker == 1
    assert theirs.sequence_number == 1
    assert theirs.timestamp == 5
    assert theirs.ssrc == 7
    assert theirs.payload == b"abc"


def test_values_are_read_and_overwritten_in_place() -> None:
    block = build_extensions([(1, b"\x85"), (3, b"\x12\x34"), (4, b"0"), (5, b"abc")])
    data = bytearray(build_header(111, True, 9, 9, 7, block))
    header = parse_header(data, len(data))
    assert header is not None
    extensions, payload = header[5], header[6]
    assert audio_level(data, extensions, payload, 1) == (True, 5)
    assert extension_u16(data, extensions, payload, 3) == 0x1234
    assert extension_text(data, extensions, payload, 4) == "0"
    assert extension_text(data, extensions, payload, 6) is None
    where = find_extension(data, extensions, payload, 3)
    assert where is not None
    write_u16(data, where[0], 0x1FFFF)
    assert extension_u16(data, extensions, payload, 3) == 0xFFFF
    where = find_extension(data, extensions, payload, 5)
    assert where is not None
    write_u24(data, where[0], abs_send_time(1.5))
    assert extension_u24(data, extensions, payload, 5) == 393216


def test_extensions_move_to_the_subscribers_ids() -> None:
    block = build_extensions([(1, b"\x85"), (3, b"\x12\x34"), (4, b"0")])
    data = build_header(111, True, 9, 9, 7, block)
    assert translate_extensions(data, 12, len(data), {1: 10, 3: 5}) == build_extensions(
        [(10, b"\x85"), (5, b"\x12\x34")]
    )
    assert translate_extensions(data, 12, len(data), {9: 9}) == b""
    assert translate_extensions(data, 0, len(data), {1: 1}) == b""


def test_header_is_written_over_another() -> None:
    out = bytearray(20)
    write_header(out, 4, 0x80, 0xE0, 65536 + 3, 2**32 + 4, 5)
    assert parse_header(out[4:], 16) == (96, True, 3, 4, 5, 0, 12, 16)


def test_rtx_gives_back_the_original_packet() -> None:
    original = build_header(96, True, 700, 90_000, 11, build_extensions([(4, b"0")])) + b"frame"
    header = parse_header(original, len(original))
    assert header is not None
    resent = (
        build_header(97, True, 3, 90_000, 12, original[12 : header[6]])
        + (700).to_bytes(2, "big")
        + b"frame"
    )
    header = parse_header(resent, len(resent))
    assert header is not None
    assert unwrap_rtx(resent, header, 96, 11) == original
    probe = build_header(97, True, 3, 90_000, 12)
    header = parse_header(probe, len(probe))
    assert header is not None
    assert unwrap_rtx(probe, header, 96, 11) is None
