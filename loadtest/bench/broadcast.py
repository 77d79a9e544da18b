"""What does one more viewer cost the bus? CPU per delivered message, memory per connection.

One server process with the real bus and uvicorn, N real WebSocket clients in this one.
Each round sends one message to everybody twice: through the bus (encode, frame, fan out,
event loop) and as bare `os.write` of the same frame to the same sockets, the floor. The
order of the halves is fixed, the load on the machine is not, so the rounds' median counts.
Every client must have received every frame, else there is no result.

    python -m loadtest.bench.broadcast [--connections 1000,2000] [--rounds 60] [--size 120]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
from dataclasses import dataclass
from typing import Any, Final

from interact.frames import Opcode

MASKED_PONG: Final = b"\x81\x82\0\0\0\0{}"
MAX_FILES: Final = 20_000


class Viewer(asyncio.Protocol):
    """One client: enters, then counts whole frames without looking inside."""

    __slots__ = ("_buffer", "_token", "entered", "frames", "transport")

    def __init__(self, token: str) -> None:
        self._token = token
        self._buffer = b""
        self.frames = 0
        self.entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(
            b"GET /connection/websocket HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        if buffer.startswith(b"HTTP/"):
            _, end, buffer = buffer.partition(b"\r\n\r\n")
            if not end:
                self._buffer = data
                return
            command = json.dumps({"id": 1, "connect": {"token": self._token}}).encode()
            assert self.transport is not None
            self.transport.write(masked_text(command))
        at = 0
        while (length := whole_frame(buffer, at)) is not None:
            self._take(buffer[at : at + length])
            at += length
        self._buffer = buffer[at:]

    def _take(self, frame: bytes) -> None:
        if not self.entered.done():
            if b'"connect"' not in frame:
                self.entered.set_exception(RuntimeError(f"not let in: {frame!r}"))
            else:
                self.entered.set_result(None)
        elif frame == b"\x81\x02{}":
            assert self.transport is not None
            self.transport.write(MASKED_PONG)
        elif frame[0] & 0x0F == Opcode.TEXT:
            self.frames += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.entered.done():
            self.entered.set_exception(RuntimeError("closed before it was let in"))


def masked_text(payload: bytes) -> bytes:
    """A client's text frame with the mask zero, which leaves the payload as it is."""
    size = len(payload)
    head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
    return head + bytes(4) + payload


def whole_frame(buffer: bytes, at: int) -> int | None:
    """Length of the server's frame at `at`, or None while it is incomplete."""
    have = len(buffer) - at
    if have < 2:
        return None
    length = buffer[at + 1]
    head = 2
    if length > 125:
        head = 4 if length == 126 else 10
        if have < head:
            return None
        length = int.from_bytes(buffer[at + 2 : at + head], "big")
    return head + length if have >= head + length else None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Times in CPU microseconds per delivered message."""

    loop: str
    connections: int
    frame_bytes: int
    bus_us: float
    floor_us: float
    ratio: float
    memory_bytes: float


class Server:
    """The server's process and its command pipe."""

    def __init__(self, process: asyncio.subprocess.Process, hello: dict[str, Any]) -> None:
        self._process = process
        self.port: int = hello["port"]
        self.token: str = hello["token"]
        self.loop: str = hello["loop"]

    @classmethod
    async def start(cls, *, is_uvloop: bool) -> Server:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "server.bus_alone"),
            *(["--uvloop"] if is_uvloop else []),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        return cls(process, json.loads(await process.stdout.readline()))

    async def ask(self, **command: object) -> dict[str, Any]:
        """Send one command, give its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        answer = json.loads(await self._process.stdout.readline())
        assert isinstance(answer, dict)
        return answer

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


async def measure(connections: int, rounds: int, size: int, *, is_uvloop: bool) -> Row:
    """One server, one crowd, one row."""
    loop = asyncio.get_running_loop()
    server = await Server.start(is_uvloop=is_uvloop)
    # The first connections import and cache; they are not what one more costs.
    viewers: list[Viewer] = []

    async def crowd(count: int) -> None:
        for _ in range(count):
            _, viewer = await loop.create_connection(
                lambda: Viewer(server.token), "127.0.0.1", server.port
            )
            await viewer.entered
            viewers.append(viewer)

    await crowd(20)
    before = await server.ask(do="memory")
    await crowd(connections)
    after = await server.ask(do="memory")
    bus_us: list[float] = []
    floor_us: list[float] = []
    frame_bytes = 0
    warm_up = 5
    for number in range(warm_up + rounds):
        answer = await server.ask(do="broadcast", size=size)
        if answer["sent"] != len(viewers):
            raise RuntimeError(f"{answer['sent']} of {len(viewers)} connections were written to")
        frame_bytes = answer["frame_bytes"]
        if number >= warm_up:
            bus_us.append(answer["bus_s"] / len(viewers) * 1e6)
            floor_us.append(answer["floor_s"] / len(viewers) * 1e6)
        await asyncio.sleep(0.02)  # every buffer empty before the next round
    wanted = 2 * (warm_up + rounds)
    for _ in range(200):
        short = [viewer.frames for viewer in viewers if viewer.frames != wanted]
        if not short:
            break
        await asyncio.sleep(0.05)
    else:
        raise RuntimeError(f"{len(short)} viewers lack frames, one has {short[0]} of {wanted}")
    for viewer in viewers:
        assert viewer.transport is not None
        viewer.transport.abort()
    await server.stop()
    ratio = statistics.median(b / f for b, f in zip(bus_us, floor_us, strict=True))
    grown = after["resident_bytes"] - before["resident_bytes"]
    return Row(
        loop=server.loop.partition(".")[0],
        connections=len(viewers),
        frame_bytes=frame_bytes,
        bus_us=statistics.median(bus_us),
        floor_us=statistics.median(floor_us),
        ratio=ratio,
        memory_bytes=grown / connections,
    )


async def run(connections: list[int], rounds: int, size: int) -> list[Row]:
    """Every size on both event loops."""
    return [
        await measure(count, rounds, size, is_uvloop=is_uvloop)
        for count in connections
        for is_uvloop in (False, True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", default="1000,2000", help="comma-separated")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--size", type=int, default=120, help="bytes of JSON in a message")
    arguments = parser.parse_args()
    counts = [int(word) for word in arguments.connections.split(",")]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MAX_FILES), hard))
    rows = asyncio.run(run(counts, arguments.rounds, arguments.size))
    print(f"cores {os.cpu_count()}, Python {sys.version.split()[0]}, {arguments.rounds} rounds")
    print("| loop | connections | frame | bus µs/message | os.write µs | ratio | KiB/connection |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.loop} | {row.connections} | {row.frame_bytes} B | {row.bus_us:.2f} "
            f"| {row.floor_us:.2f} | {row.ratio:.2f} | {row.memory_bytes / 1024:.1f} |"
        )


if __name__ == "__main__":
    main()
