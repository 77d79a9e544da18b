"""One media worker: a UDP socket, a relay, and its private control API, on one loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import uvicorn

from media.addresses import candidate_addresses
from media.cascade import Cascade
from media.control import create_control_app
from media.relay import Relay, RelayLimits
from media.udp import SendMode, open_port

logger = logging.getLogger("media.worker")

GC_THRESHOLDS = (20_000, 10, 10)
"""Packets are made and dropped by the thousand and form no cycles: with Python's defaults
the cycle collector looked at them all, for 5 % of the worker's time. Sessions are freed
without it (tests/integration/media/test_memory.py)."""

SHUTDOWN_S = 2
"""How long control requests may take to end; event streams are ended first."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker is told when it starts."""

    index: int
    """Which worker this is, from 0; part of every session id."""
    control_secret: str = field(repr=False)
    """Bearer token of the control API; ICE passwords derive from it too, so a restarted
    worker that is given the same one can still answer its predecessor's peers."""
    public_ips: tuple[str, ...] = ()
    """Addresses to name first in answers, for a server behind 1:1 NAT."""
    peers: tuple[str, ...] = ()
    """Base URLs of the control APIs of other workers, whose cameras this one's viewers may
    watch. They know the same secret."""
    max_sessions: int = 2000
    send_mode: SendMode = SendMode.GSO
    """The best way of sending to try; the machine may force a plainer one."""


class _ControlServer(uvicorn.Server):
    """uvicorn without its signal handlers (the child's main program owns signals), and with
    a call when it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    settings: WorkerSettings,
    udp: socket.socket,
    control: socket.socket,
    stop: asyncio.Event,
    on_ready: Callable[[], None],
) -> None:
    """Run one worker until `stop` is set.

    `udp` is bound, `control` bound and listening; both stay the caller's to close.
    `on_ready` is called once when both are served. On the way out every peer gets a DTLS
    close_notify, so browsers notice at once.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(*GC_THRESHOLDS)
    port = open_port(udp, best=settings.send_mode)
    addresses = candidate_addresses(udp, settings.public_ips)
    relay = Relay(
        port,
        index=settings.index,
        secret=hashlib.sha256(b"ice:" + settings.control_secret.encode()).digest(),
        addresses=addresses,
        limits=RelayLimits(settings.max_sessions),
    )
    cascade = Cascade(relay, settings.peers, settings.control_secret)
    relay.describe_cascade = cascade.describe
    server = _ControlServer(
        uvicorn.Config(
            create_control_app(relay, settings.control_secret, cascade.prepare),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=SHUTDOWN_S,
            timeout_keep_alive=75,
        ),
        on_ready,
    )
    relay.start()
    cascade.start()
    logger.info(
        "worker.start index=%d send=%s addresses=%s",
        settings.index,
        port.mode,
        ",".join(f"{host}:{number}" for host, number in addresses),
    )
    running = asyncio.create_task(server.serve(sockets=[control]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        await cascade.stop()
        relay.stop()
        server.should_exit = True
        await running
        gc.set_threshold(*thresholds)
