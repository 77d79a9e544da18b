"""**Shell**: one client of the bus, on the `websockets` package, many to a process.

Speaks the Centrifugo client protocol in JSON far enough for bots and swarms: connect with a
token, server-side subscriptions with recovery by (epoch, offset), calls, pings. Counts what a
phone would notice: gaps in offsets, events recovered after a drop, time to be back.

Centrifugo client protocol: https://centrifugal.dev/docs/transports/client_protocol
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, WebSocketException

CALL_TIMEOUT_S: Final = 10.0
BACKOFF_S: Final = (0.2, 5.0)
_FIRST_TERMINAL_CLOSE: Final = 3500

log = logging.getLogger(__name__)

Json = dict[str, Any]
TokenSource = Callable[[], Awaitable[str]]
OnEvent = Callable[[str, Json, float], None]
"""Takes a channel, an event and the monotonic time it was read."""


class CallRefused(Exception):
    """The server answered a call with an error: its reason word, code and details."""

    def __init__(self, error: Json) -> None:
        self.reason = str(error.get("message", ""))
        self.code = int(error.get("code", 0))
        self.temporary = bool(error.get("temporary", False))
        self.detail = error
        super().__init__(f"{self.code} {self.reason}")


class Disconnected(Exception):
    """The connection broke before the answer came; the call may have been carried out."""


class TokenRefused(Exception):
    """The server closed with a code that says not to come back."""


@dataclass(slots=True)
class _Position:
    epoch: str
    offset: int


@dataclass(slots=True)
class BusCounts:
    """What one client saw."""

    events: int = 0
    recovered: int = 0
    gaps: int = 0
    """Offsets that never came: must stay 0."""
    unrecovered: int = 0
    """Reconnections after which the server could not give back what was missed."""
    connects: int = 0
    longest_away_s: float = 0.0


class BusClient:
    """One connection that keeps coming back. Everything on one event loop."""

    def __init__(
        self,
        url: str,
        token_source: TokenSource,
        on_event: OnEvent = lambda channel, data, now: None,
        *,
        ssl: Any = None,
    ) -> None:
        """`url` is the ws:// or wss:// address of `/connection/websocket`."""
        self._url = url
        self._token_source = token_source
        self._on_event = on_event
        self._ssl = ssl
        self.counts = BusCounts()
        self.connected = asyncio.Event()
        self.on_connected: Callable[[], None] = lambda: None
        self._socket: ClientConnection | None = None
        self._next_id = 1
        self._calls: dict[int, asyncio.Future[Json]] = {}
        self._positions: dict[str, _Position] = {}

    async def run(self) -> None:
        """Stay connected until cancelled. Raises `TokenRefused` where it is no use."""
        wait = BACKOFF_S[0]
        away_since: float | None = None
        while True:
            try:
                async with connect(
                    self._url, compression=None, ping_interval=None, max_size=1 << 22, ssl=self._ssl
                ) as socket:
                    await self._greet(socket)
                    if away_since is not None:
                        away = time.monotonic() - away_since
                        self.counts.longest_away_s = max(self.counts.longest_away_s, away)
                    wait = BACKOFF_S[0]
                    await self._read(socket)
            except (OSError, WebSocketException, TimeoutError) as error:
                if isinstance(error, InvalidHandshake):
                    log.debug("bus handshake refused: %s", error)
                code = getattr(getattr(error, "rcvd", None), "code", 0) or 0
                if code >= _FIRST_TERMINAL_CLOSE:
                    raise TokenRefused(f"closed with {code}") from error
            finally:
                if self.connected.is_set():
                    away_since = time.monotonic()
                self._lost()
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))
            wait = min(wait * 2, BACKOFF_S[1])

    async def call(self, method: str, data: Json | None = None) -> Json:
        """One RPC. Raises `CallRefused`, `Disconnected` or TimeoutError."""
        reply = await self._command({"rpc": {"method": method, "data": data or {}}})
        result = reply["rpc"].get("data", {})
        assert isinstance(result, dict)
        return result

    def drop(self) -> None:
        """Break the connection as a lost network would: no close frame."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def _greet(self, socket: ClientConnection) -> None:
        subs = {
            channel: {"recover": True, "epoch": p.epoch, "offset": p.offset}
            for channel, p in self._positions.items()
        }
        command: Json = {"id": 1, "connect": {"token": await self._token_source(), "subs": subs}}
        await socket.send(json.dumps(command))
        self._next_id = 2
        async with asyncio.timeout(CALL_TIMEOUT_S):
            while True:
                now = time.monotonic()
                lines = str(await socket.recv(decode=True)).split("\n")
                replies = [json.loads(line) for line in lines if line]
                if any(r.get("id") == 1 for r in replies):
                    break
        self._socket = socket
        self.counts.connects += 1
        for reply in replies:
            if reply.get("id") != 1:
                self._take(reply, now)
                continue
            if "error" in reply:
                raise TokenRefused(str(reply["error"]))
            for channel, sub in reply["connect"].get("subs", {}).items():
                self._subscribed(channel, sub, now)
        self.connected.set()
        self.on_connected()

    def _subscribed(self, channel: str, sub: Json, now: float) -> None:
        was_here = channel in self._positions
        if sub.get("recoverable") or "offset" in sub:
            # After a recovery this is the offset that was asked for; what was missed counts it on.
            self._positions[channel] = _Position(sub.get("epoch", ""), sub.get("offset", 0))
        if was_here and not sub.get("recovered"):
            self.counts.unrecovered += 1
        for publication in sub.get("publications", []):
            self.counts.recovered += 1
            self._publication(channel, publication, now)

    async def _read(self, socket: ClientConnection) -> None:
        async for message in socket:
            now = time.monotonic()
            for line in str(message).split("\n"):
                if not line:
                    continue
                reply = json.loads(line)
                if reply:
                    self._take(reply, now)
                else:
                    await socket.send("{}")

    def _take(self, reply: Json, now: float) -> None:
        if "id" in reply:
            call = self._calls.pop(reply["id"], None)
            if call is not None and not call.done():
                if "error" in reply:
                    call.set_exception(CallRefused(reply["error"]))
                else:
                    call.set_result(reply)
            return
        push = reply.get("push", {})
        if "pub" in push:
            self._publication(push["channel"], push["pub"], now)
        elif "subscribe" in push:
            self._subscribed(push["channel"], push["subscribe"], now)

    def _publication(self, channel: str, publication: Json, now: float) -> None:
        offset = publication.get("offset", 0)
        position = self._positions.get(channel)
        if offset and position is not None:
            if offset > position.offset + 1:
                self.counts.gaps += offset - position.offset - 1
            position.offset = max(position.offset, offset)
        self.counts.events += 1
        self._on_event(channel, publication["data"], now)

    async def _command(self, command: Json) -> Json:
        if self._socket is None:
            raise Disconnected
        number = self._next_id
        self._next_id += 1
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._calls[number] = future
        try:
            try:
                await self._socket.send(json.dumps({"id": number, **command}))
            except WebSocketException as error:
                raise Disconnected from error
            async with asyncio.timeout(CALL_TIMEOUT_S):
                return await future
        finally:
            self._calls.pop(number, None)

    def _lost(self) -> None:
        self._socket = None
        self.connected.clear()
        for call in self._calls.values():
            if not call.done():
                call.set_exception(Disconnected())
                with suppress(Disconnected):
                    call.exception()
        self._calls.clear()
