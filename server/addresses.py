"""Which of this machine's addresses people may be able to reach, for links and certificates.

What the media worker offers to peers it finds by itself."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from typing import Final

MAX_ADDRESSES: Final = 4
_SIOCGIFADDR: Final = 0x8915
_LOOPBACK: Final = "127.0.0.1"


def people_addresses(host: str, public: tuple[str, ...]) -> tuple[str, ...]:
    """Addresses of a socket bound to `host`, best first.

    What the operator named wins; else the bound address itself; else every IPv4 address
    of this machine, the one of the default route first. Loopback only where there is
    nothing else or the socket is bound to it: a phone cannot use it.
    """
    if public:
        return public
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)[0][4][0]
    except OSError:
        return (_LOOPBACK,)
    address = ipaddress.ip_address(str(found).partition("%")[0])
    if not address.is_unspecified:
        return (str(address),)
    own = _interface_addresses()
    first = default_route_address()
    if first is not None:
        own = [first, *(item for item in own if item != first)]
    return tuple(own[:MAX_ADDRESSES]) or (_LOOPBACK,)


def default_route_address() -> str | None:
    """The IPv4 address this machine would call out from, None when it has no route.

    Connecting a UDP socket only asks the routing table; nothing is sent.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1, RFC 5737
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if ipaddress.ip_address(address).is_loopback else address


def _interface_addresses() -> list[str]:
    """IPv4 addresses of the interfaces, loopback left out. Linux; elsewhere empty."""
    addresses: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
            except OSError:
                continue
            address = socket.inet_ntoa(answer[20:24])
            if not ipaddress.ip_address(address).is_loopback:
                addresses.append(address)
    return addresses
