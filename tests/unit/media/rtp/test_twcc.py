import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from media.rtp.rtcp import parse_compound
from media.rtp.twcc import TWCC_TICK_S, TransportFeedback, build_twcc, read_twcc

arrival_steps = st.lists(
    st.none() | st.integers(0, 255) | st.integers(-3000, 3000), min_size=0, max_size=120
)


@given(st.integers(0, 65535), st.integers(0, 2**20), arrival_steps)
@example(0, 0, [None] * 40 + [3] * 8 + [300] + [0] * 6 + [None, 1] * 9 + [5] * 20)
@example(65535, 7, [300] * 9)
def test_transport_feedback_survives_a_round_trip(
    base: int, start: int, steps: list[int | None]
) -> None:
    ticks = 1_000_000 + start
    arrivals: list[float | None] = [ticks * TWCC_TICK_S]
    for step in steps:
        if step is not None:
            ticks += step
        arrivals.append(None if step is None else ticks * TWCC_TICK_S)
    [item] = parse_compound(build_twcc(1, 2, base, 300, arrivals))
    assert isinstance(item, TransportFeedback)
    assert (item.sender_ssrc, item.media_ssrc, item.base_seq) == (1, 2, base)
    assert item.feedback_count == 300 & 0xFF
    assert len(item.arrivals) == len(arrivals)
    for ours, original in zip(item.arrivals, arrivals, strict=True):
        assert (ours is None) == (original is None)
        if ours is not None and original is not None:
            assert ours == pytest.approx(original, abs=1e-6)


def test_transport_feedback_is_laid_out_as_the_draft_says() -> None:
    # Reference 15 x 64 ms; then 160 and 40 ticks of 250 us; one vector of one-bit symbols.
    expected = "8fcd0005 00000001 00000002 00000003 00000f09 a800 a0 28"
    assert build_twcc(1, 2, 0, 9, [1.0, None, 1.01]) == bytes.fromhex(expected)


@given(st.binary(max_size=80))
def test_any_body_is_read_within_its_bounds(body: bytes) -> None:
    item = read_twcc(body, 0, len(body), 1, 2)
    if item is not None:
        assert len(item.arrivals) == int.from_bytes(body[2:4], "big")
