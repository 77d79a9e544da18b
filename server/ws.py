"""The bus's WebSocket, below ASGI: one small object a connection, no task, no queue.

uvicorn's HTTP protocol hands an upgrade request to the class made here. For the bus's path
it answers the handshake and gives the transport to a `BusSocket`, so the HTTP parser, the
request and the handshake's state machine are all freed; every other path goes on to
uvicorn's own WebSocket protocol and the ASGI application. Outgoing frames are written to
the transport as they are: one bytes object for a whole audience.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, cast
from urllib.parse import parse_qs

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from interact.bus import Bus, Session
from interact.effects import Access
from interact.frames import FrameError, FrameReader, Message, Opcode, encode_close
from interact.protocol import Refused
from interact.rooms import Caller
from server.auth import AccessDenied, Tokens, bearer_of

BUS_PATH: Final = "/connection/websocket"
SUBPROTOCOL: Final = "centrifuge-json"
"""Answered when asked for; the Protobuf form of the protocol is not spoken."""
RETRY_AFTER_S: Final = 5
_CLOSE_FIRST_BYTE: Final = b"\x88"


class BusSocket(asyncio.Protocol):
    """The socket of one bus connection, after the handshake."""

    __slots__ = ("_is_close_sent", "_on_gone", "_reader", "_session", "transport")

    def __init__(
        self,
        bus: Bus,
        transport: asyncio.Transport,
        upgrade_token: str | None,
        on_gone: Callable[[BusSocket], None],
    ) -> None:
        self.transport = transport
        self._reader: FrameReader | None = FrameReader()
        self._is_close_sent = False
        self._on_gone = on_gone
        self._session: Session = bus.open(self, upgrade_token)

    # --- asyncio.Protocol ------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            # Frames cannot be told apart any more; but a chunk that begins with a close
            # frame is the peer's answer to ours.
            if data[:1] == _CLOSE_FIRST_BYTE:
                self.transport.close()
            return
        try:
            messages = reader.feed(data)
        except FrameError as error:
            self._reader = None
            self._session.broken(error.code, error.reason)
            return
        for index, message in enumerate(messages):
            if message.opcode is Opcode.CLOSE:
                self._session.receive(messages[:index])
                self._answer_close(message)
                return
        if messages and not self._is_close_sent:
            self._session.receive(messages)

    def eof_received(self) -> bool:
        return False  # the transport closes

    def pause_writing(self) -> None:
        self._session.paused()

    def resume_writing(self) -> None:
        self._session.resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._session.lost()
        self._on_gone(self)

    # --- interact.outbox.Socket ------------------------------------------------------

    def writer(self) -> Callable[[bytes], None]:
        return self.transport.write

    def unsent_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def close(self, code: int, reason: str) -> None:
        """Send a close frame and wait for the peer's, so that ours is read before the end."""
        if not self._is_close_sent:
            self._is_close_sent = True
            self.transport.write(encode_close(code, reason))

    def abort(self) -> None:
        self.transport.abort()

    # --- called by uvicorn -----------------------------------------------------------

    def shutdown(self) -> None:
        """The server stops."""
        self._session.shut_down()

    def _answer_close(self, message: Message) -> None:
        if not self._is_close_sent:
            self._is_close_sent = True
            # Lost first: nothing may follow a close frame.
            self._session.lost()
            code = message.payload[:2]
            is_valid = len(code) == 2 and 1000 <= int.from_bytes(code, "big") < 5000
            self.transport.write(
                encode_close(int.from_bytes(code, "big") if is_valid else 1000, "")
            )
        self._reader = None
        if self.transport.get_write_buffer_size() > 65_536:
            self.transport.abort()  # it takes nothing: flushing might never end
        else:
            self.transport.close()


def make_protocol_class(bus: Bus, path: str = BUS_PATH) -> type[WebSocketsSansIOProtocol]:
    """The class for uvicorn's `ws=`: the bus on `path`, ASGI on every other."""

    class BusProtocol(WebSocketsSansIOProtocol):
        """Lives for the length of a handshake on the bus's path."""

        _socket: BusSocket | None = None

        def handle_connect(self, event: Request) -> None:
            own_path, _, query = event.path.partition("?")
            if own_path != path:
                super().handle_connect(event)
                return
            limit = self.config.limit_concurrency
            if limit is not None and len(self.connections) > limit:
                # Not a close code: SDKs take 503 as "later", with growing pauses.
                refusal = self.conn.reject(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
                refusal.headers["Retry-After"] = str(RETRY_AFTER_S)
                self.transport.write(refusal.serialize())
                self.transport.close()
                return
            self.conn.available_extensions = None  # compression: once a viewer, not once
            response = self.conn.accept(event)
            if response.status_code != 101:
                super().handle_connect(event)  # writes the same refusal
                return
            offered = ",".join(event.headers.get_all("Sec-WebSocket-Protocol"))
            if SUBPROTOCOL in [word.strip() for word in offered.split(",")]:
                response.headers["Sec-WebSocket-Protocol"] = SUBPROTOCOL
            token = bearer_of(event.headers.get("Authorization")) or _query_token(query)
            self.transport.write(response.serialize())
            # uvicorn's set knows classes, not the three methods it calls; ours has them.
            connections = cast("set[BusSocket]", self.connections)
            connections.discard(cast("BusSocket", self))
            self._socket = BusSocket(bus, self.transport, token, connections.discard)
            connections.add(self._socket)
            # Not now: the HTTP protocol that called us sets this object first.
            self.loop.call_soon(self._hand_over)

        def _hand_over(self) -> None:
            if self._socket is not None and not self.transport.is_closing():
                self.transport.set_protocol(self._socket)

        def data_received(self, data: bytes) -> None:
            if self._socket is not None:
                self._socket.data_received(data)
            else:
                super().data_received(data)

        def pause_writing(self) -> None:
            if self._socket is not None:
                self._socket.pause_writing()
            else:
                super().pause_writing()

        def resume_writing(self) -> None:
            if self._socket is not None:
                self._socket.resume_writing()
            else:
                super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._socket is not None:
                self._socket.connection_lost(exc)
            else:
                super().connection_lost(exc)

    return BusProtocol


def token_checker(tokens: Tokens, now_ms: Callable[[], int]) -> Callable[[str], Access]:
    """The bus's view of `Tokens`: gives an Access or raises Refused."""

    def check(token: str) -> Access:
        try:
            grant = tokens.verify(token, now_ms() / 1000)
        except AccessDenied as denied:
            raise Refused(denied.reason) from None
        caller = Caller(grant.room, grant.identity, grant.role, grant.name or "")
        return Access(caller, grant.expires_at)

    return check


def _query_token(query: str) -> str | None:
    values = parse_qs(query).get("token")
    return values[0] if values else None
