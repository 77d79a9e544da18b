"""Where sessions go, from figures alone."""

from __future__ import annotations

from server.media_view import Load
from server.steering import ACCEPTED_S, Steering


def three(*loads: Load) -> Steering:
    steering = Steering([0, 1, 2])
    for index in range(3):
        steering.up(index)
    for index, load in enumerate(loads):
        for _ in range(30):  # long enough for the smoothing to settle
            steering.report(index, load)
    return steering


def join(steering: Steering, count: int, present: set[int]) -> list[int]:
    placed = [0, 0, 0]
    for _ in range(count):
        index = steering.for_viewer(present)[0]
        steering.placed(index)
        present.add(index)
        placed[index] += 1
    return placed


def test_few_viewers_stay_where_the_camera_is_many_spread_evenly() -> None:
    assert join(three(), 2, {1}) == [0, 2, 0]
    assert max(join(three(), 30, {1})) - min(join(three(), 30, {1})) <= 2


def test_sessions_told_and_placed_since_count_alike() -> None:
    steering = three(Load(sessions=5), Load(sessions=3), Load(sessions=9))
    assert join(steering, 8, {0, 1, 2}) == [3, 5, 0]


def test_cpu_counts_only_above_half_a_core() -> None:
    quiet = three(Load(10, cpu=0.45), Load(11, cpu=0.02), Load(12))
    assert quiet.for_viewer(set()) == [0, 1, 2]
    busy = three(Load(10, cpu=0.95), Load(30, cpu=0.3), Load(12, cpu=0.61))
    assert busy.for_viewer(set()) == [1, 2, 0]


def test_one_bad_second_moves_nobody() -> None:
    steering = three(Load(10), Load(12), Load(14))
    steering.report(0, Load(10, cpu=1.0, lag_ms=90))
    assert steering.for_viewer(set())[0] == 0


def test_loop_that_runs_late_takes_fewer() -> None:
    steering = three(Load(10, lag_ms=300), Load(12), Load(14))
    assert steering.for_viewer(set()) == [1, 2, 0]


def test_dead_worker_takes_nobody_until_it_is_back() -> None:
    steering = three(Load(9), Load(1), Load(5))
    steering.down(1)
    assert steering.for_viewer({1}) == [2, 0]
    assert steering.for_publisher("shop", "a", 1, 0.0) == [2, 0]
    steering.up(1)
    assert steering.for_viewer(set())[0] == 1


def test_publisher_goes_where_its_camera_is_or_was_just_accepted() -> None:
    steering = three(Load(1), Load(2), Load(3))
    assert steering.for_publisher("shop", "a", 2, 0.0)[0] == 2
    steering.accepted("shop", "b", 1, 100.0)
    assert steering.for_publisher("shop", "b", None, 100.0 + ACCEPTED_S / 2)[0] == 1
    assert steering.expected("shop", 101.0) == [1]
    assert steering.for_publisher("shop", "b", None, 100.1 + ACCEPTED_S)[0] == 0
    assert steering.for_publisher("shop", "b", 2, 101.0)[0] == 2, "live beats accepted"


def test_nobody_is_up() -> None:
    assert Steering([0, 1]).for_viewer(set()) == []
