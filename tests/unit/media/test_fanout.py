"""Every line gets its own copy of a burst, right to the byte, whatever the lines are like."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from media.extensions import WRITTEN
from media.negotiation import Line
from media.rtp.feedback import PublisherClock
from media.rtp.packet import parse_header
from media.srtp import PROFILES, SrtpKeys, make_sender
from media.subscriber import LineState, OutLine
from media.track import Layer, Track
from media.udp import BatchPort, SendMode, _pack_address, has_batches, open_port
from tests.unit.media.test_track import DELTA, KEY, VP8

pytestmark = pytest.mark.skipif(not has_batches(), reason="needs sendmmsg")


class Seat:
    """A line with a socket of its own to receive on, and the other end's keys."""

    def __init__(self, port: BatchPort, number: int, *, profile: int, extended: bool) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.setblocking(False)
        chosen = PROFILES[profile]
        keys = SrtpKeys(chosen, os.urandom(chosen.key_bytes), os.urandom(chosen.salt_bytes))
        self.oracle = keys.session(inbound=True)

        class Peer:
            sender = make_sender(keys)
            destination = port.destination(_pack_address(socket.AF_INET, self.sock.getsockname()))

        peer: Any = Peer()
        extensions = {str(uri): i + 1 for i, uri in enumerate(WRITTEN)} if extended else {}
        line = Line("video", "0", (VP8,), extensions, ssrc=1000 + number, rtx_ssrc=5000 + number)
        self.line = OutLine(line, peer, port, random.Random(number))

    def received(self) -> list[tuple[int, int, int, bytes]]:
        """(sequence number, timestamp, SSRC, payload) of everything that came, authenticated."""
        found: list[tuple[int, int, int, bytes]] = []
        while True:
            try:
                packet = self.oracle.unprotect(self.sock.recv(2048))
            except BlockingIOError:
                return found
            header = parse_header(packet, len(packet))
            assert header is not None
            found.append((header[2], header[3], header[4], bytes(packet[header[6] : header[7]])))


@pytest.fixture(params=[SendMode.GSO, SendMode.SENDMMSG])
def port(request: pytest.FixtureRequest) -> Iterator[BatchPort]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        made = open_port(sock, best=request.param)
        assert isinstance(made, BatchPort)
        yield made


def on_air(seats: list[Seat]) -> Layer:
    """A layer that all of them wait for."""
    layer = Layer(1, "video", 1, VP8, "", PublisherClock(), lambda layer: None)
    track = Track("video", Line("video", "0", (VP8,), {}))
    track.add_layer(layer)
    for seat in seats:
        seat.line.follow(track, 0.0, layer)
    return layer


def feed(layer: Layer, port: BatchPort, first: int, sizes: list[int], *, key: bool) -> list[bytes]:
    payloads = []
    for i, size in enumerate(sizes):
        payload = (KEY if key and not i else DELTA).ljust(size, bytes((i,)))
        payloads.append(payload)
        is_last = i == len(sizes) - 1
        assert layer.receive(first + i, first * 10, is_last, payload, 1.0 + first) is None
    layer.fan_out(port, 1.0 + first)
    port.flush()
    return payloads


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (1, [1000]),
        (7, [1000, 1000, 999]),
        (7, [900, 901, 902, 90]),  # a message each: nothing to join
        (150, [1100] * 9),  # more than the send buffer holds
        (300, [1200, 1100]),  # two runs: more messages than one call takes
    ],
)
def test_each_line_gets_every_packet_once_and_whole(
    port: BatchPort, count: int, sizes: list[int]
) -> None:
    # Two kinds of extension block, and every seventh line a profile that is not GCM's.
    seats = [
        Seat(port, i, profile=2 if i % 7 == 6 else i % 2, extended=i % 3 == 0) for i in range(count)
    ]
    try:
        layer = on_air(seats)
        payloads = feed(layer, port, 100, sizes, key=True)
        payloads += feed(layer, port, 200 - (100 - len(sizes)), sizes, key=False)
        numbers = list(range(len(payloads)))
        for seat in seats:
            assert seat.line.state is LineState.LIVE
            got = seat.received()
            assert [payload for *_, payload in got] == payloads
            assert {ssrc for _, _, ssrc, _ in got} == {seat.line.ssrc}
            assert [(seq - got[0][0]) & 0xFFFF for seq, *_ in got] == numbers
            assert len({rtp_ts for _, rtp_ts, _, _ in got}) == 2
            assert (seat.line.packets, seat.line.last) == (len(payloads), layer.ring.newest)
            assert seat.line.payload_bytes == sum(map(len, payloads))
        assert not any(port.errors.values())
        assert port.sent == count * len(payloads)
    finally:
        for seat in seats:
            seat.sock.close()


def test_line_without_address_is_counted_and_the_others_get_theirs(port: BatchPort) -> None:
    seats = [Seat(port, i, profile=0, extended=False) for i in range(3)]
    try:
        layer = on_air(seats)
        feed(layer, port, 100, [1000], key=True)
        gone: Any = seats[1].line.peer
        gone.destination = None
        feed(layer, port, 101, [1000], key=False)
        assert [len(seat.received()) for seat in seats] == [2, 1, 2]
        assert sum(seats[1].line.drops.values()) == 1
    finally:
        for seat in seats:
            seat.sock.close()
