"""A bad network for UDP in user space: loses, delays, reorders, duplicates, limits the rate.

Everything it decides comes from one seed. It stands before a server: clients send to
`address`, each client gets a socket of its own towards the server, and both directions
suffer alike unless given separately. Usable from load tools as well as from tests.
"""

from __future__ import annotations

import asyncio
import random
import socket
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Conditions:
    """What one direction does to datagrams. Probabilities are 0 to 1."""

    loss: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Added to the delay, evenly spread; order is kept unless `reorder` says otherwise."""
    reorder: float = 0.0
    """Share that is held back `reorder_s` longer, so that later ones overtake."""
    reorder_s: float = 0.015
    duplicate: float = 0.0
    rate_bps: float = 0.0
    """Bits a second; 0: no limit. What would wait over `queue_s` is dropped."""
    queue_s: float = 0.2


@dataclass(slots=True)
class Counts:
    """What happened to the datagrams of one direction."""

    passed: int = 0
    lost: int = 0
    overflowed: int = 0
    reordered: int = 0
    duplicated: int = 0


@dataclass
class _Direction:
    conditions: Conditions
    rng: random.Random
    counts: Counts = field(default_factory=Counts)
    free_at: float = 0.0
    last_due: float = 0.0

    def plan(self, size: int, now: float) -> list[float]:
        """When copies of a datagram arrive; empty if it is lost. Monotonic seconds."""
        c, rng = self.conditions, self.rng
        if rng.random() < c.loss:
            self.counts.lost += 1
            return []
        start = now
        if c.rate_bps:
            start = max(now, self.free_at)
            if start - now > c.queue_s:
                self.counts.overflowed += 1
                return []
            start += size * 8 / c.rate_bps
            self.free_at = start
        due = start + c.delay_s + (rng.random() * c.jitter_s if c.jitter_s else 0.0)
        if c.reorder and rng.random() < c.reorder:
            self.counts.reordered += 1
            due += c.reorder_s
        else:
            due = self.last_due = max(due, self.last_due)
        self.counts.passed += 1
        if c.duplicate and rng.random() < c.duplicate:
            self.counts.duplicated += 1
            return [due, due + 0.001]
        return [due]


class _Endpoint(asyncio.DatagramProtocol):
    def __init__(self, link: UdpLink, client: tuple[Any, ...] | None) -> None:
        self._link = link
        self._client = client
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if self._client is None:
            self._link._from_client(data, addr)
        else:
            self._link._from_server(data, self._client)

    def error_received(self, exc: Exception) -> None:
        """A closed peer's ICMP answer: the link carries on."""


class UdpLink:
    """A link to one server. `async with UdpLink(...) as link`, then send to `link.address`."""

    def __init__(
        self,
        server: tuple[str, int],
        *,
        seed: int,
        to_server: Conditions | None = None,
        to_client: Conditions | None = None,
    ) -> None:
        self._server = server
        self._up = _Direction(to_server or Conditions(), random.Random(seed))
        self._down = _Direction(to_client or Conditions(), random.Random(seed + 1))
        self._front: asyncio.DatagramTransport | None = None
        self._backs: dict[tuple[Any, ...], asyncio.DatagramTransport | None] = {}
        self._waiting: dict[tuple[Any, ...], list[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.address: tuple[str, int] = ("", 0)

    @property
    def to_server(self) -> Counts:
        return self._up.counts

    @property
    def to_client(self) -> Counts:
        return self._down.counts

    def set_conditions(
        self, *, to_server: Conditions | None = None, to_client: Conditions | None = None
    ) -> None:
        """Change the weather from now on."""
        if to_server is not None:
            self._up.conditions = to_server
        if to_client is not None:
            self._down.conditions = to_client

    async def __aenter__(self) -> UdpLink:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Endpoint(self, None), local_addr=("127.0.0.1", 0)
        )
        _enlarge(transport)
        self._front = transport
        self.address = transport.get_extra_info("sockname")[:2]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for transport in (self._front, *self._backs.values()):
            if transport is not None:
                transport.close()

    def _from_client(self, data: bytes, client: tuple[Any, ...]) -> None:
        back = self._backs.get(client)
        if back is not None:
            self._carry(self._up, back, data, None)
            return
        self._waiting.setdefault(client, []).append(data)
        if client not in self._backs:
            self._backs[client] = None
            task = asyncio.get_running_loop().create_task(self._open(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self, client: tuple[Any, ...]) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Endpoint(self, client), remote_addr=self._server
        )
        _enlarge(transport)
        self._backs[client] = transport
        for data in self._waiting.pop(client, []):
            self._carry(self._up, transport, data, None)

    def _from_server(self, data: bytes, client: tuple[Any, ...]) -> None:
        if self._front is not None:
            self._carry(self._down, self._front, data, client)

    @staticmethod
    def _carry(
        direction: _Direction,
        transport: asyncio.DatagramTransport,
        data: bytes,
        to: tuple[Any, ...] | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for due in direction.plan(len(data), now):
            if due <= now:
                _send(transport, data, to)
            else:
                loop.call_at(due, _send, transport, data, to)


def _send(transport: asyncio.DatagramTransport, data: bytes, to: tuple[Any, ...] | None) -> None:
    if not transport.is_closing():
        transport.sendto(data, to)


def _enlarge(transport: asyncio.DatagramTransport) -> None:
    sock = transport.get_extra_info("socket")
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, 4_000_000)
