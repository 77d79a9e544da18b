"""A line between two layers of one picture: whole frames, no gap, pauses and padding."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.drops import DropReason
from media.extensions import WRITTEN
from media.layers import THIN_AFTER_S, Want
from media.negotiation import Codec, Line
from media.rtp.feedback import PublisherClock
from media.rtp.keyframe import picture_ids
from media.rtp.packet import parse_header
from media.srtp import PROFILES, SrtpKeys, make_sender
from media.steering import THIN_PAUSE_S, Steering, want_of
from media.subscriber import FRAME_END_S, PACE_BURST_BYTES, LineState, OutLine
from media.track import Layer, Track
from media.udp import Destination
from tests.unit.media.test_track import RecordingPort

VP8 = Codec(96, "VP8", 90_000, feedback=("nack", "nack pli"), rtx=97)
SSRC, RTX_SSRC = 77, 78


class Camera:
    """A layer fed frame by frame, each of several packets and with its own picture id."""

    def __init__(self, number: int, rid: str, height: int, requests: list[Layer]) -> None:
        self.layer = Layer(number, "video", number, VP8, rid, PublisherClock(), requests.append)
        self.layer.height = height
        self.seq = number * 1000
        self.picture = number * 100

    def packets(self, count: int, *, key: bool) -> list[tuple[bool, bytes]]:
        """(marker, payload) of the next frame."""
        self.picture += 1
        out = []
        for i in range(count):
            start = 0x90 if i == 0 else 0x80
            head = bytes((start, 0x80, 0x80 | self.picture >> 8, self.picture & 0xFF))
            data = bytes((0 if key else 1, 0, 0, 0x9D, 1, 0x2A, 64, 1, 240, 0)) if i == 0 else b""
            out.append((i == count - 1, head + data + bytes(60)))
        return out

    def receive(self, packet: tuple[bool, bytes], now: float) -> None:
        self.seq += 1
        height = self.layer.height
        assert self.layer.receive(self.seq, self.picture * 3000, *packet, now) is None
        self.layer.height = height

    def frame(self, port: RecordingPort, now: float, count: int = 3, *, key: bool = False) -> None:
        """A whole frame in one burst."""
        for packet in self.packets(count, key=key):
            self.receive(packet, now)
        self.layer.fan_out(port, now)


class Bench:
    """A line that watches a camera of two layers, and an oracle that opens what it sends."""

    def __init__(self, port: RecordingPort) -> None:
        self.port = port
        keys = SrtpKeys(PROFILES[0], bytes(16), bytes(12))
        self._oracle = keys.session(inbound=True)
        peer: Any = type("Peer", (), {})()
        peer.sender, peer.destination = make_sender(keys), Destination(b"", ("127.0.0.1", 9))
        agreed = {str(uri): i + 1 for i, uri in enumerate(WRITTEN)}
        line = Line("video", "0", (VP8,), agreed, ssrc=SSRC, rtx_ssrc=RTX_SSRC)
        self.requests: list[Layer] = []
        self.line = OutLine(line, peer, port, random.Random(1))
        self.track = Track("video", line)
        self.low = Camera(1, "q", 180, self.requests)
        self.high = Camera(2, "f", 720, self.requests)
        for camera in (self.low, self.high):
            self.track.add_layer(camera.layer)

    def sent(self) -> list[tuple[int, int, bool, int, int]]:
        """(sequence number, timestamp, marker, SSRC, picture id) of what left since."""
        out = []
        for datagram in self.port.datagrams:
            packet = self._oracle.unprotect(datagram)
            header = parse_header(packet, len(packet))
            assert header is not None
            _, marker, seq, rtp_ts, ssrc, _, start, end = header
            if ssrc == RTX_SSRC:
                start += 2
            picture = picture_ids("VP8", packet, start, end)[0]
            out.append((seq, rtp_ts, marker, ssrc, picture))
        self.port.datagrams.clear()
        return out


@pytest.fixture
def bench() -> Iterator[Bench]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        yield Bench(RecordingPort(sock))


def live(bench: Bench, camera: Camera, now: float) -> None:
    bench.line.follow(bench.track, now, camera.layer)
    camera.frame(bench.port, now, key=True)
    assert bench.line.layer is camera.layer


def assert_seamless(packets: list[tuple[int, int, bool, int, int]]) -> None:
    """No gap in numbers, time only forwards, and every frame begun is finished."""
    for before, after in pairwise(packets):
        assert after[0] == before[0] + 1
        assert after[1] >= before[1]
        if before[2]:
            assert after[1] > before[1]
            assert after[4] == before[4] + 1
        else:
            assert (after[1], after[4]) == (before[1], before[4])


def test_switch_waits_for_the_end_of_the_old_frame(bench: Bench) -> None:
    live(bench, bench.low, 1.0)
    first, second, last = bench.low.packets(3, key=False)
    bench.low.receive(first, 1.03)
    bench.low.layer.fan_out(bench.port, 1.03)
    bench.line.aim(bench.high.layer, 1.03)
    bench.high.frame(bench.port, 1.04, key=True)
    assert bench.line.layer is bench.low.layer
    bench.low.receive(second, 1.05)
    bench.low.receive(last, 1.05)
    bench.low.layer.fan_out(bench.port, 1.05)
    assert bench.line.layer is bench.high.layer
    bench.high.frame(bench.port, 1.07)
    packets = bench.sent()
    assert len(packets) == 12
    assert_seamless(packets)


def test_switch_within_one_receive_burst_loses_nothing(bench: Bench) -> None:
    live(bench, bench.high, 1.0)
    bench.line.aim(bench.low.layer, 2.0)
    for order in ((bench.high, bench.low), (bench.low, bench.high)):
        old = bench.line.layer
        for packet in bench.high.packets(2, key=old is bench.low.layer):
            bench.high.receive(packet, 2.04)
        for packet in bench.low.packets(2, key=old is bench.high.layer):
            bench.low.receive(packet, 2.04)
        for camera in order:
            camera.layer.fan_out(bench.port, 2.04)
        assert bench.line.layer is not old
        bench.line.aim(bench.high.layer, 2.05)
    packets = bench.sent()
    # Of the second burst only the new key frame: the old layer's frame had not begun.
    assert len(packets) == 3 + 4 + 2
    assert_seamless(packets)


def test_an_end_that_never_comes_holds_a_switch_up_only_briefly(bench: Bench) -> None:
    live(bench, bench.low, 1.0)
    bench.low.receive(bench.low.packets(3, key=False)[0], 1.03)
    bench.low.layer.fan_out(bench.port, 1.03)
    bench.line.aim(bench.high.layer, 1.03)
    bench.high.frame(bench.port, 1.04, key=True)
    bench.line.handle_timer(1.04 + FRAME_END_S / 2)
    assert bench.line.layer is bench.low.layer
    bench.line.handle_timer(1.05 + FRAME_END_S)
    assert bench.line.layer is bench.high.layer
    assert len({p[0] for p in bench.sent()}) == 7


def test_a_change_of_mind_while_held_leaves_nothing_behind(bench: Bench) -> None:
    live(bench, bench.low, 1.0)
    first, *rest = bench.low.packets(3, key=False)
    bench.low.receive(first, 1.03)
    bench.low.layer.fan_out(bench.port, 1.03)
    bench.line.aim(bench.high.layer, 1.03)
    bench.high.frame(bench.port, 1.04, key=True)
    bench.line.aim(bench.low.layer, 1.04)
    assert not bench.low.layer.leaving and not bench.high.layer.waiting
    for packet in rest:
        bench.low.receive(packet, 1.05)
    bench.low.layer.fan_out(bench.port, 1.05)
    assert bench.line.layer is bench.low.layer
    bench.line.close()
    assert not bench.low.layer.lines and not bench.low.layer.leaving


def test_within_one_picture_an_old_key_frame_is_not_replayed(bench: Bench) -> None:
    live(bench, bench.low, 1.0)
    bench.high.frame(bench.port, 1.0, key=True)
    bench.line.aim(bench.high.layer, 3.0)
    assert bench.line.layer is bench.low.layer
    assert bench.requests[-1] is bench.high.layer
    bench.low.frame(bench.port, 3.9)
    bench.line.handle_timer(4.0)
    assert bench.line.target is bench.high.layer, "the old layer goes on meanwhile"


def test_pause_ends_with_a_frame_and_resumes_with_a_new_key_frame(bench: Bench) -> None:
    live(bench, bench.low, 1.0)
    first, *rest = bench.low.packets(3, key=False)
    bench.low.receive(first, 1.03)
    bench.low.layer.fan_out(bench.port, 1.03)
    bench.line.pause(1.03)
    assert bench.low.layer.lines == [bench.line]
    for packet in rest:
        bench.low.receive(packet, 1.04)
    bench.low.layer.fan_out(bench.port, 1.04)
    assert bench.line.state is LineState.WAITING
    for i in range(5):
        bench.low.frame(bench.port, 1.1 + i / 30)
    bench.line.aim(bench.low.layer, 1.3)
    assert bench.line.layer is None, "no replay into a narrow link"
    assert bench.requests[-1] is bench.low.layer
    bench.line.handle_timer(5.0)
    assert bench.line.layer is None
    bench.low.frame(bench.port, 5.1, key=True)
    packets = bench.sent()
    assert len(packets) == 9
    assert_seamless(packets)


def test_padding_repeats_recent_packets_by_rtx(bench: Bench) -> None:
    live(bench, bench.low, 1.0)
    bench.low.frame(bench.port, 1.03, count=8)
    played = bench.sent()
    assert bench.line.send_padding(200) >= 200
    padding = bench.sent()
    assert {p[3] for p in padding} == {RTX_SSRC}
    assert {p[1] for p in padding} <= {p[1] for p in played}
    assert [p[0] for p in padding] == list(range(padding[0][0], padding[0][0] + len(padding)))


def test_resends_stay_within_their_room(bench: Bench) -> None:
    live(bench, bench.low, 1.0)
    bench.low.frame(bench.port, 1.03, count=20)
    numbers = [p[0] for p in bench.sent()]
    bench.line.resend_room_bytes = 200.0
    bench.line.resend(numbers, 1.1)
    assert 0 < len(bench.sent()) <= 3
    assert bench.line.drops[DropReason.RESEND_LIMIT] >= len(numbers) - 3


def test_a_narrow_link_gets_a_key_frame_in_portions(bench: Bench) -> None:
    live(bench, bench.high, 1.0)
    bench.sent()
    bench.line.pace_bps = 240_000.0
    bench.line.aim(bench.low.layer, 2.0)
    bench.low.frame(bench.port, 2.0, count=200, key=True)
    sizes = []
    now = 2.0
    while bench.line.state is LineState.REPLAYING:
        now += 0.01
        before = bench.line.payload_bytes
        bench.line.send_replay(now)
        sizes.append(bench.line.payload_bytes - before)
    total = sum(sizes)
    assert max(sizes[3:]) <= 400, "the first 3,000 bytes leave at once"
    assert now - 2.0 == pytest.approx((total - PACE_BURST_BYTES) * 8 / 240_000, rel=0.1)
    bench.low.frame(bench.port, now + 0.03)
    packets = bench.sent()
    assert len(packets) == 203
    assert_seamless(packets)


def test_what_came_before_a_key_frame_is_not_resent(bench: Bench) -> None:
    live(bench, bench.high, 1.0)
    old = [p[0] for p in bench.sent()]
    bench.line.aim(bench.low.layer, 2.0)
    bench.low.frame(bench.port, 2.0, key=True)
    new = [p[0] for p in bench.sent()]
    bench.line.resend([*old, *new], 2.1)
    assert len(bench.sent()) == len(new)
    assert bench.line.drops == {DropReason.OUTDATED: len(old)}


def test_a_link_below_the_lowest_layer_gets_pauses(bench: Bench) -> None:
    steering = Steering(bench.line, [])
    bench.track.layers.remove(bench.high.layer)
    bench.line.follow(bench.track, 0.0, bench.low.layer)
    playing = paused = 0
    bench.low.layer.bitrate_bps = 200_000
    steering.estimate.note_remb(90_000, 0.0)
    steering.estimate.note_remb(60_000, 0.0)
    bench.low.frame(bench.port, 0.0, key=True)
    for i in range(1, 1200):
        now = i / 30
        asked = bool(bench.low.layer.waiting)
        bench.low.frame(bench.port, now, count=12, key=asked)
        bench.low.layer.bitrate_bps = 200_000
        bench.line.send_replay(now)
        if i % 3 == 0:
            steering.estimate.bps = 60_000.0
            steering.handle_timer(now)
        if now > THIN_AFTER_S + THIN_PAUSE_S:
            paused += bench.line.layer is None
            playing += bench.line.layer is not None
    assert paused > playing > 100
    assert bench.line.drops[DropReason.SLOW_VIEWER] > 1000
    assert_seamless([p for p in bench.sent() if p[3] == SSRC])


def test_what_a_line_wants(bench: Bench) -> None:
    assert want_of(bench.line) == Want(None, None, None)
    live(bench, bench.low, 1.0)
    bench.line.aim(bench.high.layer, 2.0)
    bench.line.goal = 2
    assert want_of(bench.line) == Want(1, 2, 2)


moves = st.lists(
    st.tuples(
        st.sampled_from(["low", "high"]),  # which camera sends a packet
        st.booleans(),  # flush after it
        st.sampled_from([None, None, None, "low", "high"]),  # aim
    ),
    max_size=80,
)


@settings(deadline=None, max_examples=60)
@given(moves)
def test_any_interleaving_is_seamless(history: list[tuple[str, bool, str | None]]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        bench = Bench(RecordingPort(sock))
        live(bench, bench.low, 1.0)
        cameras = {"low": bench.low, "high": bench.high}
        pending: dict[str, list[tuple[bool, bytes]]] = {"low": [], "high": []}
        now = 1.0
        for name, flush, aim in history:
            now += 0.01
            camera = cameras[name]
            if not pending[name]:
                pending[name] = camera.packets(2, key=bool(camera.layer.waiting))
            camera.receive(pending[name].pop(0), now)
            if flush:
                for each in cameras.values():
                    each.layer.fan_out(bench.port, now)
                if aim is not None:
                    bench.line.aim(cameras[aim].layer, now)
        for name, camera in cameras.items():
            for packet in pending[name]:
                camera.receive(packet, now)
            camera.layer.fan_out(bench.port, now)
        assert_seamless(bench.sent())
