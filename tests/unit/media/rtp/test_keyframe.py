from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder, VpxPayloadDescriptor
from hypothesis import given
from hypothesis import strategies as st

from media.rtp.keyframe import (
    KEY_START,
    NO_PICTURE_IDS,
    picture_ids,
    picture_size,
    shift_picture_ids,
    starts_frame,
)
from media.rtp.picture import sps_size

CODECS = ("VP8", "VP9", "H264", "AV1", "opus")


def encoded(
    encoder: str, width: int, height: int, options: dict[str, str]
) -> Iterator[tuple[bool, bytes]]:
    """Frames of a real encoder as (is a key frame, bitstream); every fifth one is a key frame."""
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 30), Fraction(30, 1)
    context.gop_size = 5
    context.bit_rate = 2_000_000
    context.options = options
    noise = np.random.default_rng(1)
    for index in range(13):
        frame = None  # at the end: what the encoder still holds
        if index < 12:
            pixels = noise.integers(0, 255, (height * 3 // 2, width), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="yuv420p")
            frame.pts = index
        for packet in context.encode(frame):
            yield packet.is_keyframe, bytes(packet)


def key_starts(codec: str, payloads: list[bytes]) -> list[bool]:
    return [KEY_START[codec](b"xx" + p + b"yy", 2, 2 + len(p)) for p in payloads]


@pytest.mark.parametrize("size", ((320, 240), (638, 358), (1280, 720)))
def test_vp8_key_frames_of_a_real_encoder_are_found_with_their_size(
    size: tuple[int, int],
) -> None:
    seen = 0
    for index, (is_key, frame) in enumerate(
        encoded("libvpx", *size, {"deadline": "realtime", "cpu-used": "8"})
    ):
        payloads = Vp8Encoder._packetize(frame, index + 120)
        assert key_starts("VP8", payloads) == [is_key] + [False] * (len(payloads) - 1)
        assert [starts_frame("VP8", p, 0, len(p)) for p in payloads] == (
            [True] + [False] * (len(payloads) - 1)
        )
        assert all(picture_ids("VP8", p, 0, len(p))[0] == index + 120 for p in payloads)
        if is_key:
            seen += 1
            assert picture_size("VP8", payloads[0], 0, len(payloads[0])) == size
        else:
            assert picture_size("VP8", payloads[0], 0, len(payloads[0])) is None
    assert seen >= 2


@pytest.mark.parametrize(
    ("profile", "size"),
    [
        ("baseline", (320, 240)),
        ("main", (638, 358)),
        ("high", (638, 358)),
        ("high", (1920, 1080)),
    ],
)
def test_h264_key_frames_of_a_real_encoder_are_found_with_their_size(
    profile: str, size: tuple[int, int]
) -> None:
    options = {"profile": profile, "preset": "ultrafast", "tune": "zerolatency"}
    seen = 0
    for is_key, frame in encoded("libx264", *size, options):
        payloads = H264Encoder._packetize(H264Encoder._split_bitstream(frame))
        starts = key_starts("H264", payloads)
        assert any(starts) == is_key
        sizes = [picture_size("H264", p, 0, len(p)) for p in payloads]
        if is_key:
            seen += 1
            assert size in sizes
        assert set(sizes) <= {size, None}
    assert seen >= 2


def test_av1_size_of_a_real_encoder_is_read_from_the_packet() -> None:
    found = []
    for is_key, frame in encoded("libsvtav1", 638, 358, {"preset": "12"}):
        if not is_key:
            continue
        # Temporal delimiter and sizes come off on the wire: W=1, N=1, one OBU element.
        assert frame[:2] == b"\x12\x00" and frame[2] == 0x0A
        size = frame[3]
        sequence_header = b"\x08" + frame[4 : 4 + size]
        alone = b"\x18" + sequence_header
        first_of_two = b"\x28" + bytes((size + 1,)) + sequence_header + b"\x30rest"
        with_own_size = b"\x18\x0a" + bytes((size,)) + frame[4 : 4 + size]
        for payload in (alone, first_of_two, with_own_size):
            assert KEY_START["AV1"](payload, 0, len(payload))
            found.append(picture_size("AV1", payload, 0, len(payload)))
    assert found and set(found) == {(638, 358)}


def test_interlaced_sps_counts_both_fields() -> None:
    options = {"preset": "ultrafast", "x264-params": "interlaced=1"}
    found = []
    for is_key, frame in encoded("libx264", 320, 256, options):
        if is_key:
            nals = list(H264Encoder._split_bitstream(frame))
            found += [sps_size(nal[1:]) for nal in nals if nal[0] & 0x1F == 7]
    assert found and set(found) == {(320, 256)}


@pytest.mark.parametrize(
    ("codec", "payload", "expected"),
    [
        ("VP8", "10 00", True),
        ("VP8", "10 01", False),  # an inter frame
        ("VP8", "00 00", False),  # not the start of a partition
        ("VP8", "11 00", False),  # the second partition
        ("VP8", "90 80 05 00", True),
        ("VP8", "90 80 85 05 00", True),
        ("VP8", "90 f0 85 05 01 02 00", True),
        ("VP8", "90 f0 85 05 01 02", False),  # cut off
        ("VP9", "08", True),
        ("VP9", "48", False),  # predicted
        ("VP9", "00", False),  # the middle of a frame
        ("VP9", "a8 81 01 00 07", True),
        ("VP9", "a8 81 01 02 07", False),  # a higher spatial layer
        ("VP9", "a8 81", False),
        ("H264", "67 42", True),
        ("H264", "65 88", True),
        ("H264", "41 9a", False),
        ("H264", "7c 85", True),  # FU-A, IDR begins
        ("H264", "7c 05", False),
        ("H264", "7c 81", False),
        ("H264", "78 00 02 67 42 00 01 68", True),
        ("H264", "78 00 02 09 10 00 01 67", True),
        ("H264", "78 00 02 09 10 00 01 41", False),
        ("AV1", "08", True),
        ("AV1", "88", False),
        ("AV1", "10", False),
        ("opus", "08", False),
    ],
)
def test_key_starts_by_hand(codec: str, payload: str, expected: bool) -> None:
    assert key_starts(codec, [bytes.fromhex(payload)]) == [expected]


def test_vp9_size_is_that_of_the_largest_layer() -> None:
    # I L V set, 7-bit picture id, layer byte, TL0PICIDX; two layers with sizes.
    payload = bytes.fromhex("aa 05 00 01 30 0140 00b4 0280 0168")
    assert picture_size("VP9", payload, 0, len(payload)) == (640, 360)
    assert picture_size("VP9", payload, 0, len(payload) - 1) is None


@pytest.mark.parametrize(
    ("picture_id", "offset", "expected"),
    [(32767, 1, 0), (5, -6, 32767), (300, 20_000, 20_300), (0x80, 0, 0x80)],
)
def test_long_picture_ids_wrap_within_15_bits(picture_id: int, offset: int, expected: int) -> None:
    payload = bytes((0x90, 0xC0, 0x80 | picture_id >> 8, picture_id & 0xFF, 250, 1, 2))
    moved = shift_picture_ids("VP8", payload, offset, 10)
    assert picture_ids("VP8", moved, 0, len(moved)) == (expected, 2, 4, 4)
    assert moved[5:] == payload[5:]
    assert payload[4] == 250


def test_short_picture_ids_wrap_within_7_bits() -> None:
    moved = shift_picture_ids("VP8", bytes((0x90, 0x80, 127, 9)), 3, 1)
    assert moved == bytes((0x90, 0x80, 2, 9))


def test_vp9_picture_ids_and_tl0_are_moved() -> None:
    payload = bytes.fromhex("a8 8101 00 07 55")
    assert picture_ids("VP9", payload, 0, len(payload)) == (0x101, 1, 7, 4)
    assert shift_picture_ids("VP9", payload, 1, 1) == bytes.fromhex("a8 8102 00 08 55")
    flexible = bytes.fromhex("b8 8101 00 55")
    assert picture_ids("VP9", flexible, 0, len(flexible)) == (0x101, 1, -1, 0)


def test_payload_without_picture_ids_is_passed_on_as_it_is() -> None:
    for codec, payload in (("VP8", b"\x10\x00"), ("H264", b"\x65\x00"), ("VP9", b"\x08")):
        assert picture_ids(codec, payload, 0, len(payload)) == NO_PICTURE_IDS
        assert shift_picture_ids(codec, payload, 5, 5) is payload


@given(st.integers(0, 32767), st.integers(0, 255), st.integers(-40_000, 40_000))
def test_aiortc_reads_the_moved_picture_id(picture_id: int, tl0: int, offset: int) -> None:
    descriptor = VpxPayloadDescriptor(
        partition_start=1, partition_id=0, picture_id=picture_id, tl0picidx=tl0
    )
    moved = shift_picture_ids("VP8", bytes(descriptor) + b"\x00frame", offset, 1)
    again, rest = VpxPayloadDescriptor.parse(moved)
    mask = 0x7FFF if bytes(descriptor)[2] & 0x80 else 0x7F
    assert again.picture_id == picture_id + offset & mask
    assert again.tl0picidx == tl0 + 1 & 0xFF
    assert rest == b"\x00frame"


@given(st.sampled_from(CODECS), st.binary(max_size=40), st.integers(0, 5))
def test_any_payload_is_looked_at_without_raising(codec: str, data: bytes, start: int) -> None:
    start = min(start, len(data))
    KEY_START[codec](data, start, len(data))
    starts_frame(codec, data, start, len(data))
    picture_size(codec, data, start, len(data))
    picture_id, id_at, tl0, tl0_at = picture_ids(codec, data, start, len(data))
    assert start + max(id_at, tl0_at) <= len(data)
    assert -1 <= picture_id <= 0x7FFF and -1 <= tl0 <= 255
    assert len(shift_picture_ids(codec, data, 7, 7)) == len(data)
