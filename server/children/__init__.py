"""The processes the supervisor starts, and the settings each one gets.

A child gets its settings as one JSON line on standard input, its sockets as
inherited descriptors, and a pipe to say `{"event": "ready"}` on. Standard input then
stays open for as long as the supervisor lives; its end is the order to stop, so not
even SIGKILL of the supervisor leaves an orphan. Only this package knows any of that.
"""

from __future__ import annotations

import msgspec

from server.config import IceServer


class ChildSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every child gets."""

    name: str
    status_fd: int
    log_level: str


class MediaPeer(msgspec.Struct, frozen=True):
    """One media worker, as the web workers see it."""

    index: int
    url: str
    """Its control API."""


class WebPeer(msgspec.Struct, frozen=True):
    """One web worker, as the others see it: its private listener on this machine."""

    index: int
    port: int


class WebChild(ChildSettings, frozen=True, kw_only=True):
    """Settings of a web worker. Paths are absolute."""

    index: int
    http_fd: int
    private_fd: int
    """A loopback listener of this worker alone, where the others ask for its figures."""
    peers: tuple[WebPeer, ...]
    """Every web worker, this one included."""
    data: str
    redis: str | None
    """Address of the shared engine; None is the embedded one."""
    allow_weak_durability: bool
    media: tuple[MediaPeer, ...]
    control_secret: str
    media_elsewhere: tuple[str, ...]
    """Control APIs of media workers on other machines."""
    allow_origin: tuple[str, ...]
    ice_servers: tuple[IceServer, ...]
    """Announced to WHIP and WHEP clients."""
    guest_ttl_s: int
    open_rooms: bool
    max_connections: int
    public_url: str
    """Where people's phones reach the server."""
    cert: str | None = None
    key: str | None = None


class MediaChild(ChildSettings, frozen=True, kw_only=True):
    """Settings of a media worker."""

    index: int
    udp_fd: int
    control_fd: int
    control_secret: str
    peers: tuple[str, ...]
    """Control APIs of the other media workers, here and on other machines."""
    public_ips: tuple[str, ...]
    """Addresses to offer as ICE candidates besides the machine's own."""


class DemoChild(ChildSettings, frozen=True, kw_only=True):
    """Settings of the demo: cameras and bots that are clients like any other."""

    base_url: str
    """Where this machine reaches the server, for instance http://127.0.0.1:8080."""
    public_url: str
    """Where people's phones reach it; what the QR code shows."""
    data: str
    room: str
    sources: tuple[str, ...]
    bots: int
    ca: str | None = None
    """PEM file to trust when `base_url` is https with the self-signed certificate."""
