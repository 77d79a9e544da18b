import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.rtp.history import KeyFrameCache, Packet, PacketRing


def packet(
    seq: int, rtp_ts: int = 0, *, key: bool = False, marker: bool = False, size: int = 10
) -> Packet:
    return Packet(seq, rtp_ts, marker, 96, bytes(size), b"", key, 0.0)


def seqs(packets: list[Packet]) -> list[int]:
    return [one.seq for one in packets]


def filled(*packets: Packet, **bounds: int) -> tuple[PacketRing, KeyFrameCache]:
    ring = PacketRing(64)
    cache = KeyFrameCache(ring, **bounds)
    for one in packets:
        ring.put(one)
        cache.add(one)
    return ring, cache


@given(st.lists(st.integers(-40, 200), max_size=120))
def test_ring_agrees_with_a_dictionary(numbers: list[int]) -> None:
    ring = PacketRing(16)
    model: dict[int, Packet] = {}
    for number in numbers:
        one = packet(number)
        kept = ring.put(one)
        newest = max(model, default=number)
        assert kept == (number not in model and number > newest - 16)
        if kept:
            model[number] = one
    newest = max(model, default=0)
    for number in range(-60, 220):
        wanted = model.get(number) if number > newest - 16 else None
        found = ring.get(number)
        # A slot may still hold an older packet until a newer one takes its place.
        assert found is wanted or (found is model.get(number) and number <= newest - 16)
    assert seqs(ring.since(-100)) == sorted(n for n in model if n > newest - 16)


@pytest.mark.parametrize("capacity", (0, -2, 3, 100))
def test_ring_is_a_power_of_two(capacity: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        PacketRing(capacity)


def test_cleared_ring_is_empty() -> None:
    ring, _ = filled(packet(1), packet(2))
    ring.clear()
    assert ring.get(1) is None
    assert ring.since(0) == []


def test_replay_begins_at_the_newest_key_frame() -> None:
    _, cache = filled(
        packet(1, 0, key=True, marker=True),
        packet(2, 3000, marker=True),
        packet(3, 6000, key=True),
        packet(4, 6000, marker=True),
        packet(5, 9000),
    )
    assert cache.key_seq == 3
    assert seqs(cache.packets()) == [3, 4, 5]
    assert cache.size_bytes == 30


def test_several_key_starts_of_one_frame_count_once() -> None:
    _, cache = filled(
        packet(3, 6000, key=True), packet(4, 6000, key=True), packet(5, 6000, marker=True)
    )
    assert seqs(cache.packets()) == [3, 4, 5]
    _, late = filled(
        packet(4, 6000, key=True), packet(5, 6000, marker=True), packet(3, 6000, key=True)
    )
    assert seqs(late.packets()) == [3, 4, 5]


def test_key_frame_with_a_hole_is_no_instant_picture_until_it_is_filled() -> None:
    ring, cache = filled(packet(3, 6000, key=True), packet(5, 6000, marker=True), packet(6, 9000))
    assert cache.packets() == []
    resent = packet(4, 6000)
    ring.put(resent)
    cache.add(resent)
    assert seqs(cache.packets()) == [3, 4, 5, 6]


def test_hole_after_the_key_frame_is_left_for_a_resend() -> None:
    _, cache = filled(packet(3, 6000, key=True, marker=True), packet(5, 9000))
    assert seqs(cache.packets()) == [3, 5]


def test_older_key_frame_that_comes_late_changes_nothing() -> None:
    _, cache = filled(packet(9, 9000, key=True, marker=True), packet(3, 3000, key=True))
    assert cache.key_seq == 9


def test_bound_in_packets_says_once_that_a_new_key_frame_is_needed() -> None:
    ring, cache = filled(packet(0, 0, key=True, marker=True), max_packets=5)
    said = []
    for seq in range(1, 12):
        one = packet(seq, 3000 * seq)
        ring.put(one)
        said.append(cache.add(one))
    assert said == [False] * 4 + [True] + [False] * 6
    assert cache.packets() == []
    fresh = packet(12, 90_000, key=True, marker=True)
    ring.put(fresh)
    assert not cache.add(fresh)
    assert seqs(cache.packets()) == [12]


def test_bound_in_bytes_holds_too() -> None:
    _, cache = filled(packet(0, 0, key=True, size=100), packet(1, 0, size=100), max_bytes=150)
    assert cache.key_seq is None


def test_bound_never_exceeds_the_ring() -> None:
    ring = PacketRing(8)
    cache = KeyFrameCache(ring, max_packets=1000)
    for seq in range(8):
        one = packet(seq, seq, key=seq == 0)
        ring.put(one)
        assert not cache.add(one)
    over = packet(8, 8)
    ring.put(over)
    assert cache.add(over)
    cache.clear()
    assert cache.packets() == []
