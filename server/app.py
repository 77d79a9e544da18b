"""The composition root of a web worker: builds every object and wires it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.types import ASGIApp

from interact.bus import Bus
from interact.engine_embedded import EmbeddedEngine
from interact.engine_redis import RedisEngine
from interact.redis_link import RedisError
from interact.rooms import RoomService
from server import errors
from server.auth import Tokens, load_or_create_secret
from server.bridge import Bridge
from server.children import MediaPeer, WebChild
from server.config import ConfigError
from server.cors import Cors
from server.guard import Guard
from server.media_client import MediaPool, MediaWorker
from server.metrics import Metrics
from server.routes import health, pages, rooms, signaling, tokens
from server.services import Services
from server.siblings import Siblings
from server.ws import token_checker

STATIC: Final = Path(__file__).resolve().parent / "static"
VERSION: Final = "1"
"""Of the HTTP interface; the path says it too."""

FIRST_ELSEWHERE: Final = 1000
"""Numbers of media workers on other machines, which have numbers of their own there."""

_ENGINE_GAUGES: Final = frozenset(
    {"waiting", "channels_in_memory", "up", "weak_durability", "clock_error_us"}
)
_ROOM_GAUGES: Final = frozenset({"rooms", "lots_active", "lots_idle"})

_DESCRIPTION: Final = """\
Rooms, lots and tokens by REST; publishing by WHIP, watching by WHEP. Everything live is on
the bus at `/connection/websocket`, which speaks the Centrifugo client protocol in JSON.
Errors are RFC 9457 problem JSON with a `reason` word.
"""


def unix_ms() -> int:
    """The server's clock: Unix milliseconds."""
    return time.time_ns() // 1_000_000


def _engine(settings: WebChild) -> tuple[EmbeddedEngine | RedisEngine, RedisEngine | None]:
    """The engine, and once more where it is shared. Raises ConfigError."""
    if settings.redis is None:
        return EmbeddedEngine(Path(settings.data)), None
    try:
        shared = RedisEngine(settings.redis, allow_weak_durability=settings.allow_weak_durability)
    except RedisError as error:
        raise ConfigError("redis", "the address given", str(error)) from None
    return shared, shared


def build_services(settings: WebChild) -> Services:
    """Every object of a web worker, wired; nothing runs yet. Raises ConfigError."""
    data = Path(settings.data)
    secrets = Tokens(load_or_create_secret(data))
    metrics = Metrics()
    secret = settings.control_secret
    media = MediaPool(
        [MediaWorker(peer, secret) for peer in settings.media],
        [
            MediaWorker(MediaPeer(FIRST_ELSEWHERE + number, url), secret, is_own=False)
            for number, url in enumerate(settings.media_elsewhere)
        ],
    )
    engine, shared = _engine(settings)
    service = RoomService(
        engine,
        clock=unix_ms if shared is None else shared.clock,
        shared=shared,
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
        siblings=Siblings(settings.index, settings.peers, settings.control_secret, settings.cert),
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
