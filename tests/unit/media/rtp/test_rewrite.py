import itertools

import pytest

from media.rtp.history import Packet
from media.rtp.rewrite import SQUEEZE, Position, Rewriter, position_of

STARTS = (0, 1, 127, 128, 129, 32767, 32768, 32769, 65534, 65535)


def line(first_seq: int = 100, first_ts: int = 1000) -> Rewriter:
    return Rewriter(first_seq, first_ts, 90_000)


@pytest.mark.parametrize("source_start", STARTS)
@pytest.mark.parametrize("line_start", STARTS)
def test_steady_state_is_two_additions(source_start: int, line_start: int) -> None:
    rewriter = line(line_start)
    rewriter.switch(1, Position(source_start, 5000))
    for step in range(300):
        seq, rtp_ts = source_start + step, 5000 + 3000 * step
        assert seq >= rewriter.plain_from
        moved = rewriter.rewrite(1, seq, rtp_ts)
        assert moved is not None
        assert moved.seq == seq + rewriter.seq_offset == line_start + step
        assert moved.rtp_ts == rtp_ts + rewriter.ts_offset == 1000 + 3000 * step


def test_switch_goes_on_with_the_next_number_and_the_time_that_passed() -> None:
    rewriter = line()
    rewriter.switch(1, Position(10, 5000))
    rewriter.switch(2, Position(60000, 77), Position(19, 32000), elapsed_s=0.5)
    assert rewriter.rewrite(2, 60000, 77) == (110, 1000 + 27000 + 45000, 0, 0)
    assert rewriter.rewrite(1, 19, 32000) == (109, 28000, 0, 0)
    assert rewriter.rewrite(1, 20, 35000) is None  # came after the cut
    assert rewriter.rewrite(3, 60000, 77) is None


def test_switch_without_delay_still_moves_time_on() -> None:
    rewriter = line()
    rewriter.switch(1, Position(10, 5000))
    rewriter.switch(2, Position(0, 0), Position(10, 5000), elapsed_s=0.0)
    assert rewriter.rewrite(2, 0, 0) == (101, 1001, 0, 0)


def test_switch_before_anything_was_sent_takes_the_same_numbers() -> None:
    rewriter = line()
    rewriter.switch(1, Position(10, 5000))
    rewriter.switch(2, Position(7, 9), None, 3.0)
    assert rewriter.rewrite(2, 7, 9) == (100, 1000, 0, 0)
    assert rewriter.rewrite(1, 10, 5000) is None
    rewriter.switch(3, Position(50, 50), Position(7, 9), 1.0)
    rewriter.switch(4, Position(70, 70), None, 2.0)
    assert rewriter.rewrite(4, 70, 70) == (101, 1000 + 180_000, 0, 0)
    assert rewriter.rewrite(2, 7, 9) == (100, 1000, 0, 0)
    assert rewriter.rewrite(3, 50, 50) is None


def test_dropped_packets_leave_no_gap_and_late_ones_keep_their_place() -> None:
    rewriter = line(0, 0)
    rewriter.switch(1, Position(0, 0))
    for seq in (5, 6, 9):
        rewriter.drop(seq)
    expected = {0: 0, 4: 4, 7: 5, 8: 6, 10: 7, 11: 8}
    for seq, out in expected.items():
        moved = rewriter.rewrite(1, seq, 0)
        assert moved is not None
        assert moved.seq == out
        assert rewriter.find(out, 11) == (1, seq)
    for seq in (5, 6, 9):
        assert rewriter.rewrite(1, seq, 0) is None
    rewriter.drop(3)  # late: already behind, its number stays a hole
    assert 11 + rewriter.seq_offset == 8


def test_drop_then_switch_reuses_nothing() -> None:
    rewriter = line(0, 0)
    rewriter.switch(1, Position(0, 0))
    rewriter.drop(3)
    rewriter.drop(4)
    rewriter.switch(2, Position(0, 0), Position(2, 6000), 0.1)
    moved = rewriter.rewrite(2, 0, 0)
    assert moved is not None
    assert moved.seq == 3
    assert rewriter.find(2, 0) == (1, 2)
    assert rewriter.find(3, 0) == (2, 0)


def test_nack_finds_the_packet_across_a_switch_and_a_wrap() -> None:
    rewriter = line(65530)
    rewriter.switch(1, Position(1000, 0))
    rewriter.switch(2, Position(40_000, 0), Position(1009, 100), 0.1)
    newest = 40_009
    for out in range(10):
        assert rewriter.find((65530 + out) & 0xFFFF, newest) == (1, 1000 + out)
        assert rewriter.find((65540 + out) & 0xFFFF, newest) == (2, 40_000 + out)
    assert rewriter.find(65529, newest) is None


def test_replayed_frames_are_squeezed_and_live_ones_are_not() -> None:
    rewriter = line()
    rewriter.switch(1, Position(0, 0), live=Position(60, 180_000))
    assert rewriter.plain_from == 61
    times = []
    for seq in range(70):
        moved = rewriter.rewrite(1, seq, 3000 * seq)
        assert moved is not None
        times.append(moved.rtp_ts)
        if seq >= rewriter.plain_from:
            assert moved.rtp_ts == 3000 * seq + rewriter.ts_offset
    assert times[0] == 1000
    steps = [b - a for a, b in itertools.pairwise(times)]
    assert steps == [3000 // SQUEEZE] * 60 + [3000] * 9


def test_live_packet_with_an_older_timestamp_is_not_squeezed_when_resent() -> None:
    rewriter = line()
    rewriter.switch(1, Position(0, 0), live=Position(10, 30_000))
    assert rewriter.plain_from == 11
    moved = rewriter.rewrite(1, 11, 27_000)  # a bidirectional frame
    assert moved is not None
    assert moved.rtp_ts == 27_000 + rewriter.ts_offset


def test_replay_after_a_switch_never_goes_back_in_time() -> None:
    rewriter = line()
    rewriter.switch(1, Position(0, 0))
    rewriter.switch(2, Position(0, 0), Position(5, 15_000), 0.01, live=Position(90, 270_000))
    last = rewriter.rewrite(1, 5, 15_000)
    first = rewriter.rewrite(2, 0, 0)
    assert last is not None and first is not None
    assert last.rtp_ts < first.rtp_ts


def test_picture_numbers_go_on_after_a_switch() -> None:
    rewriter = line()
    rewriter.switch(1, Position(0, 0, 500, 9))
    assert (rewriter.picture_offset, rewriter.tl0_offset) == (0, 0)
    rewriter.switch(2, Position(0, 0, 3, 200), Position(8, 9, 510, 11), 0.1)
    assert 3 + rewriter.picture_offset == 511
    assert 200 + rewriter.tl0_offset == 12
    rewriter.switch(1, Position(20, 9, 520, 19), Position(4, 9, 5, 202), 0.1)
    assert 520 + rewriter.picture_offset == 514
    rewriter.switch(3, Position(20, 9), Position(21, 9, 521, 19), 0.1)
    assert (rewriter.picture_offset, rewriter.tl0_offset) == (0, 0)


def test_position_reads_the_picture_numbers_of_a_packet() -> None:
    payload = bytes((0x90, 0xC0, 0x81, 0x02, 7, 0))
    packet = Packet(5, 6, True, 96, payload, b"", True, 0.0)
    assert position_of(packet, "VP8") == (5, 6, 0x102, 7)
    assert position_of(packet, "H264") == (5, 6, -1, -1)
