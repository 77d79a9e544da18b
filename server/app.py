"""The composition root of a web worker: builds every object and wires it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.types import ASGIApp

from interact.bus import Bus
from interact.engine_embedded import EmbeddedEngine
from interact.rooms import RoomService
from server import errors
from server.auth import Tokens, load_or_create_secret
from server.bridge import Bridge
from server.children import WebChild
from server.cors import Cors
from server.guard import Guard
from server.media_client import MediaPool, MediaWorker
from server.metrics import Metrics
from server.routes import health, pages, rooms, signaling, tokens
from server.services import Services
from server.ws import token_checker

STATIC: Final = Path(__file__).resolve().parent / "static"
VERSION: Final = "1"
"""Of the HTTP interface; the path says it too."""

_ENGINE_GAUGES: Final = frozenset({"waiting", "channels_in_memory"})
_ROOM_GAUGES: Final = frozenset({"rooms", "lots_active", "lots_idle"})

_DESCRIPTION: Final = """\
Rooms, lots and tokens by REST; publishing by WHIP, watching by WHEP. Everything live is on
the bus at `/connection/websocket`, which speaks the Centrifugo client protocol in JSON.
Errors are RFC 9457 problem JSON with a `reason` word.
"""


def unix_ms() -> int:
    """The server's clock: Unix milliseconds."""
    return time.time_ns() // 1_000_000


def build_services(settings: WebChild) -> Services:
    """Every object of a web worker, wired; nothing runs yet. Raises ConfigError."""
    data = Path(settings.data)
    secrets = Tokens(load_or_create_secret(data))
    metrics = Metrics()
    media = MediaPool([MediaWorker(peer, settings.control_secret) for peer in settings.media])
    engine = EmbeddedEngine(data)
    service = RoomService(
        engine,
        clock=unix_ms,
        on_tick=lambda channel, tick: bus.hub.publish_tick(channel, tick),
        default_open=settings.open_rooms,
    )
    bus = Bus(engine, service, token_checker(secrets, unix_ms), unix_ms)
    metrics.add_source("engine", engine.stats, gauges=_ENGINE_GAUGES)
    metrics.add_source("interact", service.stats, gauges=_ROOM_GAUGES)
    metrics.add_bus(bus.stats)
    bridge = Bridge(media, service, metrics)
    metrics.add_source("show", bridge.stats, gauges=frozenset(bridge.stats()))
    return Services(
        settings=settings,
        static=STATIC,
        tokens=secrets,
        engine=engine,
        rooms=service,
        bus=bus,
        media=media,
        bridge=bridge,
        metrics=metrics,
    )


def create_app(services: Services) -> ASGIApp:
    """The ASGI application over `services`; the bus's path never reaches it."""
    app = FastAPI(
        title="Livehouse",
        version=VERSION,
        description=_DESCRIPTION,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    for router in (health.router, signaling.router, rooms.router, tokens.router, pages.router):
        app.include_router(router)
    errors.install(app, services.metrics.refused)
    app.add_middleware(Cors, allow_origins=services.settings.allow_origin)
    return Guard(app, services.metrics)
