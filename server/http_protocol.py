"""uvicorn's HTTP protocol with bounds on a request's head.

httptools takes a head of any size for as long as it likes to come. Here it has
`MAX_HEAD_BYTES` and `HEAD_TIMEOUT_S`, and what cannot be parsed is counted and answered
as problem JSON instead of being logged once a port scan.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from interact.protocol import Reason

MAX_HEAD_BYTES: Final = 16 * 1024
HEAD_TIMEOUT_S: Final = 10.0

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
_BAD: Final = b"HTTP/1.1 400 Bad Request\r\n"


class _HeadTooLarge(Exception):
    """Raised inside a parser callback; httptools turns it into its own error."""


class BoundedHttp(HttpToolsProtocol):
    """One HTTP connection whose every head is small and comes in time."""

    count_refusal: Callable[[Reason], None]  # set by make_http_class

    _head_bytes = 0
    _is_too_large = False
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn's signature, which narrows the transport."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        in_head = self._head_timer is not None
        super().data_received(data)
        if in_head and self._head_timer is not None and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._is_too_large = True
                self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        if self._head_timer is None:
            self._arm()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._measure(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._measure(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._disarm()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or too large a one, and close."""
        self._disarm()
        reason = Reason.TOO_LARGE if self._is_too_large else Reason.BAD_REQUEST
        type(self).count_refusal(reason)
        status, line = (431, _TOO_LARGE) if self._is_too_large else (400, _BAD)
        title = b"The request's head is too large" if self._is_too_large else b"Not an HTTP request"
        body = b'{"type":"about:blank","title":"%b","status":%d,"reason":"%b"}' % (
            title,
            status,
            reason.value.encode(),
        )
        self.transport.write(
            line + b"Content-Type: application/problem+json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Any browser may offer h2c; there is nothing in it to warn of."""

    def _measure(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._is_too_large = True
            raise _HeadTooLarge

    def _arm(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._handle_late_head)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _handle_late_head(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()


def make_http_class(count_refusal: Callable[[Reason], None]) -> type[BoundedHttp]:
    """The class for uvicorn's `http=`."""

    class CountingHttp(BoundedHttp):
        """Bound to one web worker's metrics."""

    CountingHttp.count_refusal = staticmethod(count_refusal)
    return CountingHttp
