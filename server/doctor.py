"""`livehouse doctor`: looks at everything a server will need and says what to do.

One line a check, `ok`, `note` (works, but could be better) or `FAIL` (a server would not
work); the exit status is 1 only if something fails. Nothing is changed but for a file in
the data directory that is removed again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib.metadata
import os
import resource
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from interact.redis_examine import examine_redis
from interact.redis_link import RedisError
from server.addresses import people_addresses
from server.app import STATIC
from server.auth import SECRET_FILE
from server.config import ConfigError, Settings
from server.routes.pages import PAGES
from server.sockets import bind_media, listen_http

FSYNC_TRIES: Final = 20
FSYNC_SLOW_MS: Final = 20.0
MIN_FREE_BYTES: Final = 200 * 1024 * 1024
GOOD_OPEN_FILES: Final = 65_536
MIN_OPEN_FILES: Final = 512
GOOD_RMEM_BYTES: Final = 4 * 1024 * 1024
UDP_WAIT_S: Final = 1.0
OLDEST_SANE_TIME: Final = 1_735_689_600  # 2025-01-01: before it, tokens and TLS break
REDIS_CLOCK_MS: Final = 1_000
"""Lots run on Redis' clock alone, tokens on this machine's: a second between them is felt."""
_TIME_ERROR: Final = 5
"""adjtimex(2): the kernel's clock is not synchronised."""

_CODECS: Final = (
    ("libvpx", "VP8 for the demo's cameras"),
    ("libx264", "H.264 for the demo's cameras"),
    ("libopus", "Opus sound"),
    ("aac", "AAC from encoders"),
)


class Verdict(StrEnum):
    """How a check went; the values are what is printed."""

    OK = "ok"
    NOTE = "note"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    verdict: Verdict
    subject: str
    text: str


def examine(settings: Settings) -> int:
    """Run every check, print its lines, give the exit status."""
    worst = Verdict.OK
    for check in CHECKS:
        try:
            findings = list(check(settings))
        except Exception as error:  # a check that breaks must not hide those after it
            text = f"the check itself failed: {type(error).__name__}: {error}"
            findings = [Finding(Verdict.FAIL, check.__name__.removeprefix("check_"), text)]
        for finding in findings:
            print(f"{finding.verdict:<5} {finding.subject:<12} {finding.text}", flush=True)
            if finding.verdict is Verdict.FAIL:
                worst = Verdict.FAIL
    print("A server cannot work here yet." if worst is Verdict.FAIL else "A server can work here.")
    return 1 if worst is Verdict.FAIL else 0


def check_python(_settings: Settings) -> Iterator[Finding]:
    """Version and event loop."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    try:
        uvloop_version = importlib.metadata.version("uvloop")
    except importlib.metadata.PackageNotFoundError:
        text = f"{version}, without uvloop; install uvloop for more speed"
        yield Finding(Verdict.NOTE, "python", text)
    else:
        yield Finding(Verdict.OK, "python", f"{version}, uvloop {uvloop_version}")


def check_http_port(settings: Settings) -> Iterator[Finding]:
    """Whether the TCP port is free, or a Livehouse has it already."""
    try:
        listen_http(settings.host, settings.http_port).close()
    except ConfigError as error:
        if _answers_as_livehouse(settings.http_port):
            text = f"{settings.http_port}: a running Livehouse has it"
            yield Finding(Verdict.OK, "http-port", text)
        else:
            yield Finding(Verdict.FAIL, "http-port", str(error))
    else:
        yield Finding(Verdict.OK, "http-port", f"{settings.http_port} is free")


def check_media_ports(settings: Settings) -> Iterator[Finding]:
    """Whether every media worker's UDP port is free."""
    for index in range(settings.media_workers):
        port = settings.media_port + index if settings.media_port else 0
        try:
            bind_media(settings.host, port).close()
        except ConfigError as error:
            if _answers_as_livehouse(settings.http_port):
                yield Finding(Verdict.OK, "media-port", f"{port}: a running Livehouse has it")
            else:
                yield Finding(Verdict.FAIL, "media-port", str(error))
        else:
            yield Finding(Verdict.OK, "media-port", f"{port} is free")


def check_udp(settings: Settings) -> Iterator[Finding]:
    """Whether UDP gets from this machine to each of its addresses and back."""
    for address in dict.fromkeys(("127.0.0.1", *people_addresses(settings.host, ()))):
        took_ms = _udp_echo_ms(address)
        if took_ms is None:
            text = f"{address}: nothing arrives; let the firewall pass UDP {settings.media_port}"
            yield Finding(Verdict.FAIL, "udp", text)
        else:
            text = f"{address}: there and back in {took_ms:.2f} ms"
            yield Finding(Verdict.OK, "udp", text)
    for address in settings.public_ip:
        yield Finding(
            Verdict.NOTE,
            "udp",
            f"{address}: reachable from outside only if UDP {settings.media_port} is forwarded "
            "to this machine; try it with a phone on mobile data",
        )


def check_udp_buffers(_settings: Settings) -> Iterator[Finding]:
    """Whether the kernel lets a socket hold a burst of packets."""
    path = Path("/proc/sys/net/core/rmem_max")
    if not path.exists():
        return
    size = int(path.read_text())
    if size < GOOD_RMEM_BYTES:
        advice = f"for many viewers run: sysctl -w net.core.rmem_max={GOOD_RMEM_BYTES}"
        yield Finding(Verdict.NOTE, "udp-buffer", f"at most {size} bytes; {advice}")
    else:
        yield Finding(Verdict.OK, "udp-buffer", f"up to {size} bytes")


def check_codecs(_settings: Settings) -> Iterator[Finding]:
    """Whether PyAV has what the demo and the media jobs encode with."""
    import av

    missing = [f"{name} ({use})" for name, use in _CODECS if name not in av.codecs_available]
    if missing:
        text = f"PyAV {av.__version__} lacks {', '.join(missing)}; install the wheel from PyPI"
        yield Finding(Verdict.FAIL, "codecs", text)
    else:
        names = ", ".join(name for name, _ in _CODECS)
        yield Finding(Verdict.OK, "codecs", f"PyAV {av.__version__} with {names}")


def check_clock(_settings: Settings) -> Iterator[Finding]:
    """Whether the clock tells a sane time, does not jump, and is kept by somebody."""
    if time.time() < OLDEST_SANE_TIME:
        yield Finding(Verdict.FAIL, "clock", f"it is not {time.ctime()}; set the clock, use NTP")
        return
    wall, steady = time.time(), time.monotonic()
    time.sleep(0.2)
    drift_ms = abs((time.time() - wall) - (time.monotonic() - steady)) * 1000
    if drift_ms > 20:
        text = f"it jumped by {drift_ms:.0f} ms just now; let only one program set it"
        yield Finding(Verdict.NOTE, "clock", text)
    elif _kernel_clock_state() == _TIME_ERROR:
        text = "not synchronised; run chrony or systemd-timesyncd so that times are true"
        yield Finding(Verdict.NOTE, "clock", text)
    else:
        yield Finding(Verdict.OK, "clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def check_disk(settings: Settings) -> Iterator[Finding]:
    """Whether the data directory takes durable writes, and how fast."""
    data = settings.data.resolve()
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        times_ms = _fsync_times_ms(data)
    except OSError as error:
        text = f"{data}: {error.strerror}; choose another with --data or change its owner"
        yield Finding(Verdict.FAIL, "disk", text)
        return
    middle, high = times_ms[len(times_ms) // 2], times_ms[int(len(times_ms) * 0.95)]
    text = f"{data}: durable write in {middle:.1f} ms (p95 {high:.1f} ms)"
    if middle > FSYNC_SLOW_MS:
        text += "; each bid waits for one, so a faster disk makes faster answers"
        yield Finding(Verdict.NOTE, "disk", text)
    else:
        yield Finding(Verdict.OK, "disk", text)
    free = shutil.disk_usage(data).free
    if free < MIN_FREE_BYTES:
        text = f"{data}: only {free // 1_000_000} MB left; free at least 200 MB"
        yield Finding(Verdict.FAIL, "disk", text)


def check_secret(settings: Settings) -> Iterator[Finding]:
    """Whether the key that signs tokens is there and private."""
    path = settings.data.resolve() / SECRET_FILE
    if not path.exists():
        yield Finding(Verdict.OK, "secret", "none yet; made on first start")
    elif path.stat().st_mode & 0o077:
        yield Finding(Verdict.NOTE, "secret", f"others can read it; run: chmod 600 {path}")
    else:
        yield Finding(Verdict.OK, "secret", f"{path}, private")


def check_redis(settings: Settings) -> Iterator[Finding]:
    """Whether the shared engine answers, where one is set."""
    if settings.redis is None:
        return
    try:
        report = asyncio.run(examine_redis(settings.redis))
    except RedisError as error:
        yield Finding(Verdict.FAIL, "redis", f"{error}; is it running, and the password right?")
        return
    nodes = f", {report.masters} masters" if report.masters > 1 else ""
    text = f"version {report.version}{nodes}, answers in {report.round_trip_ms:.1f} ms"
    yield Finding(Verdict.OK, "redis", text)
    if not report.weakness:
        yield Finding(Verdict.OK, "redis", "syncs every write to disk before it answers")
    elif settings.allow_weak_durability:
        yield Finding(Verdict.NOTE, "redis", f"may lose acknowledged bids: {report.weakness}")
    else:
        todo = "CONFIG SET appendonly yes, CONFIG SET appendfsync always"
        yield Finding(Verdict.FAIL, "redis", f"{report.weakness}; {todo}")
    if abs(report.clock_ahead_ms) > REDIS_CLOCK_MS:
        text = f"its clock is {report.clock_ahead_ms:+.0f} ms off this machine's; run NTP on both"
        yield Finding(Verdict.NOTE, "redis", text)


def check_pages(_settings: Settings) -> Iterator[Finding]:
    """Whether the pages are built."""
    if all((STATIC / name).is_file() for name in PAGES):
        yield Finding(Verdict.OK, "pages", ", ".join(PAGES))
    else:
        yield Finding(Verdict.FAIL, "pages", "not built; run: make setup")


def check_open_files(_settings: Settings) -> Iterator[Finding]:
    """Whether enough connections can be open; the server raises the soft limit itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = GOOD_OPEN_FILES if hard == resource.RLIM_INFINITY else hard
    if limit < MIN_OPEN_FILES:
        yield Finding(Verdict.FAIL, "open-files", f"at most {limit}; raise it: ulimit -n 65536")
    elif limit < GOOD_OPEN_FILES:
        text = f"at most {limit}, one a viewer; for more: LimitNOFILE=65536 or ulimit -n 65536"
        yield Finding(Verdict.NOTE, "open-files", text)
    else:
        yield Finding(Verdict.OK, "open-files", f"up to {limit}")


CHECKS: Final[tuple[Callable[[Settings], Iterator[Finding]], ...]] = (
    check_python,
    check_http_port,
    check_media_ports,
    check_udp,
    check_udp_buffers,
    check_codecs,
    check_clock,
    check_disk,
    check_secret,
    check_redis,
    check_pages,
    check_open_files,
)


def _answers_as_livehouse(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return b'{"status":"ok"}' in connection.recv(4096)
    except OSError:
        return False


def _udp_echo_ms(address: str) -> float | None:
    """Round trip of a datagram to one of our own addresses, None when it never comes."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        socket.socket(family, socket.SOCK_DGRAM) as server,
        socket.socket(family, socket.SOCK_DGRAM) as client,
    ):
        server.settimeout(UDP_WAIT_S)
        client.settimeout(UDP_WAIT_S)
        try:
            server.bind((address, 0))
            started = time.perf_counter()
            question = secrets.token_bytes(20)
            client.sendto(question, server.getsockname())
            received, sender = server.recvfrom(64)
            server.sendto(received, sender)
            is_same = client.recv(64) == question
        except OSError:
            return None
        return (time.perf_counter() - started) * 1000 if is_same else None


def _kernel_clock_state() -> int:
    """What adjtimex(2) says of the clock, -1 where it cannot be asked."""
    with contextlib.suppress(OSError, AttributeError):
        # A zeroed struct timex (at most 208 bytes) only reads.
        buffer = ctypes.create_string_buffer(512)
        return int(ctypes.CDLL(None).adjtimex(buffer))
    return -1


def _fsync_times_ms(directory: Path) -> list[float]:
    path = directory / f".doctor-{os.getpid()}"
    times: list[float] = []
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for _ in range(FSYNC_TRIES):
            started = time.perf_counter()
            os.write(handle, b"\0" * 4096)
            os.fsync(handle)
            times.append((time.perf_counter() - started) * 1000)
    finally:
        os.close(handle)
        path.unlink()
    return sorted(times)
