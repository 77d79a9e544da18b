"""Starts the processes of one server, watches them, starts them again, ends them.

The supervisor owns the sockets and the data lock and does nothing else: no request and
no packet ever passes through it, so there is nothing in it to crash. A child is
replaced when it ends or when its event loop has been silent for `SILENCE_S`.
SIGTERM and SIGINT drain: every child is asked to stop at once, and what still runs
after `DRAIN_S` is killed, so all is over within ten seconds. A second one kills now.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

import server
from interact.redis_examine import examine_redis
from interact.redis_link import RedisError
from server.addresses import people_addresses
from server.auth import load_or_create_secret
from server.backoff import Backoff
from server.children import ChildSettings, DemoChild, MediaChild, MediaPeer, WebChild, WebPeer
from server.children.runtime import EXIT_FATAL
from server.config import ConfigError, Settings, hide_password, split_address
from server.logs import log, setup_logging
from server.sockets import DataLock, bind_media, listen_control, listen_http, reserve_http
from server.tls import certificate_for

DRAIN_S: Final = 8.0
DEMO_DRAIN_S: Final = 3.0
WANTED_OPEN_FILES: Final = 65_536
SILENCE_S: Final = 30.0
"""A child says it is alive every 2 s; a start may be silent while it imports."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to start one child: `settings` gets the descriptor of its status pipe."""

    name: str
    module: str
    settings: Callable[[int], ChildSettings]
    fds: tuple[int, ...]


class Child:
    """One child process through all its lives."""

    def __init__(self, spec: ChildSpec, on_fatal: Callable[[str], None]) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        self._on_fatal = on_fatal
        self._backoff = Backoff()
        self._process: asyncio.subprocess.Process | None = None
        self._fatal_message = ""
        self._has_served = False  # then what stops it now will pass: try again
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keep the child running until `stop`; returns when its last process has ended."""
        while not self._stopping.is_set():
            code = await self._live_once()
            if self._stopping.is_set():
                return
            if code == EXIT_FATAL and self._fatal_message and not self._has_served:
                self._on_fatal(self._fatal_message)
                return
            delay_s = self._backoff.ended(time.monotonic())
            log(
                "child.ended",
                level="warning",
                child=self.spec.name,
                how=_how_it_ended(code),
                restart_in_s=delay_s,
                failures=self._backoff.failures,
                **({"why": self._fatal_message} if code == EXIT_FATAL else {}),
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)

    async def stop(self, grace_s: float) -> None:
        """Ask the child to end, kill it after `grace_s`. `run` then returns."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), grace_s)
        except TimeoutError:
            log("child.killed", level="warning", child=self.spec.name, after_s=grace_s)
            self.kill()

    def kill(self) -> None:
        """End the child's process at once."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _live_once(self) -> int:
        status_read, status_write = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                self.spec.module,
                self.spec.name,  # read by nobody but the person who looks at `ps`
                stdin=asyncio.subprocess.PIPE,
                stdout=sys.stderr.fileno(),
                pass_fds=(*self.spec.fds, status_write),
                env=_child_environment(),
                start_new_session=True,  # Ctrl-C is for the supervisor alone
            )
        finally:
            os.close(status_write)
        self._process = process
        if self._stopping.is_set():
            self.kill()
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(self.spec.settings(status_write)) + b"\n")
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()
        await self._follow(status_read)
        code = await process.wait()
        self.ready.clear()
        process.stdin.close()
        return code

    async def _follow(self, status_fd: int) -> None:
        """Read the child's status until it ends; silence is treated as death."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(status_fd, "rb", 0)
        )
        try:
            while True:
                try:
                    line = await asyncio.wait_for(reader.readline(), SILENCE_S)
                except TimeoutError:
                    log("child.silent", level="warning", child=self.spec.name, for_s=SILENCE_S)
                    self.kill()
                    return
                if not line:
                    return
                self._handle_status(msgspec.json.decode(line, type=dict[str, str]))
        finally:
            transport.close()

    def _handle_status(self, message: dict[str, str]) -> None:
        match message.get("event"):
            case "ready":
                self._backoff.started(time.monotonic())
                self._has_served = True
                self.ready.set()
                assert self._process is not None
                log("child.ready", child=self.spec.name, pid=self._process.pid)
            case "fatal":
                self._fatal_message = message.get("message", "unknown")
            case _:
                pass


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"exit-{code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal-{-code}"


def _child_environment() -> dict[str, str]:
    """The supervisor's environment, with this very copy of the packages first."""
    packages = str(Path(server.__file__).resolve().parent.parent)
    return {**os.environ, "PYTHONPATH": packages, "PYTHONUNBUFFERED": "1"}


class Supervisor:
    """One server: its sockets, its lock and its children."""

    def __init__(self, settings: Settings, *, with_demo: bool) -> None:
        """Take everything a server needs, or raise ConfigError having taken nothing."""
        self.settings = settings
        data = settings.data.resolve()
        with contextlib.ExitStack() as undo:
            self._lock = DataLock.acquire(data)
            undo.callback(self._lock.release)
            load_or_create_secret(data)
            take = listen_http if settings.web_workers == 1 else reserve_http
            self._http = undo.enter_context(take(settings.host, settings.http_port))
            self._media: list[tuple[socket.socket, socket.socket]] = []
            for index in range(settings.media_workers):
                port = settings.media_port + index if settings.media_port else 0
                udp = undo.enter_context(bind_media(settings.host, port))
                host, first = split_address(settings.media_control)
                control = listen_control(host, first + index if first else 0)
                self._media.append((udp, undo.enter_context(control)))
            self._web = [undo.enter_context(listen_control()) for _ in range(settings.web_workers)]
            self._addresses = people_addresses(settings.host, settings.public_ip)
            self._certificate = certificate_for(settings, data, self._addresses)
            self._undo = undo.pop_all()
        self._data = str(data)
        self._control_secret = settings.media_secret or secrets.token_urlsafe(32)
        self._stop = asyncio.Event()
        self._fatal: str | None = None
        web = map(self._web_spec, range(settings.web_workers))
        self._servers = [self._child(spec) for spec in [*self._media_specs(), *web]]
        self._demo = [self._child(self._demo_spec())] if with_demo else []

    @property
    def url(self) -> str:
        """Where people reach the server."""
        if self.settings.public_url:
            return self.settings.public_url
        return self._url_of(self._addresses[0])

    @property
    def local_url(self) -> str:
        """Where this machine reaches the server."""
        address = str(self._http.getsockname()[0])
        return self._url_of({"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(address, address))

    def _url_of(self, host: str) -> str:
        scheme = "https" if self._certificate else "http"
        shown = f"[{host}]" if ":" in host else host
        return f"{scheme}://{shown}:{self._http.getsockname()[1]}"

    async def run(self) -> int:
        """Run until told to stop; the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._handle_signal, number)
        runs = [self._launch(child) for child in self._servers]
        starting = asyncio.create_task(self._announce(runs), name="announce")
        await self._stop.wait()
        starting.cancel()
        log("livehouse.stopping")
        # The demo is a client: it leaves before what it talks to does.
        began = time.monotonic()
        await asyncio.gather(*(child.stop(DEMO_DRAIN_S) for child in self._demo))
        left_s = DRAIN_S - (time.monotonic() - began)
        await asyncio.gather(*(child.stop(left_s) for child in self._servers))
        await asyncio.gather(*runs, return_exceptions=True)
        self._undo.close()
        if self._fatal is not None:
            print(f"livehouse: {self._fatal}", file=sys.stderr, flush=True)
            return EXIT_FATAL
        log("livehouse.stopped")
        return 0

    async def _announce(self, runs: list[asyncio.Task[None]]) -> None:
        """Say once that everything serves, then start the demo, which is only a client."""
        await asyncio.gather(*(child.ready.wait() for child in self._servers))
        ports = [udp.getsockname()[1] for udp, _ in self._media]
        log("livehouse.ready", url=self.url, media_udp=",".join(map(str, ports)), data=self._data)
        if self.settings.print_json:
            line = {
                "event": "ready",
                "url": self.url,
                "local_url": self.local_url,
                "http_port": self._http.getsockname()[1],
                "media_ports": ports,
                "addresses": self._addresses,
                "data": self._data,
                "ca": str(self._certificate[0]) if self._certificate else None,
                "pid": os.getpid(),
            }
            sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
            sys.stdout.flush()
        runs.extend(self._launch(child) for child in self._demo)

    def _launch(self, child: Child) -> asyncio.Task[None]:
        task = asyncio.create_task(child.run(), name=child.spec.name)
        task.add_done_callback(self._handle_end)
        return task

    def _handle_end(self, task: asyncio.Task[None]) -> None:
        """A child's keeper only fails by a mistake of ours; better to end than limp on."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._handle_fatal(f"keeping {task.get_name()} alive failed: {error!r}")

    def _handle_signal(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            log("livehouse.killing", level="warning", signal=number.name)
            for child in [*self._servers, *self._demo]:
                child.kill()
        self._stop.set()

    def _handle_fatal(self, message: str) -> None:
        self._fatal = message
        self._stop.set()

    def _child(self, spec: ChildSpec) -> Child:
        return Child(spec, self._handle_fatal)

    def _media_specs(self) -> Sequence[ChildSpec]:
        return [
            self._media_spec(index, udp, control)
            for index, (udp, control) in enumerate(self._media)
        ]

    def _media_spec(self, index: int, udp: socket.socket, control: socket.socket) -> ChildSpec:
        name = f"media{index}"
        return ChildSpec(
            name,
            "server.children.media",
            lambda status_fd: MediaChild(
                name=name,
                status_fd=status_fd,
                log_level=self.settings.log_level,
                index=index,
                udp_fd=udp.fileno(),
                control_fd=control.fileno(),
                control_secret=self._control_secret,
                peers=tuple(
                    f"http://{_reached_at(other)}"
                    for number, (_, other) in enumerate(self._media)
                    if number != index
                )
                + self.settings.media_peer,
                public_ips=self.settings.public_ip,
            ),
            (udp.fileno(), control.fileno(), self._lock.fd),
        )

    def _web_spec(self, index: int) -> ChildSpec:
        settings, name = self.settings, f"web{index}"
        peers = tuple(
            MediaPeer(index, f"http://{_reached_at(control)}")
            for index, (_, control) in enumerate(self._media)
        )
        private = self._web[index]
        siblings = tuple(
            WebPeer(number, sock.getsockname()[1]) for number, sock in enumerate(self._web)
        )
        cert, key = self._certificate or (None, None)
        return ChildSpec(
            name,
            "server.children.web",
            lambda status_fd: WebChild(
                name=name,
                status_fd=status_fd,
                log_level=settings.log_level,
                index=index,
                http_fd=self._http.fileno(),
                private_fd=private.fileno(),
                peers=siblings,
                data=self._data,
                redis=settings.redis,
                allow_weak_durability=settings.allow_weak_durability,
                media=peers,
                control_secret=self._control_secret,
                media_elsewhere=settings.media_peer,
                allow_origin=settings.allow_origin,
                ice_servers=settings.ice_server,
                guest_ttl_s=settings.guest_ttl,
                open_rooms=settings.open_rooms,
                max_connections=settings.max_connections,
                public_url=self.url,
                cert=str(cert) if cert else None,
                key=str(key) if key else None,
            ),
            (self._http.fileno(), private.fileno(), self._lock.fd),
        )

    def _demo_spec(self) -> ChildSpec:
        settings = self.settings
        return ChildSpec(
            "demo",
            "server.children.demo",
            lambda status_fd: DemoChild(
                name="demo",
                status_fd=status_fd,
                log_level=settings.log_level,
                base_url=self.local_url,
                public_url=self.url,
                data=self._data,
                room=settings.demo_room,
                sources=tuple(str(path.resolve()) for path in settings.source),
                bots=settings.bots,
                ca=str(self._certificate[0]) if self._certificate else None,
            ),
            (self._lock.fd,),
        )


def _reached_at(control: socket.socket) -> str:
    """Where this machine's own processes reach a control listener, as HOST:PORT."""
    host, port = control.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def raise_open_files() -> None:
    """Allow as many open files as the system lets us: each viewer needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _check_redis(url: str, allow_weak_durability: bool) -> None:
    """Raise ConfigError where the shared engine could not start."""
    try:
        report = await examine_redis(url)
    except RedisError as error:
        raise ConfigError("redis", hide_password(url), str(error)) from None
    if report.weakness:
        if not allow_weak_durability:
            raise ConfigError(
                "redis",
                hide_password(url),
                f"it could lose acknowledged bids: {report.weakness}; set that,"
                " or give --allow-weak-durability",
            )
        log("redis.weak_durability", level="warning", why=report.weakness)


def serve(settings: Settings, *, with_demo: bool = False) -> int:
    """`livehouse serve` and `livehouse demo`: the exit status. Raises ConfigError."""
    setup_logging(settings.log_level, "main")
    raise_open_files()
    if settings.redis is not None:
        asyncio.run(_check_redis(settings.redis, settings.allow_weak_durability))

    async def run() -> int:
        return await Supervisor(settings, with_demo=with_demo).run()

    return asyncio.run(run())
