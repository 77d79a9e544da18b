"""What every HTTP request passes first: size and time limits, safe headers, counting.

Plain ASGI, outside the routes. The body is read here, whole, at most `MAX_BODY_BYTES`
and within `BODY_TIMEOUT_S`, so a route never waits for a slow peer and never holds an
over-long one. WebSocket scopes pass through untouched.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interact.protocol import Reason
from server.errors import problem
from server.metrics import Metrics

MAX_BODY_BYTES: Final = 64 * 1024
BODY_TIMEOUT_S: Final = 10.0
DISCARD_BYTES: Final = 1024 * 1024
DISCARD_S: Final = 2.0
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),  # a page's address may hold a token
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Guard:
    """The outermost layer of the app."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        try:
            try:
                body = await _read_body(scope, receive)
            except ClientDisconnect:
                return
            except _Refusal as refusal:
                self._metrics.refused(refusal.reason)
                await _discard(receive)
                # The rest of the body is not wanted, so neither is this connection.
                response = problem(refusal.reason, refusal.detail, headers={"Connection": "close"})
                await response(scope, receive, send_safely)
                return
            await self._app(scope, _replay(body, receive), send_safely)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.answered(method, route, status, time.perf_counter() - started)


class _Refusal(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    too_large = _Refusal(Reason.TOO_LARGE, f"a body has at most {MAX_BODY_BYTES} bytes")
    announced = Headers(scope=scope).get("content-length", "")
    if announced.isdecimal() and int(announced[:12]) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                body += message.get("body", b"")
                if len(body) > MAX_BODY_BYTES:
                    raise too_large
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        detail = f"the body did not come within {BODY_TIMEOUT_S:.0f} s"
        raise _Refusal(Reason.BAD_REQUEST, detail) from None


async def _discard(receive: Receive) -> None:
    """Take a little more of a refused body: a close while it comes would reset the
    connection, and the peer would never read why."""
    left = DISCARD_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_S):
            while left > 0:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once, then whatever the connection says."""
    is_given = False

    async def replay() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
