import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.rtp.receive import (
    MAX_MISSING,
    MAX_TRIES,
    Receiver,
    TransportRecorder,
)
from media.rtp.rtcp import ntp_from_unix, parse_compound
from media.rtp.twcc import TransportFeedback

STARTS = (0, 1, 127, 128, 129, 32767, 32768, 32769, 65534, 65535)


def receiver(*, wants_resend: bool = True) -> Receiver:
    return Receiver(7, 90_000, wants_resend=wants_resend)


def feed(target: Receiver, *seqs: int, now: float = 0.0) -> list[int | None]:
    """Receive these numbers (wrapped here); the extended numbers that came out."""
    found = (target.receive(seq & 0xFFFF, 3000 * seq & 0xFFFFFFFF, 100, now) for seq in seqs)
    return [None if one is None else one[0] for one in found]


@pytest.mark.parametrize("start", STARTS)
def test_numbers_are_extended_in_order_and_out_of_order(start: int) -> None:
    stream = receiver()
    assert feed(stream, start, start + 1, start + 4) == [start, start + 1, start + 4]
    assert stream.missing == [start + 2, start + 3]
    assert feed(stream, start + 3, start + 2) == [start + 3, start + 2]
    assert stream.missing == []
    assert (stream.packets, stream.octets, stream.recovered, stream.lost) == (5, 500, 2, 0)


@pytest.mark.parametrize("start", STARTS)
def test_many_cycles_are_counted(start: int) -> None:
    stream = receiver()
    feed(stream, *range(start, start + 140_000, 7))
    assert stream.highest_seq == start + 139_993
    assert stream.highest_ts - start * 3000 % 2**32 == 139_993 * 3000


def test_duplicates_are_turned_down() -> None:
    stream = receiver()
    assert feed(stream, 5, 6, 6, 5) == [5, 6, None, None]
    assert stream.duplicates == 2


def test_missing_is_asked_for_once_a_round_trip_and_then_given_up() -> None:
    stream = receiver()
    feed(stream, 1, 3, now=10.0)
    assert stream.next_deadline() == 10.0
    assert stream.poll(10.0, 0.05) == ([2], False)
    assert stream.poll(10.04, 0.05) == ([], False)
    asked, now = 1, 10.0
    while stream.missing:
        deadline = stream.next_deadline()
        assert deadline is not None and deadline > now
        now = deadline
        requests = stream.poll(now, 0.05)
        asked += len(requests.seqs)
    assert asked == MAX_TRIES
    assert requests.needs_key_frame
    assert stream.given_up == 1
    assert stream.next_deadline() is None
    assert stream.poll(now, 0.05) == ([], False)


def test_long_round_trips_end_by_age() -> None:
    stream = receiver()
    feed(stream, 1, 3, now=10.0)
    rounds = 0
    while not stream.poll(10.0 + rounds * 0.5, 0.5).needs_key_frame:
        rounds += 1
    assert rounds == 3


def test_too_many_missing_are_given_up_at_once() -> None:
    stream = receiver()
    feed(stream, 1, MAX_MISSING + 10)
    assert stream.missing == []
    assert stream.next_deadline() == 0.0
    assert stream.poll(0.0, 0.1).needs_key_frame
    assert not stream.poll(0.0, 0.1).needs_key_frame


def test_key_frame_ends_the_search_for_what_came_before() -> None:
    stream = receiver()
    feed(stream, 1, 3, 10, 12)
    stream.key_frame_arrived(10)
    assert stream.missing == [11]


def test_path_that_reorders_is_asked_less_hastily() -> None:
    stream = receiver()
    feed(stream, 1, 3, now=1.0)
    feed(stream, 2, now=1.008)
    feed(stream, 5, now=2.0)
    deadline = stream.next_deadline()
    assert deadline == pytest.approx(2.008)
    assert stream.poll(2.0, 0.1).seqs == []
    assert stream.poll(2.009, 0.1).seqs == [4]


def test_stream_without_resend_asks_for_nothing() -> None:
    stream = receiver(wants_resend=False)
    assert feed(stream, 1, 5, 3) == [1, 5, 3]
    assert stream.next_deadline() is None
    assert stream.lost == 2


def test_stray_packet_is_dropped_and_a_new_start_is_followed() -> None:
    stream = receiver()
    feed(stream, 1000, 1001)
    assert feed(stream, 30_000) == [None]
    assert feed(stream, 1002) == [1002]
    assert stream.restarts == 0
    assert feed(stream, 50_000, 50_001) == [None, 50_001]
    assert stream.restarts == 1
    assert stream.poll(0.0, 0.1).needs_key_frame
    # Backwards on the wire, still upwards inside.
    assert feed(stream, 10, 11) == [None, 65536 + 11]
    assert stream.highest_seq == 65536 + 11
    assert stream.report(0.0).fraction_lost == 0


def test_report_counts_losses_of_its_own_time_only() -> None:
    stream = receiver(wants_resend=False)
    feed(stream, *range(0, 100, 2))
    first = stream.report(0.0)
    assert first.packets_lost == 49
    assert first.fraction_lost == 49 * 256 // 99
    feed(stream, *range(99, 150))
    second = stream.report(0.0)
    assert second.packets_lost == 49
    assert second.fraction_lost == 0
    assert second.highest_seq == 149
    assert second.last_sr == 0


def test_report_carries_the_sender_reports_time() -> None:
    stream = receiver()
    feed(stream, 1)
    stream.note_sender_report(ntp_from_unix(1000.5), 20.0)
    report = stream.report(20.25)
    assert report.last_sr == ntp_from_unix(1000.5) >> 16 & 0xFFFFFFFF
    assert report.delay_since_sr == 16384


def test_jitter_of_a_steady_stream_is_nothing_and_of_a_shaky_one_its_size() -> None:
    steady, shaky = receiver(), receiver()
    noise = random.Random(1)
    for frame in range(500):
        for part in range(3):
            seq, rtp_ts, now = frame * 3 + part, frame * 3000, frame / 30
            steady.receive(seq & 0xFFFF, rtp_ts, 1, now)
            shaky.receive(seq & 0xFFFF, rtp_ts, 1, now + noise.choice((0, 0.01)))
    assert steady.jitter < 1
    assert 200 < shaky.jitter < 900


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 2**32 - 1)), max_size=80))
def test_any_numbers_leave_a_sound_state(packets: list[tuple[int, int]]) -> None:
    stream = receiver()
    for index, (seq, rtp_ts) in enumerate(packets):
        found = stream.receive(seq, rtp_ts, 10, index / 100)
        if found is not None:
            assert found[0] & 0xFFFF == seq
            assert found[1] & 0xFFFFFFFF == rtp_ts
            assert found[0] <= stream.highest_seq
        stream.poll(index / 100, 0.05)
        assert len(stream.missing) <= MAX_MISSING
        report = stream.report(index / 100)
        assert 0 <= report.fraction_lost <= 255


def read(packet: bytes | None) -> TransportFeedback:
    assert packet is not None
    [item] = parse_compound(packet)
    assert isinstance(item, TransportFeedback)
    return item


@pytest.mark.parametrize("start", STARTS)
def test_feedback_reports_arrivals_and_losses(start: int) -> None:
    recorder = TransportRecorder()
    assert recorder.next_deadline() is None
    assert recorder.feedback(1, 2, 0.0) is None
    recorder.record(start, 5.0)
    recorder.record(start + 2 & 0xFFFF, 5.01)
    assert recorder.next_deadline() == pytest.approx(5.1)
    first = read(recorder.feedback(1, 2, 5.1))
    assert first.base_seq == start
    assert first.feedback_count == 0
    one, two, three = first.arrivals
    assert two is None
    assert one is not None and three is not None
    assert three - one == pytest.approx(0.01, abs=0.0003)
    assert recorder.next_deadline() is None
    recorder.record(start + 5 & 0xFFFF, 5.15)  # two more were lost in between
    second = read(recorder.feedback(1, 2, 5.2))
    assert second.base_seq == start + 3 & 0xFFFF
    assert [arrival is None for arrival in second.arrivals] == [True, True, False]
    assert second.feedback_count == 1


def test_late_arrival_is_reported_with_what_followed_it() -> None:
    recorder = TransportRecorder()
    for seq in (10, 12, 13):
        recorder.record(seq, 5.0 + seq / 1000)
    recorder.feedback(1, 2, 5.1)
    recorder.record(11, 5.15)
    recorder.record(11, 5.16)
    late = read(recorder.feedback(1, 2, 5.2))
    assert late.base_seq == 11
    assert all(arrival is not None for arrival in late.arrivals)
    assert len(late.arrivals) == 3


def test_feedback_stays_bounded_over_a_long_silence() -> None:
    recorder = TransportRecorder()
    recorder.record(0, 0.0)
    recorder.record(20_000, 1.0)
    item = read(recorder.feedback(1, 2, 1.1))
    assert len(item.arrivals) <= 1001
    assert item.arrivals[-1] is not None
    for seq in range(20_001, 40_000):
        recorder.record(seq & 0xFFFF, seq / 1000)
        if seq % 100 == 0:
            recorder.feedback(1, 2, seq / 1000)
    assert len(recorder._arrivals) <= 2200
