"""The real `livehouse serve` as a process of its own, on free ports, for any test.

    async with running_server() as server:
        answer = await server.http.get("/healthz")

Nothing is patched and nothing is mocked: supervisor, web worker and media worker run as
they do in a shop. Leaving the block sends SIGTERM and insists on a clean end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from interact.protocol import Role
from server.auth import Tokens, load_or_create_secret

START_TIMEOUT_S: Final = 40.0
STOP_TIMEOUT_S: Final = 10.0
"""What issue and docs promise: everything ends within ten seconds of SIGTERM."""
ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Server:
    """A running server and what a test needs to talk to it."""

    process: subprocess.Popen[str]
    info: dict[str, Any]
    data: Path
    log_path: Path
    http: httpx.AsyncClient
    _tokens: Tokens = field(repr=False)

    @property
    def url(self) -> str:
        """Base address of the HTTP side, reachable from this machine."""
        return str(self.info["local_url"])

    @property
    def ws_url(self) -> str:
        """Address of the bus."""
        return "ws" + self.url.removeprefix("http") + "/connection/websocket"

    @property
    def http_port(self) -> int:
        """TCP port of pages, REST, WHIP, WHEP and the bus."""
        return int(self.info["http_port"])

    @property
    def media_ports(self) -> list[int]:
        """UDP port of each media worker."""
        return [int(port) for port in self.info["media_ports"]]

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        return self.process.pid

    @property
    def log(self) -> str:
        """Everything the server has logged so far."""
        return self.log_path.read_text(errors="replace")

    def token(
        self,
        room: str = "shop",
        role: Role | str = Role.VIEWER,
        *,
        identity: str | None = None,
        name: str | None = None,
        camera: str | None = None,
        ttl_s: int = 3600,
    ) -> str:
        """A token signed with this server's secret."""
        return self._tokens.issue(
            room=room,
            role=Role(role),
            identity=identity or f"test-{Role(role).value}",
            now=time.time(),
            ttl_s=ttl_s,
            name=name,
            camera=camera,
        )

    def bearer(self, room: str = "shop", role: Role | str = Role.VIEWER) -> dict[str, str]:
        """An Authorization header."""
        return {"Authorization": f"Bearer {self.token(room, role)}"}

    def children(self) -> dict[str, int]:
        """Process ids of the supervisor's children by name (`web0`, `media0`, `demo`)."""
        return children_of(self.pid)

    async def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until `/readyz` says that every part can serve."""
        deadline = time.monotonic() + timeout_s
        said = "nothing"
        while time.monotonic() < deadline:
            try:
                answer = await self.http.get("/readyz")
                if answer.status_code == 200:
                    return
                said = answer.text
            except httpx.TransportError as error:
                said = repr(error)
            await asyncio.sleep(0.05)
        raise AssertionError(f"not ready after {timeout_s} s: {said}\n{self.log}")

    async def metric(self, name: str, **labels: str) -> float:
        """One series of `/metrics`, 0 where it does not exist yet."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        for line in (await self.http.get("/metrics")).text.splitlines():
            series, _, value = line.rpartition(" ")
            head, _, inside = series.partition("{")
            if head == name and wanted <= set(inside.rstrip("}").split(",")):
                return float(value)
        return 0.0

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the supervisor and wait for its end; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, STOP_TIMEOUT_S + 2)


def children_of(pid: int) -> dict[str, int]:
    """Child processes of `pid` that run a module of `server.children`, by given name."""
    found: dict[str, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            stat = (entry / "stat").read_text()
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        state, parent = stat.rpartition(")")[2].split()[:2]
        if int(parent) == pid and state != "Z" and len(words) > 4 and b"-m" in words:
            found[words[4].decode()] = int(entry.name)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def start_livehouse(
    *arguments: str, log_path: Path, env: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start any `livehouse` command from this very copy of the sources."""
    with log_path.open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "server", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=clean_environment() | (env or {}),
            cwd=log_path.parent,
        )


def clean_environment() -> dict[str, str]:
    """The environment without `LIVEHOUSE_` settings of whoever runs the tests."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LIVEHOUSE_")}
    return kept | {"PYTHONPATH": str(ROOT)}


@contextlib.asynccontextmanager
async def running_server(
    *,
    command: str = "serve",
    data: Path | None = None,
    host: str = "127.0.0.1",
    media_workers: int = 1,
    arguments: Sequence[str] = (),
    env: dict[str, str] | None = None,
    expect_clean_end: bool = True,
) -> AsyncIterator[Server]:
    """Start a server on free ports, wait until it is ready, stop it after the block.

    `data` keeps the ledger between two servers of one test; else a fresh directory is
    made and removed. `expect_clean_end=False` is for tests that kill the server.
    """
    scratch = Path(tempfile.mkdtemp(prefix="livehouse-test-"))
    log_path = scratch / "server.log"
    directory = data or scratch / "data"
    process = start_livehouse(
        command,
        *("--host", host, "--http-port", "0", "--media-port", "0"),
        *("--media-workers", str(media_workers), "--data", str(directory), "--print-json"),
        *arguments,
        log_path=log_path,
        env=env,
    )
    assert process.stdout is not None
    try:
        info = await _read_ready_line(process, log_path)
        base = str(info["local_url"])
        async with httpx.AsyncClient(
            base_url=base, timeout=15.0, trust_env=False, verify=_trust(info.get("ca"))
        ) as client:
            tokens = Tokens(load_or_create_secret(directory))
            server = Server(process, info, directory, log_path, client, tokens)
            await server.wait_ready()
            yield server
            if expect_clean_end:
                started = time.monotonic()
                status = await server.stop()
                took_s = time.monotonic() - started
                assert status == 0, f"exit status {status}\n{server.log}"
                assert took_s <= STOP_TIMEOUT_S, f"took {took_s:.1f} s to stop\n{server.log}"
    finally:
        await _end(process)
        process.stdout.close()
        shutil.rmtree(scratch, ignore_errors=True)


async def _read_ready_line(process: subprocess.Popen[str], log_path: Path) -> dict[str, Any]:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            line = await asyncio.to_thread(process.stdout.readline)
    except TimeoutError:
        process.kill()  # lets the reading thread go
        raise AssertionError(f"no ready line\n{_text_of(log_path)}") from None
    if not line:
        status = process.wait()
        raise AssertionError(f"ended with {status} before it was ready\n{_text_of(log_path)}")
    info = json.loads(line)
    assert isinstance(info, dict)
    return info


def _trust(ca: str | None) -> ssl.SSLContext | bool:
    return ssl.create_default_context(cafile=ca) if ca else True


def _text_of(path: Path) -> str:
    return path.read_text(errors="replace")


async def _end(process: subprocess.Popen[str]) -> None:
    """Whatever happened, leave nothing running."""
    if process.poll() is None:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, STOP_TIMEOUT_S + 2)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
