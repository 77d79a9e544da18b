import pytest

from media.rtp.seq import extend_seq, extend_ts, seq_distance, ts_distance

STARTS = (0, 1, 127, 128, 129, 32767, 32768, 32769, 65534, 65535)


@pytest.mark.parametrize("start", STARTS)
def test_seq_counts_on_over_many_cycles(start: int) -> None:
    reference = start
    for step in range(0, 200_000, 977):
        reference = extend_seq((start + step) & 0xFFFF, reference)
        assert reference == start + step


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("offset", (-32768, -32767, -1, 0, 1, 32767))
def test_seq_near_reference_keeps_its_sign(start: int, offset: int) -> None:
    assert extend_seq((start + offset) & 0xFFFF, start) == start + offset
    assert seq_distance((start + offset) & 0xFFFF, start) == offset


@pytest.mark.parametrize("start", (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 5 * 2**32 + 7))
@pytest.mark.parametrize("offset", (-(2**31), -90_000, -1, 0, 1, 3000, 2**31 - 1))
def test_timestamp_near_reference_keeps_its_sign(start: int, offset: int) -> None:
    assert extend_ts((start + offset) & 0xFFFFFFFF, start) == start + offset
    assert ts_distance((start + offset) & 0xFFFFFFFF, start & 0xFFFFFFFF) == offset
