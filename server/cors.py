"""Calls from pages of other origins: Starlette's CORS, and what WHIP adds to it.

A preflight never reaches a route, but RFC 9725 §4.2 wants `Accept-Post` in the answer to
every OPTIONS of an endpoint.

Fetch standard §3.2 (CORS), RFC 9725 §4.2.
"""

from __future__ import annotations

from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_AGE_S: Final = 86_400
_EXPOSED: Final = (
    "Location", "ETag", "Link", "Accept-Patch", "Accept-Post", "Allow", "Retry-After",
)  # fmt: skip
_ENDPOINTS: Final = ("/whip/", "/whep/")
_ACCEPT_POST: Final = (b"accept-post", b"application/sdp")


class Cors(CORSMiddleware):
    """Answers preflights and marks answers for the origins that may read them."""

    def __init__(self, app: ASGIApp, allow_origins: tuple[str, ...]) -> None:
        super().__init__(
            app,
            allow_origins=list(allow_origins),
            allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
            allow_headers=["Authorization", "Content-Type", "If-Match"],
            expose_headers=list(_EXPOSED),
            max_age=MAX_AGE_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        is_options = scope["type"] == "http" and scope["method"] == "OPTIONS"
        if not (is_options and scope["path"].startswith(_ENDPOINTS)):
            await super().__call__(scope, receive, send)
            return

        async def send_with_accept_post(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                if all(name != _ACCEPT_POST[0] for name, _ in headers):
                    message["headers"] = [*headers, _ACCEPT_POST]
            await send(message)

        await super().__call__(scope, receive, send_with_accept_post)
