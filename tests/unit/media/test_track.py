"""Runs for GSO, layer choice, and a line's way from one source to the next."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.drops import DropReason
from media.negotiation import Codec, Line
from media.rtp.feedback import PublisherClock
from media.srtp import PROFILES, SrtpKeys, make_sender
from media.subscriber import LineState, OutLine
from media.track import LAYER_SILENCE_S, Layer, Track, plan_runs
from media.udp import MAX_GSO_BYTES, MAX_SEGMENTS, Destination, UdpPort

VP8 = Codec(96, "VP8", 90_000, feedback=("nack", "nack pli"), rtx=97)
H264 = Codec(102, "H264", 90_000, fmtp="packetization-mode=1;profile-level-id=42e01f")
OPUS = Codec(111, "opus", 48_000, 2)
KEY = bytes.fromhex("90808001") + bytes.fromhex("10000000009d012a40011e00") + bytes(80)
DELTA = bytes.fromhex("90808002") + b"\x01" + bytes(80)


class RecordingPort(UdpPort):
    """A port that keeps what would be sent."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.datagrams: list[bytes] = []

    def queue(self, to: Destination, start: int, length: int, segment: int, count: int) -> None:
        assert count == -(-length // segment)
        end = start + length
        self.datagrams += [
            bytes(self.out[at : min(at + segment, end)]) for at in range(start, end, segment)
        ]
        self.position = end


class FakePeer:
    """A connected peer: keys and an address, nothing more."""

    def __init__(self) -> None:
        profile = PROFILES[0]
        self.keys = SrtpKeys(profile, os.urandom(16), os.urandom(12))
        self.sender = make_sender(self.keys)
        self.destination = Destination(b"", ("127.0.0.1", 9))


class Bench:
    """One line with its port, and an oracle that opens what it sends."""

    def __init__(self, port: RecordingPort, codecs: tuple[Codec, ...] = (VP8, H264)) -> None:
        self.port = port
        peer: Any = FakePeer()
        self._oracle = peer.keys.session(inbound=True)
        self.requests: list[Layer] = []
        line = Line("video", "0", codecs, {}, ssrc=77, rtx_ssrc=78)
        self.line = OutLine(line, peer, port, random.Random(1))
        self._numbers = 0

    def layer(self, codec: Codec = VP8, rid: str = "") -> Layer:
        self._numbers += 1
        clock = PublisherClock()
        return Layer(self._numbers, "video", self._numbers, codec, rid, clock, self.requests.append)

    def sent(self) -> list[tuple[int, int, int, int]]:
        """(sequence number, timestamp, payload type, SSRC) of everything sent since."""
        out = []
        for datagram in self.port.datagrams:
            packet = self._oracle.unprotect(datagram)
            out.append(
                (
                    int.from_bytes(packet[2:4], "big"),
                    int.from_bytes(packet[4:8], "big"),
                    packet[1] & 0x7F,
                    int.from_bytes(packet[8:12], "big"),
                )
            )
        self.port.datagrams.clear()
        return out


@pytest.fixture
def port() -> Iterator[RecordingPort]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        yield RecordingPort(sock)


def feed(layer: Layer, port: UdpPort, first: int, payloads: list[bytes], now: float) -> None:
    for i, payload in enumerate(payloads):
        assert layer.receive(first + i, (first + i) * 3000, True, payload, now) is None
    layer.fan_out(port, now)


def test_line_waits_for_a_key_frame_and_starts_with_it(port: RecordingPort) -> None:
    bench = Bench(port)
    layer, track = bench.layer(), Track("video", bench.line.line)
    track.add_layer(layer)
    feed(layer, port, 10, [DELTA, DELTA], 1.0)
    bench.line.follow(track, 1.0)
    assert bench.line.state is LineState.WAITING
    assert bench.requests == [layer]
    feed(layer, port, 12, [DELTA, KEY, DELTA], 1.1)
    sent = bench.sent()
    assert [s[2:] for s in sent] == [(96, 77)] * 2
    assert sent[1][0] == sent[0][0] + 1
    assert sent[1][1] == (sent[0][1] + 3000) % 2**32


def test_cached_key_frame_is_replayed_at_once_and_nothing_is_sent_twice(
    port: RecordingPort,
) -> None:
    bench = Bench(port)
    layer, track = bench.layer(), Track("video", bench.line.line)
    track.add_layer(layer)
    feed(layer, port, 65530, [KEY, *[DELTA] * 9], 1.0)
    bench.line.follow(track, 1.0)
    assert bench.line.state is LineState.LIVE
    assert bench.requests == []
    feed(layer, port, (65530 + 10) % 65536, [DELTA] * 3, 1.1)
    seqs = [s[0] for s in bench.sent()]
    assert seqs == [(seqs[0] + i) % 65536 for i in range(13)]


def test_long_replay_is_sent_in_portions(port: RecordingPort) -> None:
    bench = Bench(port)
    layer, track = bench.layer(), Track("video", bench.line.line)
    track.add_layer(layer)
    feed(layer, port, 0, [KEY, *[DELTA] * 99], 1.0)
    bench.line.follow(track, 1.0)
    portions = []
    while bench.line.state is LineState.REPLAYING:
        portions.append(len(bench.port.datagrams))
        bench.line.send_replay(1.0)
        feed(layer, port, 100 + len(portions), [DELTA], 1.0)
        assert len(portions) < 20
    assert portions[0] < 50
    feed(layer, port, 200, [DELTA], 1.0)
    seqs = [s[0] for s in bench.sent()]
    assert len(seqs) == len(set(seqs))
    assert seqs[0] + 200 == seqs[-1]


def test_switch_to_another_codec_goes_on_in_number_and_time(port: RecordingPort) -> None:
    bench = Bench(port)
    one, other = bench.layer(VP8), bench.layer(H264)
    tracks = [Track("video", bench.line.line) for _ in range(2)]
    tracks[0].add_layer(one)
    tracks[1].add_layer(other)
    feed(one, port, 5, [KEY, DELTA], 1.0)
    bench.line.follow(tracks[0], 1.0)
    feed(other, port, 40000, [b"\x61" + bytes(50)], 1.0)
    bench.line.follow(tracks[1], 1.0)
    feed(one, port, 7, [DELTA], 1.03)
    assert bench.line.layer is one, "the old picture stays until the new one can begin"
    feed(other, port, 40001, [b"\x67\x42\xe0\x1f" + bytes(20), b"\x65" + bytes(50)], 1.06)
    sent = bench.sent()
    assert [s[2] for s in sent] == [96, 96, 96, 102, 102]
    seqs = [s[0] for s in sent]
    assert seqs == list(range(seqs[0], seqs[0] + 5))
    times = [s[1] for s in sent]
    assert times == sorted(times)
    assert 0 < times[3] - times[2] < 90_000


def test_viewer_without_the_codec_is_told_by_a_counter(port: RecordingPort) -> None:
    bench = Bench(port, (VP8,))
    layer, track = bench.layer(H264), Track("video", bench.line.line)
    track.add_layer(layer)
    feed(layer, port, 1, [b"\x65" + bytes(50)], 1.0)
    bench.line.follow(track, 1.0)
    assert bench.line.drops == {DropReason.NO_COMMON_CODEC: 1}
    assert bench.line.state is LineState.IDLE


def test_lost_packet_is_resent_by_rtx_once_a_round_trip(port: RecordingPort) -> None:
    bench = Bench(port)
    layer, track = bench.layer(), Track("video", bench.line.line)
    track.add_layer(layer)
    feed(layer, port, 1, [KEY, DELTA, DELTA], 1.0)
    bench.line.follow(track, 1.0)
    seq = bench.sent()[1][0]
    bench.line.rtt_s = 0.05
    for now in (1.1, 1.12, 1.14, 1.2):
        bench.line.resend([seq], now)
    resent = bench.sent()
    assert [s[2:] for s in resent] == [(97, 78)] * 2
    assert bench.line.drops == {DropReason.RESEND_LIMIT: 2}
    bench.line.resend([seq + 500], 1.3)
    assert bench.line.drops[DropReason.FORGOTTEN] == 1
    assert bench.sent() == []


def test_publisher_restart_with_new_numbers_continues_at_its_key_frame(
    port: RecordingPort,
) -> None:
    bench = Bench(port)
    layer, track = bench.layer(), Track("video", bench.line.line)
    track.add_layer(layer)
    feed(layer, port, 100, [KEY, DELTA], 1.0)
    bench.line.follow(track, 1.0)
    before = bench.sent()
    # Two packets in a row after a jump are a restart (RFC 3550 §A.1), the first is not.
    assert layer.receive(30_000, 5, True, DELTA, 1.1) is DropReason.REPEATED
    assert layer.receive(30_001, 6, True, DELTA, 1.1) is None
    layer.fan_out(port, 1.0)
    assert bench.sent() == []
    feed(layer, port, 30_002, [KEY, DELTA], 1.2)
    after = bench.sent()
    assert [s[0] for s in after] == [before[-1][0] + 1, before[-1][0] + 2]


def test_unsteered_choice_is_the_tallest_that_sends(port: RecordingPort) -> None:
    bench = Bench(port)
    track = Track("video", bench.line.line)
    low, high = bench.layer(rid="q"), bench.layer(rid="f")
    for layer, height in ((low, 180), (high, 720)):
        track.add_layer(layer)
        feed(layer, port, 1, [KEY], 10.0)
        layer.height = height
    assert track.best_layer(10.1) is high
    feed(low, port, 2, [DELTA], 11.0)
    assert track.best_layer(11.0, high) is low, "the tall one fell silent"
    feed(high, port, 2, [KEY], 11.0 + LAYER_SILENCE_S)
    feed(low, port, 3, [DELTA], 11.0 + LAYER_SILENCE_S)
    assert track.best_layer(11.8, low) is low, "not trusted yet"
    for i in range(8):
        feed(high, port, 3 + i, [DELTA], 11.8 + i / 10)
        feed(low, port, 4 + i, [DELTA], 11.8 + i / 10)
    assert track.best_layer(12.5, low) is high


@given(st.lists(st.integers(0, 1400), min_size=1, max_size=200), st.sampled_from([22, 28]))
def test_runs_cover_every_packet_as_the_kernel_will_cut_them(
    lengths: list[int], overhead: int
) -> None:
    runs, size = plan_runs(lengths, overhead)
    assert size == sum(lengths) + overhead * len(lengths)
    cut: list[tuple[int, int]] = []
    for start, length, segment, count in runs:
        assert count <= MAX_SEGMENTS
        assert length <= MAX_GSO_BYTES
        pieces = [
            (at, min(segment, start + length - at)) for at in range(start, start + length, segment)
        ]
        assert len(pieces) == count
        cut += pieces
    at = 0
    for (start, piece), length in zip(cut, lengths, strict=True):
        assert (start, piece) == (at, length + overhead)
        at += piece
