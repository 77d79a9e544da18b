"""The block code: what is drawn is read, at any size, through an encoder, and nothing else is."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from hypothesis import given
from hypothesis import strategies as st

from media.stage import clockcode
from media.stage.encode import VideoEncoder
from media.stage.planes import Picture, u8

MOMENTS = st.integers(0, 2**clockcode.TIME_BITS - 1)


@given(MOMENTS)
def test_levels_round_trip(at_ms: int) -> None:
    assert clockcode.decode(clockcode.encode(at_ms)) == at_ms


@given(MOMENTS, st.integers(0, clockcode.BITS - 1))
def test_one_wrong_block_is_noticed(at_ms: int, bit: int) -> None:
    levels = clockcode.encode(at_ms)
    levels[bit] = clockcode.LOW + clockcode.HIGH - levels[bit]
    assert clockcode.decode(levels) is None


@pytest.mark.parametrize("at_ms", [-1, 2**41])
def test_moment_out_of_range_is_refused(at_ms: int) -> None:
    with pytest.raises(ValueError, match="41 bits"):
        clockcode.encode(at_ms)


def test_flat_picture_carries_no_clock() -> None:
    assert clockcode.read(np.full((540, 960), 120, np.uint8)) is None


@given(st.binary(min_size=48 * 27, max_size=48 * 27))
def test_any_picture_is_read_without_error(noise: bytes) -> None:
    result = clockcode.read(np.frombuffer(noise, np.uint8).reshape(27, 48))
    assert result is None or 0 <= result < 2**41


@pytest.mark.parametrize("size", [(960, 540), (640, 360), (1280, 720), (480, 270)])
def test_clock_survives_scaling(size: tuple[int, int]) -> None:
    luma = np.full((540, 960), 90, np.uint8)
    clockcode.draw(luma, 1_790_000_123_456)
    scaled = u8(cv2.resize(luma, size, interpolation=cv2.INTER_AREA))
    assert clockcode.read(scaled) == 1_790_000_123_456


def test_clock_survives_encoder() -> None:
    rng = np.random.default_rng(1)
    encoder = VideoEncoder(960, 540, 25, 600_000)
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, VideoCodecContext)
    seen = []
    for number in range(8):
        picture = Picture(960, 540)
        picture.y[:] = u8(
            cv2.GaussianBlur(rng.integers(16, 235, (540, 960)).astype(np.uint8), (0, 0), 2)
        )
        clockcode.draw(picture.y, 1_790_000_000_000 + number * 40)
        for packet in decoder.parse(encoder.encode(picture.data, number * 3600)):
            seen += [clockcode.read(u8(f.to_ndarray()[:540])) for f in decoder.decode(packet)]
    assert seen == [1_790_000_000_000 + n * 40 for n in range(len(seen))]
    assert len(seen) >= 6
