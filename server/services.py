"""What the routes work with. `server.app` fills it; nothing here decides anything."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from interact.bus import Bus
from interact.engine_embedded import EmbeddedEngine
from interact.engine_redis import RedisEngine
from interact.protocol import Reason, Role, RoomId, is_room_name
from interact.rooms import Caller, RoomService
from server.auth import OPENS_ROOM, Action, Grant, Tokens, bearer_of, require
from server.bridge import Bridge
from server.children import WebChild
from server.errors import RequestError
from server.media_client import MediaPool
from server.metrics import Metrics
from server.siblings import Siblings


@dataclass(frozen=True, slots=True)
class Services:
    """Every object of one web worker that a route may need."""

    settings: WebChild
    static: Path
    tokens: Tokens
    engine: EmbeddedEngine | RedisEngine
    rooms: RoomService
    bus: Bus
    media: MediaPool
    siblings: Siblings
    bridge: Bridge
    metrics: Metrics


def _services_of(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


Wired = Annotated[Services, Depends(_services_of)]
"""Annotate a route's parameter with this to get the services."""


def unix_now() -> float:
    """Unix seconds, for tokens."""
    return time.time()


def token_of(request: Request, *, query: bool = False) -> tuple[str | None, bool]:
    """The request's token, and whether it came in the header."""
    token = bearer_of(request.headers.get("authorization"))
    if token is not None or not query:
        return token, True
    return request.query_params.get("token"), False


def authorize(
    services: Services, request: Request, room: str, action: Action, *, query: bool = False
) -> Grant:
    """The request's grant for `action` in `room`. Raises AccessDenied.

    Access is settled before the room's name: without a token nothing is learnt, not
    even which names are possible.
    """
    token, _ = token_of(request, query=query)
    grant = services.tokens.authorize(token, room, action, unix_now())
    check_room_name(room)
    return grant


def authenticate(services: Services, request: Request) -> Grant:
    """The request's grant, whatever it is for. Raises AccessDenied."""
    token, _ = token_of(request)
    return services.tokens.verify(token, unix_now())


def authorize_grant(grant: Grant, room: str, action: Action) -> None:
    """Raise unless an already checked grant may do `action` in `room`."""
    require(grant, room, action)
    check_room_name(room)


def check_room_name(room: str) -> None:
    """Raise RequestError (404) for a room that cannot exist."""
    if not is_room_name(room):
        raise RequestError(Reason.NOT_FOUND)


def caller_of(grant: Grant, room: str) -> Caller:
    """Who the rules see: an administrator of every room acts in the room addressed."""
    return Caller(RoomId(room), grant.identity, Role(grant.role), grant.name or "")


async def open_room(services: Services, grant: Grant, room: str) -> None:
    """Make the room exist if this is a token that makes rooms."""
    if grant.role in OPENS_ROOM:
        await services.rooms.ensure_room(caller_of(grant, room))
