"""Hand-made headers; test_keyframe.py reads those of real encoders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.rtp.picture import sequence_header_size, sps_size


@pytest.mark.parametrize(
    ("sps", "size"),
    [
        # Baseline, level 3.1, 1280x720, no cropping; a High one of 1920x1080 with cropping.
        ("42c01f da014016e9b808080809", (1280, 720)),
        ("640028 acd940780227e5c05a808080a0000003002000000781e30632c0", (1920, 1080)),
        ("42c01f da01", None),  # cut off
        ("", None),
    ],
)
def test_sps_by_hand(sps: str, size: tuple[int, int] | None) -> None:
    assert sps_size(bytes.fromhex(sps)) == size


def test_cut_off_sequence_header_says_nothing() -> None:
    assert sequence_header_size(b"\x00\x00") is None


@given(st.binary(max_size=60))
def test_any_sequence_header_gives_a_sound_size_or_none(data: bytes) -> None:
    for size in (
        sps_size(data),
        sps_size(b"\x64\x00\x1f" + data),
        sequence_header_size(data),
    ):
        assert size is None or (size[0] > 0 and size[1] > 0)
