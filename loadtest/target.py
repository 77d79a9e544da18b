"""The server that a load run is aimed at: addresses and tokens."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from loadtest.procstat import listener_pid


@dataclass(frozen=True, slots=True)
class Target:
    """Where to go. `token` is given by the user, else guests join the room by themselves."""

    url: str
    room: str
    token: str | None = None
    ca: str | None = None

    @property
    def ws_url(self) -> str:
        """Address of the bus."""
        return "ws" + self.url.removeprefix("http") + "/connection/websocket"

    def context(self) -> ssl.SSLContext | None:
        """What to trust, for TLS with a certificate of the server's own."""
        return ssl.create_default_context(cafile=self.ca) if self.ca else None

    def client(self, connections: int = 100) -> httpx.AsyncClient:
        """An HTTP client that does not queue behind its own pool."""
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        verify: Any = self.context() or True
        return httpx.AsyncClient(timeout=20, trust_env=False, limits=limits, verify=verify)

    async def guest(self, client: httpx.AsyncClient) -> str:
        """A fresh guest's token. Raises ValueError where the room lets no guests in."""
        response = await client.get(f"{self.url}/api/v1/rooms/{self.room}/join")
        if response.status_code == httpx.codes.FORBIDDEN:
            raise ValueError(
                f"room {self.room!r} lets no guests in, or nobody made it yet: "
                "open its studio once, or give a --token"
            )
        response.raise_for_status()
        return str(response.json()["token"])

    def server_pid(self) -> int | None:
        """The server's process where it runs on this machine, else None."""
        parts = urlsplit(self.url)
        if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            return None
        return listener_pid(parts.port or (443 if parts.scheme == "https" else 80))
