"""The shared clock: believes the quickest answer, and never jumps."""

from __future__ import annotations

from interact.redis_clock import SLEW, SharedClock


def test_first_sample_sets_the_clock() -> None:
    clock = SharedClock()
    clock.sample(10.0, 10.2, 1_000.1)
    assert clock.now_ms(10.2) == 1_000_200
    assert round(clock.error_ms) == 100


def test_quicker_answer_is_believed_and_approached_without_a_jump() -> None:
    clock = SharedClock()
    clock.sample(0.0, 0.4, 1_000.4)  # right would be 1000.2
    clock.now_ms(0.4)
    clock.sample(1.0, 1.002, 1_001.001)
    before = clock.now_ms(1.002)
    after = clock.now_ms(2.002)
    assert before - 1_001_002 > 150  # still wrong, but it moves
    assert abs((after - before) - 1_000 * (1 - SLEW)) <= 1
    assert clock.now_ms(20.0) == 1_020_000


def test_time_never_runs_backwards() -> None:
    clock = SharedClock()
    clock.sample(0.0, 0.2, 5.0)
    last = 0
    for step in range(1, 200):
        if step == 50:
            clock.sample(5.0, 5.001, 9.0)  # a second behind what we thought
        now = clock.now_ms(step * 0.1)
        assert now >= last
        last = now


def test_old_samples_are_forgotten() -> None:
    clock = SharedClock()
    clock.sample(0.0, 0.0001, 100.0)
    for number in range(1, 9):
        clock.sample(number, number + 0.01, 200.005 + number)  # somebody set the server's clock
    for second in range(9, 3_000):
        clock.now_ms(second)
    assert abs(clock.now_ms(3_000) - 3_200_000) <= 1
