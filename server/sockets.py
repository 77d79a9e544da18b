"""What the supervisor holds for its children's whole life: sockets and the data lock.

A socket bound here survives the child that uses it, so a restarted child has the same
port, callers queue in the kernel meanwhile, and "port in use" shows before anything runs.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import Final

from server.config import ConfigError

HTTP_BACKLOG: Final = 2048
_EVERY: Final = "::"
"""One socket for IPv6 and IPv4: phones' networks are often IPv6 first. Sending costs the
same as from an IPv4 socket (2.9 µs a GSO packet either way)."""
_EVERY_IPV4: Final = "0.0.0.0"
LOCK_FILE: Final = "server.lock"
LOCK_WAIT_S: Final = 5.0
"""Children of a killed supervisor hold the lock until they have ended; give them this long."""


def listen_http(host: str, port: int) -> socket.socket:
    """The TCP listener of the web workers. Raises ConfigError."""
    return _bind("http-port", host, port, socket.SOCK_STREAM)


def reserve_http(host: str, port: int) -> socket.socket:
    """Hold the port for several web workers, which `listen_beside` it. Raises ConfigError."""
    with listen_http(host, port) as alone:  # finds out whether somebody else has it
        family, address = alone.family, alone.getsockname()
    return _share(family, address)


def listen_beside(reserved: socket.socket) -> socket.socket:
    """One web worker's own listener on a reserved port.

    The kernel spreads connections evenly over those that listen; a killed worker's listener
    is gone with it, so nobody waits there. (One listener for all wakes all, and the last to
    sleep gets nearly everything: 17 of 24 phones on one of four workers.)
    """
    listener = _share(reserved.family, reserved.getsockname())
    listener.listen(HTTP_BACKLOG)
    return listener


def _share(family: int, address: object) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)  # type: ignore[arg-type]  # whatever getsockname gave
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def bind_media(host: str, port: int) -> socket.socket:
    """The UDP socket of one media worker. Raises ConfigError."""
    return _bind("media-port", host, port, socket.SOCK_DGRAM)


def listen_control(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """The private control listener of one media worker; 0: any free port. Raises ConfigError."""
    return _bind("media-control", host, port, socket.SOCK_STREAM)


def _bind(key: str, host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    if host == _EVERY and not has_ipv6():
        host = _EVERY_IPV4
    try:
        found = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
    except OSError:
        raise ConfigError("host", host, "it must be an address of this machine") from None
    family, kind_, protocol, _, address = found[0]
    sock = socket.socket(family, kind_, protocol)
    try:
        if family == socket.AF_INET6 and address[0] == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if kind == socket.SOCK_STREAM:
            # Only lets a restart reuse a port with old connections in TIME_WAIT.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        if kind == socket.SOCK_STREAM:
            sock.listen(HTTP_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ConfigError(*_explain(key, host, port, error)) from None
    return sock


def has_ipv6() -> bool:
    """Whether this machine can bind IPv6 addresses; many containers cannot."""
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((_EVERY, 0))
    except OSError:
        return False
    return True


def _explain(key: str, host: str, port: int, error: OSError) -> tuple[str, str, str]:
    if error.errno == errno.EADDRINUSE:
        return key, str(port), "it is in use; stop the other program or choose another port"
    if error.errno == errno.EACCES:
        return key, str(port), "it needs more rights; choose a port from 1024 up"
    if error.errno == errno.EADDRNOTAVAIL:
        return "host", host, "it must be an address of this machine"
    return key, str(port), f"{error.strerror} on {host}"


class DataLock:
    """An exclusive hold on a data directory, shared by a supervisor and its children.

    The lock belongs to the open file that the children inherit, so it is free only when
    the last of them is gone: two servers can never write one ledger.
    """

    def __init__(self, handle: int) -> None:
        self.fd = handle

    @classmethod
    def acquire(cls, data: Path, wait_s: float = LOCK_WAIT_S) -> DataLock:
        """Take the lock, or raise ConfigError. Blocks up to `wait_s`; used before any loop."""
        path = data / LOCK_FILE
        try:
            data.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            allowed = f"a directory that can be written; {error.strerror}"
            raise ConfigError("data", str(data), allowed) from None
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return cls(handle)
            except OSError:
                if time.monotonic() >= deadline:
                    os.close(handle)
                    allowed = "another server uses it; stop that one or choose another directory"
                    raise ConfigError("data", str(data), allowed) from None
            time.sleep(0.1)

    def release(self) -> None:
        """Let go of this process's hold."""
        os.close(self.fd)
