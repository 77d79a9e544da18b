"""Channels and fan-out, with sockets that only remember."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from interact.channels import Namespace
from interact.engine import HistoryPage, Position, Publication
from interact.frames import encode_text
from interact.hub import MAX_BUFFERED, Hub
from interact.outbox import Outbox
from interact.protocol import Role
from interact.recovery import merge
from interact.rooms import Caller

ROOM = "room:shop"
TICK = "tick:shop"


class FakeSocket:
    """A socket whose write buffer the test sets."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.unsent = 0

    def writer(self) -> Callable[[bytes], None]:
        return self.written.append

    def unsent_bytes(self) -> int:
        return self.unsent

    def close(self, code: int, reason: str) -> None:
        raise AssertionError("the hub closes nobody")

    def abort(self) -> None:
        raise AssertionError("the hub cuts nobody")


class FakeMember:
    """A connection as the hub sees it."""

    def __init__(self, client: str, identity: str = "", role: Role = Role.VIEWER) -> None:
        self.client = client
        self.caller: Caller | None = Caller("shop", identity or client, role)
        self.socket = FakeSocket()
        self.outbox = Outbox(self.socket, limit_bytes=1_000)
        self.lost: list[str] = []
        self.slow = 0

    def position_lost(self, channel: str) -> None:
        self.lost.append(channel)

    def too_slow(self) -> None:
        self.slow += 1

    def seen(self) -> list[Any]:
        """Payloads of what was written, frames undone."""
        return [_payload(frame) for frame in self.socket.written]

    def offsets(self) -> list[int]:
        return [push["push"]["pub"]["offset"] for push in self.seen()]


def _payload(frame: bytes) -> Any:
    start = 2 if frame[1] < 126 else 4
    return json.loads(frame[start:])


def pub(offset: int, channel: str = ROOM) -> Publication:
    return Publication(channel, offset, b'{"n":%d}' % offset)


def test_broadcast_is_one_object_for_all() -> None:
    hub = Hub()
    members = [FakeMember(f"c{n}") for n in range(3)]
    for member in members:
        hub.activate(member, ROOM)
    hub.publish(pub(1))
    frames = [member.socket.written[0] for member in members]
    assert all(frame is frames[0] for frame in frames)
    assert members[0].seen() == [
        {"push": {"channel": ROOM, "pub": {"data": {"n": 1}, "offset": 1}}}
    ]
    assert hub.stats.messages_sent == 3
    assert hub.stats.bytes_sent == 3 * len(frames[0])


def test_other_channels_readers_get_nothing() -> None:
    hub = Hub()
    here, there = FakeMember("a"), FakeMember("b")
    hub.activate(here, ROOM)
    hub.activate(there, "room:mall")
    hub.publish(pub(1))
    assert there.seen() == []
    hub.leave(here, ROOM)
    hub.publish(pub(2))
    assert here.offsets() == [1]


def test_joining_reader_gets_live_ones_after_its_page_exactly_once() -> None:
    hub = Hub()
    first, second = FakeMember("a"), FakeMember("b")
    hub.activate(first, ROOM)
    hub.publish(pub(1))
    hub.begin(second, ROOM)
    hub.publish(pub(2))
    hub.publish(pub(3))
    assert second.seen() == []
    joined = merge(None, HistoryPage(Position("e", 2), (), True), hub.buffered(second, ROOM))
    assert joined is not None
    hub.activate_joined(second, ROOM, joined)
    hub.publish(pub(4))
    assert second.offsets() == [3, 4]
    assert first.offsets() == [1, 2, 3, 4]


def test_history_ahead_of_the_feed_gives_no_duplicates() -> None:
    hub = Hub()
    other, late = FakeMember("a"), FakeMember("b")
    hub.activate(other, ROOM)
    hub.publish(pub(1))
    hub.begin(late, ROOM)
    joined = merge(None, HistoryPage(Position("e", 3), (), True), hub.buffered(late, ROOM))
    assert joined is not None
    hub.activate_joined(late, ROOM, joined)
    for n in (2, 3, 4, 5):
        hub.publish(pub(n))
    assert late.offsets() == [4, 5]
    assert late.lost == []


def test_history_behind_the_feed_is_noticed() -> None:
    hub = Hub()
    hub.activate(FakeMember("a"), ROOM)
    hub.publish(pub(5))
    assert hub.is_ahead(ROOM, 4)
    assert not hub.is_ahead(ROOM, 5)
    assert not hub.is_ahead("room:mall", 0)


def test_hole_in_the_feed_is_told_to_everybody_and_nothing_is_sent() -> None:
    hub = Hub()
    member, waiting = FakeMember("a"), FakeMember("b")
    hub.activate(member, ROOM)
    hub.publish(pub(1))
    hub.activate(waiting, ROOM, top=2)
    hub.publish(pub(3))
    assert member.lost == [ROOM]
    assert waiting.lost == [ROOM]
    assert member.offsets() == [1]
    assert hub.stats.positions_lost == 2


def test_first_publication_past_a_reader_s_top_is_a_hole_for_it() -> None:
    hub = Hub()
    member = FakeMember("a")
    hub.activate(member, ROOM, top=2)
    hub.publish(pub(5))
    assert member.lost == [ROOM]
    assert member.seen() == []


def test_duplicate_is_dropped_and_counted() -> None:
    hub = Hub()
    member = FakeMember("a")
    hub.activate(member, ROOM)
    hub.publish(pub(1))
    hub.publish(pub(1))
    assert member.offsets() == [1]
    assert hub.stats.duplicates == 1


def test_buffer_of_a_joining_reader_is_bounded() -> None:
    hub = Hub()
    member = FakeMember("a")
    hub.begin(member, ROOM)
    for n in range(1, MAX_BUFFERED + 10):
        hub.publish(pub(n))
    buffered = hub.buffered(member, ROOM)
    assert len(buffered) < MAX_BUFFERED
    assert merge(None, HistoryPage(Position("e", 3), (), True), buffered) is None


def test_tick_skips_the_congested_and_the_newest_follows_when_drained() -> None:
    hub = Hub()
    fast, slow = FakeMember("a"), FakeMember("b")
    for member in (fast, slow):
        hub.activate(member, TICK)
    hub.paused(slow)
    for n in (1, 2, 3):
        hub.publish_tick(TICK, b'{"n":%d}' % n)
    assert [p["push"]["pub"]["data"]["n"] for p in fast.seen()] == [1, 2, 3]
    assert slow.seen() == []
    assert hub.stats.ticks_skipped == 3
    hub.resumed(slow)
    assert slow.seen() == [{"push": {"channel": TICK, "pub": {"data": {"n": 3}}}}]
    hub.publish_tick(TICK, b'{"n":4}')
    assert len(slow.seen()) == 2
    hub.resumed(slow)
    assert len(slow.seen()) == 2


def test_events_still_go_to_the_congested_until_it_overflows() -> None:
    hub = Hub()
    member = FakeMember("a")
    hub.activate(member, ROOM)
    hub.paused(member)
    hub.publish(pub(1))
    assert (member.offsets(), member.slow) == ([1], 0)
    member.socket.unsent = 1_001
    hub.publish(pub(2))
    assert member.slow == 1


def test_presence_counts_connections_people_and_viewers() -> None:
    hub = Hub()
    changes: list[tuple[str, int]] = []
    hub.on_presence_change = lambda room, count: changes.append((room, count))
    phone, laptop = FakeMember("c1", "ann"), FakeMember("c2", "ann")
    host = FakeMember("c3", "eve", Role.HOST)
    for member in (phone, laptop, host):
        hub.activate(member, ROOM)
    assert json.loads(hub.presence_stats(ROOM)) == {"num_clients": 3, "num_users": 2}
    people = json.loads(hub.presence(ROOM))["presence"]
    assert set(people) == {"c1", "c2", "c3"}
    assert people["c3"]["conn_info"]["role"] == "host"
    assert hub.viewers("shop") == 1
    hub.forget(phone, [ROOM])
    hub.forget(laptop, [ROOM, TICK])
    hub.forget(laptop, [ROOM])
    assert changes == [("shop", 1), ("shop", 0)]
    hub.forget(host, [ROOM])
    assert json.loads(hub.presence_stats(ROOM)) == {"num_clients": 0, "num_users": 0}
    assert json.loads(hub.presence(ROOM)) == {"presence": {}}


def test_join_and_leave_are_announced_only_where_enabled() -> None:
    quiet, loud = Hub(), Hub(join_leave=frozenset({Namespace.STAGE}))
    for hub, expected in [(quiet, []), (loud, ["join", "leave"])]:
        first, second = FakeMember("a"), FakeMember("b", role=Role.HOST)
        hub.activate(first, "stage:shop")
        hub.activate(second, "stage:shop")
        hub.leave(second, "stage:shop")
        assert [next(k for k in p["push"] if k != "channel") for p in first.seen()] == expected


def test_outbox_frames_are_what_the_codec_makes() -> None:
    hub = Hub()
    member = FakeMember("a")
    hub.activate(member, ROOM)
    hub.publish(pub(1))
    expected = b'{"push":{"channel":"room:shop","pub":{"data":{"n":1},"offset":1}}}'
    assert member.socket.written == [encode_text(expected)]
