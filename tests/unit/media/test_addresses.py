"""Candidates of a bound socket."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from media.addresses import candidate_addresses


def bound(host: str, family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    return sock


def test_socket_on_one_address_names_that_address() -> None:
    with bound("127.0.0.1") as sock:
        port = sock.getsockname()[1]
        assert candidate_addresses(sock) == (("127.0.0.1", port),)
        assert candidate_addresses(sock, ("203.0.113.9",))[0] == ("203.0.113.9", port)


def test_socket_on_all_addresses_names_each_once_and_loopback_last() -> None:
    with bound("0.0.0.0") as sock:
        found = candidate_addresses(sock, ("203.0.113.9",))
        hosts = [host for host, _ in found]
        assert hosts[0] == "203.0.113.9"
        assert hosts[-1] == "127.0.0.1"
        assert len(set(hosts)) == len(hosts)
        assert all(ipaddress.ip_address(host).version == 4 for host in hosts)
        assert {port for _, port in found} == {sock.getsockname()[1]}


def test_mapped_address_is_named_as_ipv4() -> None:
    try:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::ffff:127.0.0.1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    with sock:
        assert candidate_addresses(sock)[0][0] == "127.0.0.1"
