"""Which addresses an answer names as candidates for the worker's one UDP port."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

import ifaddr


def candidate_addresses(
    sock: socket.socket, public_ips: Sequence[str] = ()
) -> tuple[tuple[str, int], ...]:
    """(IP address, port) of every way to reach a bound UDP socket, the likeliest first.

    Configured public addresses come first, then the machine's own (IPv4 before IPv6), then
    loopback, which serves a player on the same machine. A socket bound to one address is
    reached at that address only.
    """
    host, port = sock.getsockname()[:2]
    bound = ipaddress.ip_address(host)
    if not bound.is_unspecified:
        return tuple((ip, port) for ip in dict.fromkeys((*public_ips, _plain(host))))
    wants_ipv6 = sock.family == socket.AF_INET6
    own = [
        ip
        for ip in _machine_addresses()
        if (ip.version == 4 or wants_ipv6) and not ip.is_loopback and not ip.is_link_local
    ]
    own.sort(key=lambda ip: ip.version)
    found = [*public_ips, *(str(ip) for ip in own), "127.0.0.1"]
    return tuple((ip, port) for ip in dict.fromkeys(found))


def _plain(host: str) -> str:
    return host.removeprefix("::ffff:")


def _machine_addresses() -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    return [
        ipaddress.ip_address(entry.ip if isinstance(entry.ip, str) else entry.ip[0])
        for adapter in ifaddr.get_adapters()
        for entry in adapter.ips
    ]
