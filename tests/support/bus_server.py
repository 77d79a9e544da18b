"""The bus alone over a real uvicorn on a free port, in the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import msgspec
import uvicorn
from starlette.applications import Starlette

from interact.bus import Bus
from interact.connection import DEFAULT_LIMITS, Limits
from interact.outbox import LIMIT_BYTES
from interact.protocol import Reason, Refused, Role
from interact.rooms import Caller
from server.auth import Tokens
from server.ws import BUS_PATH, make_protocol_class, token_checker
from tests.support.memory_engine import MemoryEngine

ROOM = "shop"


class Rooms:
    """Answers `echo`, refuses `bid.place`, breaks on `boom`, hangs on `wait` until let go."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.calls: list[tuple[Caller, str]] = []
        self.founded: set[str] = set()
        self.is_full = False

    async def ensure_room(self, caller: Caller) -> bool:
        if self.is_full:
            raise Refused(Reason.BUSY)
        self.founded.add(caller.room)
        return True

    async def rpc(self, caller: Caller, method: str, params: bytes) -> bytes:
        self.calls.append((caller, method))
        match method:
            case "echo":
                return params
            case "clock.now":
                return msgspec.json.encode({"now": now_ms()})
            case "bid.place":
                raise Refused(Reason.TOO_LOW, minimum=1_100)
            case "boom":
                raise ZeroDivisionError("secret detail")
            case "wait":
                await self.gate.wait()
                return b'{"waited":true}'
            case _:
                raise Refused(Reason.UNKNOWN_METHOD)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class RunningBus:
    """A bus that listens."""

    bus: Bus
    engine: MemoryEngine
    rooms: Rooms
    tokens: Tokens
    port: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}{BUS_PATH}"

    def token(
        self,
        identity: str = "ann",
        *,
        room: str = ROOM,
        role: Role = Role.VIEWER,
        ttl_s: int = 3600,
        age_s: int = 0,
    ) -> str:
        """A signed token; `age_s` ago it was issued."""
        return self.tokens.issue(
            room=room, role=role, identity=identity, now=time.time() - age_s, ttl_s=ttl_s
        )


@contextlib.asynccontextmanager
async def running_bus(
    *,
    limits: Limits = DEFAULT_LIMITS,
    limit_bytes: int = LIMIT_BYTES,
    engine: MemoryEngine | None = None,
    max_connections: int | None = None,
) -> AsyncIterator[RunningBus]:
    """Serve until the block ends, then stop as the web worker does."""
    engine = engine or MemoryEngine()
    rooms = Rooms()
    tokens = Tokens(b"k" * 32)
    bus = Bus(
        engine, rooms, token_checker(tokens, now_ms), now_ms, limits=limits, limit_bytes=limit_bytes
    )
    engine.start(bus.hub.publish)
    async with serving(bus, max_connections) as port:
        yield RunningBus(bus, engine, rooms, tokens, port)


@contextlib.asynccontextmanager
async def serving(bus: Bus, max_connections: int | None = None) -> AsyncIterator[int]:
    """uvicorn with the bus's WebSocket class on a free port of the loopback."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        Starlette(),
        ws=make_protocol_class(bus),
        lifespan="off",
        log_config=None,
        access_log=False,
        limit_concurrency=max_connections,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    # Not serve(): that takes over the process's signal handlers.
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    ticking = asyncio.create_task(server.main_loop())
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await ticking
        await bus.close()
        await server.shutdown(sockets=[listener])


async def eventually(
    why_not: Callable[[], str] | Callable[[], Awaitable[str]], timeout_s: float = 10.0
) -> None:
    """Poll until `why_not` gives ""; a time-out says what it gave last."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = why_not()
        reason = answer if isinstance(answer, str) else await answer
        if not reason:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"still not true after {timeout_s} s: {reason}")
        await asyncio.sleep(0.01)
