"""The bus by itself, to be measured: real sockets, real uvicorn, no rooms and no disk.

Run as a child process (`python -m server.bus_alone`) it prints one JSON line with its
port and a token, then takes one JSON command a line on standard input and answers each
with one line: `loadtest.bench.broadcast` is the only caller. CPU is this process's own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import secrets
import socket
import sys
import time
from typing import Final

import uvicorn
from starlette.applications import Starlette

from interact.bus import Bus
from interact.connection import Limits
from interact.engine import HistoryPage, Position, Publication
from interact.frames import encode_text
from interact.protocol import Reason, Refused, Role, room_channel
from interact.rooms import Caller
from server.auth import Tokens
from server.ws import BusSocket, make_protocol_class, token_checker

ROOM: Final = "bench"
TOKEN_TTL_S: Final = 3_600


class _NoHistory:
    """Channels in which nothing ever happened."""

    async def history(
        self, channel: str, since: Position | None, limit: int, *, reverse: bool = False
    ) -> HistoryPage:
        return HistoryPage(Position("bench", 0), (), since is None)


class _NoRooms:
    """Answers with what it was asked."""

    async def ensure_room(self, caller: Caller) -> bool:
        return True

    async def rpc(self, caller: Caller, method: str, params: bytes) -> bytes:
        if method != "echo":
            raise Refused(Reason.UNKNOWN_METHOD)
        return params


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _file_numbers(server: uvicorn.Server) -> list[int]:
    connections: set[object] = set(server.server_state.connections)  # typed without ours
    sockets = [s for s in connections if isinstance(s, BusSocket)]
    return [s.transport.get_extra_info("socket").fileno() for s in sockets]


class _Bench:
    """What the commands do."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._offset = 0

    def memory(self) -> dict[str, object]:
        gc.collect()
        return {"resident_bytes": _resident_bytes(), "connections": self._bus.stats().connections}

    async def broadcast(self, size: int, fds: list[int]) -> dict[str, object]:
        """One message of `size` bytes of data to everybody: by the bus, then by os.write."""
        data = json.dumps({"fill": "x" * (size - 11)}, separators=(",", ":")).encode()
        channel = room_channel(ROOM)
        self._offset += 1
        publication = Publication(channel, self._offset, data)
        sent = self._bus.hub.stats.messages_sent
        start_cpu = time.process_time()
        self._bus.hub.publish(publication)
        await asyncio.sleep(0)  # event loops that gather writes let them go now
        await asyncio.sleep(0)
        bus_s = time.process_time() - start_cpu
        sent = self._bus.hub.stats.messages_sent - sent
        frame = encode_text(_push(channel, data, self._offset))
        await asyncio.sleep(0.02)  # clients read: both halves start with empty buffers
        write = os.write
        start_cpu = time.process_time()
        for fd in fds:
            write(fd, frame)
        floor_s = time.process_time() - start_cpu
        return {"sent": sent, "frame_bytes": len(frame), "bus_s": bus_s, "floor_s": floor_s}


def _push(channel: str, data: bytes, offset: int) -> bytes:
    """The same push as the bus's; the floor writes it a second time."""
    return b'{"push":{"channel":"%b","pub":{"data":%b,"offset":%d}}}' % (
        channel.encode(),
        data,
        offset,
    )


async def _serve() -> None:
    tokens = Tokens(secrets.token_bytes(32))
    # No pings: they would fall into some rounds and not into others.
    limits = Limits(ping_interval_s=float(TOKEN_TTL_S))
    check = token_checker(tokens, _now_ms)
    bus = Bus(_NoHistory(), _NoRooms(), check, _now_ms, limits=limits)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        Starlette(), ws=make_protocol_class(bus), lifespan="off", log_level="warning", backlog=4_096
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    token = tokens.issue(
        room=ROOM, role=Role.VIEWER, identity="bench", now=time.time(), ttl_s=TOKEN_TTL_S
    )
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    port = listener.getsockname()[1]
    print(json.dumps({"port": port, "token": token, "loop": type(loop).__module__}), flush=True)
    bench = _Bench(bus)
    async for line in commands:
        command = json.loads(line)
        if command["do"] == "memory":
            answer = bench.memory()
        else:
            answer = await bench.broadcast(command["size"], _file_numbers(server))
        print(json.dumps(answer), flush=True)
    server.should_exit = True
    await serving
    await bus.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["--uvloop"]:
        import uvloop

        uvloop.run(_serve())
    else:
        asyncio.run(_serve())
