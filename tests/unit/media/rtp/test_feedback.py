import pytest

from media.rtp.feedback import (
    KEY_FRAME_TRIES,
    RESEND_BURST,
    KeyFrameRequests,
    PublisherClock,
    ResendLimiter,
    StreamClock,
    round_trip_s,
)
from media.rtp.rtcp import ReceptionReport, SenderReport, middle_ntp, ntp_from_unix


def test_first_wish_goes_out_at_once_and_others_are_merged() -> None:
    requests = KeyFrameRequests()
    assert requests.ask(10.0)
    assert not any(requests.ask(10.0 + i / 100) for i in range(1, 50))
    assert requests.sent == 1
    requests.key_frame_arrived()
    assert requests.next_deadline() is None
    assert not requests.handle_timer(11.0)


def test_encoder_that_lets_a_request_pass_is_deaf_until_it_answers_one() -> None:
    requests = KeyFrameRequests()
    deaf = [requests.ask(10.0) and requests.is_deaf]
    assert not requests.ask(10.3), "another viewer, within the interval"
    assert requests.handle_timer(10.5)
    deaf.append(requests.is_deaf)
    requests.key_frame_arrived()  # the encoder's own rhythm, after two requests
    deaf.append(requests.is_deaf)
    requests.key_frame_arrived()  # nobody had asked for that one
    deaf.append(requests.is_deaf)
    assert requests.ask(20.0)
    requests.key_frame_arrived()
    deaf.append(requests.is_deaf)
    assert deaf == [False, True, True, True, False]


def test_request_without_an_answer_is_repeated_each_interval() -> None:
    requests = KeyFrameRequests()
    assert requests.ask(10.0)
    assert requests.next_deadline() == 10.5
    assert not requests.handle_timer(10.4)
    assert requests.handle_timer(10.5)
    assert requests.next_deadline() == 11.0


def test_wish_soon_after_a_key_frame_waits_for_the_interval() -> None:
    requests = KeyFrameRequests()
    assert requests.ask(10.0)
    requests.key_frame_arrived()
    assert not requests.ask(10.2)
    assert requests.next_deadline() == 10.5
    assert requests.handle_timer(10.5)


def test_wish_long_after_goes_out_at_once() -> None:
    requests = KeyFrameRequests()
    assert requests.ask(10.0)
    requests.key_frame_arrived()
    assert requests.ask(20.0)


def test_dead_publisher_is_not_asked_for_ever() -> None:
    requests = KeyFrameRequests()
    now, sent = 0.0, int(requests.ask(0.0))
    while (deadline := requests.next_deadline()) is not None:
        now = deadline
        sent += requests.handle_timer(now)
    assert sent == KEY_FRAME_TRIES
    assert requests.ask(now + 1)


def test_packet_is_resent_once_a_round_trip() -> None:
    limiter = ResendLimiter()
    assert limiter.allow(5, 1.0, 0.1)
    assert not limiter.allow(5, 1.09, 0.1)
    assert limiter.allow(6, 1.09, 0.1)
    assert limiter.allow(5, 1.1, 0.1)
    assert limiter.refused == 1


def test_all_resends_together_are_bounded() -> None:
    limiter = ResendLimiter()
    assert sum(limiter.allow(seq, 1.0, 0.1) for seq in range(2000)) == RESEND_BURST
    assert sum(limiter.allow(seq, 1.1, 0.1) for seq in range(2000, 4000)) == 50


def sender_report(unix_s: float, rtp_ts: int) -> SenderReport:
    return SenderReport(1, ntp_from_unix(unix_s), rtp_ts & 0xFFFFFFFF, 0, 0)


def test_sound_and_picture_of_a_publisher_share_one_clock() -> None:
    clock = PublisherClock()
    video, audio = StreamClock(clock, 90_000), StreamClock(clock, 48_000)
    # The publisher's clock is 1,000 s behind ours; the path takes 30 ms, once 80 ms.
    video.update(sender_report(500.0, 900_000), 900_000, 1500.03)
    audio.update(sender_report(500.2, 70_000), 70_000, 1500.28)
    picture, sound = video.rtp_at(1501.0), audio.rtp_at(1501.0)
    assert picture is not None and sound is not None
    captured_picture = 500.0 + (picture - 900_000) / 90_000
    captured_sound = 500.2 + (sound - 70_000) / 48_000
    assert captured_picture == pytest.approx(captured_sound, abs=2e-5)
    assert captured_picture == pytest.approx(500.97, abs=0.002)


def test_extended_timestamp_is_found_across_the_wrap() -> None:
    clock = StreamClock(PublisherClock(), 90_000)
    clock.update(sender_report(10.0, 2**32 - 100), 2**32 + 50, 10.0)
    assert clock.rtp_at(10.0) == 2**32 - 100
    assert clock.rtp_at(10.01) == 2**32 + 800


def test_clock_follows_drift_slowly_and_a_step_at_once() -> None:
    clock = PublisherClock()
    clock.update(ntp_from_unix(100.0), 200.0)
    assert clock.offset_s == pytest.approx(100.0)
    clock.update(ntp_from_unix(101.0), 201.5)
    assert clock.offset_s == pytest.approx(100.01)
    clock.update(ntp_from_unix(50.0), 202.0)
    assert clock.offset_s == pytest.approx(152.0)


def test_without_a_report_there_is_no_time() -> None:
    clock = PublisherClock()
    stream = StreamClock(clock, 90_000)
    assert stream.rtp_at(5.0) is None
    clock.update(ntp_from_unix(1.0), 1.0)
    assert stream.rtp_at(5.0) is None


@pytest.mark.parametrize(
    ("last_sr_s", "delay_s", "now_s", "expected"),
    [(100.0, 0.5, 100.75, 0.25), (100.0, 0.5, 100.499, 0.0), (100.0, 0.5, 200.0, None)],
)
def test_round_trip_from_a_report(
    last_sr_s: float, delay_s: float, now_s: float, expected: float | None
) -> None:
    report = ReceptionReport(
        1, 0, 0, 0, 0, middle_ntp(ntp_from_unix(last_sr_s)), int(delay_s * 65536)
    )
    trip = round_trip_s(report, ntp_from_unix(now_s))
    assert trip == (None if expected is None else pytest.approx(expected, abs=0.001))


def test_peer_without_a_sender_report_shows_no_round_trip() -> None:
    assert round_trip_s(ReceptionReport(1, 0, 0, 0, 0, 0, 0), 1 << 40) is None
