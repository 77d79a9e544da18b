"""One connection to one Redis server: commands in order, pushes as they come.

Replies arrive in the order of the commands. When the connection is lost every command
without a reply fails with LinkLost, and whether it was done is not known.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import parse_qs, unquote, urlsplit

from interact.redis_resp import Argument, BrokenReply, Parser, Push, Reply, ReplyError, encode

CONNECT_TIMEOUT_S: Final = 2.0
DEFAULT_PORT: Final = 6379


class LinkLost(Exception):
    """The connection ended before the reply came."""


class RedisError(Exception):
    """This Redis cannot be used; the message is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and how to introduce oneself."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    path: str | None = None
    """A Unix socket instead of host and port."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    is_tls: bool = False

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read `redis://[user:password@]host[:port][/db]`, `rediss://…`, `unix://path[?db=N]`.

        Raises RedisError.
        """
        parts = urlsplit(url)
        username = unquote(parts.username) if parts.username else None
        password = unquote(parts.password) if parts.password else None
        try:
            if parts.scheme == "unix":
                database = int(parse_qs(parts.query).get("db", ["0"])[0])
                path = unquote(parts.netloc.rpartition("@")[2] + parts.path)
                return cls("", 0, path, username, password, database)
            if parts.scheme not in ("redis", "rediss"):
                raise ValueError
            database = int(parts.path.strip("/") or "0")
            host, port = parts.hostname or "127.0.0.1", parts.port or DEFAULT_PORT
        except ValueError:
            raise RedisError("the Redis address is not redis://HOST:PORT/DB") from None
        return cls(host, port, None, username, password, database, parts.scheme == "rediss")

    @property
    def shown(self) -> str:
        """For people: without the password."""
        return self.path or f"{self.host}:{self.port}"

    def at(self, host: str, port: int) -> Address:
        """Another node of the same cluster."""
        return Address(host, port, None, self.username, self.password, 0, self.is_tls)


class Link(asyncio.Protocol):
    """One connection. `on_push` gets each push in order; `on_lost` is called once."""

    def __init__(self, on_push: Callable[[list[Reply]], None], on_lost: Callable[[], None]) -> None:
        self.is_up = False
        self._on_push = on_push
        self._on_lost = on_lost
        self._parser = Parser()
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(
        cls,
        address: Address,
        on_push: Callable[[list[Reply]], None],
        on_lost: Callable[[], None],
    ) -> Link:
        """Connect and introduce ourselves. Raises LinkLost, or ReplyError for a refusal."""
        loop = asyncio.get_running_loop()
        tls = ssl.create_default_context() if address.is_tls else None
        link = cls(on_push, on_lost)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                if address.path is not None:
                    await loop.create_unix_connection(lambda: link, address.path)
                else:
                    await loop.create_connection(lambda: link, address.host, address.port, ssl=tls)
                await link._introduce(address)
        except (OSError, TimeoutError) as error:
            link.abort()
            raise LinkLost(str(error) or "no answer in time") from None
        except BaseException:
            link.abort()
            raise
        return link

    async def _introduce(self, address: Address) -> None:
        hello: list[Argument] = ["HELLO", 3]
        if address.password is not None:
            hello += ["AUTH", address.username or "default", address.password]
        await self.call(*hello)
        if address.database:
            await self.call("SELECT", address.database)

    def send(self, commands: Sequence[Sequence[Argument]]) -> list[asyncio.Future[Reply]]:
        """Send commands in one write; one future each, in order.

        A future's result may be a ReplyError: one refused command must not hide the rest.
        """
        futures = [self._loop.create_future() for _ in commands]
        if not self.is_up or self._transport is None:
            for future in futures:
                future.set_exception(LinkLost("not connected"))
            return futures
        self._waiting.extend(futures)
        self._transport.write(b"".join(map(encode, commands)))
        return futures

    async def call(self, *command: Argument) -> Reply:
        """One command, one reply. Raises LinkLost and ReplyError."""
        [future] = self.send([command])
        reply = await future
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def abort(self) -> None:
        """Cut the connection now."""
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self.is_up = True

    def data_received(self, data: bytes) -> None:
        try:
            for reply in self._parser.feed(data):
                if isinstance(reply, Push):
                    if reply.items[0] != b"ssubscribe":
                        self._on_push(reply.items)
                        continue
                    reply = True  # the one command whose reply is a push
                if not self._waiting:
                    raise BrokenReply("a reply that nobody asked for")
                future = self._waiting.popleft()
                if not future.done():
                    future.set_result(reply)
        except BrokenReply:
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_up = False
        self._transport = None
        for future in self._waiting:
            if not future.done():
                future.set_exception(LinkLost(str(error) if error else "connection closed"))
                # Whoever gave up waiting shall not be told in the log.
                with contextlib.suppress(BaseException):
                    future.exception()
        self._waiting.clear()
        self._on_lost()
