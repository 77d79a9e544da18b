"""Sockets of the supervisor: every address of both families by default."""

from __future__ import annotations

import socket

import pytest

from server import sockets
from server.config import ConfigError, Settings


def reached(sock: socket.socket, family: socket.AddressFamily, host: str) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"hello", (host, sock.getsockname()[1]))
    sock.settimeout(1)
    return sock.recv(16) == b"hello"


def test_default_reaches_both_families() -> None:
    if not sockets.has_ipv6():
        pytest.skip("this machine has no IPv6")
    with sockets.bind_media(Settings().host, 0) as sock:
        assert sock.family == socket.AF_INET6
        assert reached(sock, socket.AF_INET, "127.0.0.1")
        assert reached(sock, socket.AF_INET6, "::1")


def test_default_is_ipv4_where_there_is_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_ipv6", False)
    with sockets.bind_media(Settings().host, 0) as sock:
        assert sock.family == socket.AF_INET
        assert reached(sock, socket.AF_INET, "127.0.0.1")
    with sockets.listen_http(Settings().host, 0) as listener:
        assert listener.family == socket.AF_INET


def test_an_ipv4_address_is_taken_at_its_word() -> None:
    with sockets.bind_media("0.0.0.0", 0) as sock:
        assert sock.family == socket.AF_INET


def test_a_port_taken_on_one_address_is_in_use_for_every_address() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(ConfigError, match="in use"),
    ):
        sockets.listen_http(Settings().host, other.getsockname()[1])
