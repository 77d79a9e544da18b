"""The UDP port over real loopback sockets, in every send mode this machine has."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from media.udp import RECEIVE_SLOTS, BatchPort, SendMode, UdpPort, has_gso, open_port


@pytest.fixture(params=list(SendMode))
def port(request: pytest.FixtureRequest) -> Iterator[UdpPort]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    with sock:
        port = open_port(sock, best=request.param)
        assert port.mode is request.param or not has_gso(socket.AF_INET)
        yield port


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(2)
        yield sock


def receive(port: UdpPort) -> int:
    select.select([port.sock], [], [], 2)
    return port.receive()


def test_burst_is_received_with_senders_and_lengths(port: UdpPort, peer: socket.socket) -> None:
    for size in (1, 20, 1400):
        peer.sendto(bytes([size % 251]) * size, port.sock.getsockname())
    assert receive(port) == 3
    assert port.lengths[:3] == [1, 20, 1400]
    assert bytes(port.slots[2][:1400]) == bytes([1400 % 251]) * 1400
    assert len(set(port.keys[:3])) == 1
    assert port.destination(port.keys[0]).address == peer.getsockname()
    assert port.receive() == 0


def test_receive_is_bounded_and_goes_on(port: UdpPort, peer: socket.socket) -> None:
    for i in range(RECEIVE_SLOTS + 5):
        peer.sendto(bytes([i]), port.sock.getsockname())
    assert receive(port) == RECEIVE_SLOTS
    assert receive(port) == 5
    assert port.slots[4][0] == RECEIVE_SLOTS + 4


def test_run_of_segments_arrives_cut(port: UdpPort, peer: socket.socket) -> None:
    peer.sendto(b"x", port.sock.getsockname())
    receive(port)
    to = port.destination(port.keys[0])
    sizes = [100, 100, 100, 37]
    start = port.reserve(sum(sizes))
    position = start
    for i, size in enumerate(sizes):
        port.out[position : position + size] = bytes([i]) * size
        position += size
    port.queue(to, start, sum(sizes), 100, 4)
    port.send(to, b"single")
    port.flush()
    got = [peer.recv(2048) for _ in range(5)]
    assert got == [bytes([i]) * size for i, size in enumerate(sizes)] + [b"single"]
    assert port.sent == 5


def test_more_messages_than_one_call_takes(port: UdpPort, peer: socket.socket) -> None:
    peer.sendto(b"x", port.sock.getsockname())
    receive(port)
    to = port.destination(port.keys[0])
    got = 0
    for i in range(1500):
        port.send(to, i.to_bytes(2, "big"))
        if i % 100 == 99:
            port.flush()
            while got <= i:
                assert peer.recv(16) == got.to_bytes(2, "big")
                got += 1
    assert got == 1500


def test_queue_beyond_message_limit_without_flush(port: UdpPort, peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
    peer.sendto(b"x", port.sock.getsockname())
    receive(port)
    to = port.destination(port.keys[0])
    for i in range(700):
        port.send(to, i.to_bytes(2, "big"))
    port.flush()
    assert [int.from_bytes(peer.recv(16), "big") for _ in range(700)] == list(range(700))


def test_unreachable_destination_is_counted_and_others_are_sent(
    port: UdpPort, peer: socket.socket
) -> None:
    peer.sendto(b"x", port.sock.getsockname())
    receive(port)
    good = port.destination(port.keys[0])
    # Port 0 cannot be sent to: EINVAL at once.
    bad = port.destination(good.key[:2] + b"\0\0" + good.key[4:])
    port.send(good, b"one")
    port.send(bad, b"lost")
    port.send(good, b"two")
    port.flush()
    assert [peer.recv(16), peer.recv(16)] == [b"one", b"two"]
    assert sum(port.errors.values()) == 1


def test_refused_gso_message_is_sent_apart(peer: socket.socket) -> None:
    """A message the kernel will not cut (here: too many bytes a segment for one) still leaves."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = open_port(sock)
        if not isinstance(port, BatchPort):
            pytest.skip("no sendmmsg here")
        peer.sendto(b"x", sock.getsockname())
        receive(port)
        to = port.destination(port.keys[0])
        port.mode = SendMode.GSO
        # 130 segments are more than any kernel's UDP_MAX_SEGMENTS: EINVAL.
        start = port.reserve(1300)
        port.out[start : start + 1300] = bytes(range(130)) * 10
        port.queue(to, start, 1300, 10, 130)
        port.flush()
        assert b"".join(peer.recv(64) for _ in range(130)) == bytes(range(130)) * 10


def test_ipv6_socket_serves_mapped_ipv4() -> None:
    try:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    with sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        port = open_port(sock)
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(2)
        peer.sendto(b"hello", ("127.0.0.1", sock.getsockname()[1]))
        assert receive(port) == 1
        to = port.destination(port.keys[0])
        assert to.text == f"127.0.0.1:{peer.getsockname()[1]}"
        port.send(to, b"back")
        port.flush()
        assert peer.recv(16) == b"back"
