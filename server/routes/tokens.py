"""Tokens over REST: hosts give others their place in the room, admins anybody anything."""

from __future__ import annotations

import secrets
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from interact.protocol import Reason, Role
from server.auth import DEFAULT_TTL_S, ISSUABLE, MAX_TTL_S, AccessDenied, Action, require
from server.errors import RequestError
from server.services import Wired, authenticate, unix_now

router = APIRouter(prefix="/api/v1", tags=["tokens"])

HOST_MAX_TTL_S: Final = 30 * 86_400


class NewToken(BaseModel):
    """A token to be. Without `identity` it gets one of its own."""

    model_config = ConfigDict(extra="forbid")
    room: str = Field(examples=["shop"])
    role: Role
    identity: str | None = Field(default=None, max_length=128)
    name: str | None = Field(default=None, max_length=64)
    camera: str | None = Field(default=None, description="The only camera it may publish")
    ttl_s: int = Field(default=DEFAULT_TTL_S, ge=1, le=MAX_TTL_S, description="Seconds")


class Token(BaseModel):
    """An issued token."""

    token: str
    identity: str
    room: str
    role: Role
    expires_at: int = Field(description="Unix milliseconds")


@router.post("/tokens", status_code=201, summary="Issue a token")
async def issue_token(
    request: Request, new: NewToken, services: Wired, response: Response
) -> Token:
    """An admin issues any role; a host the lesser ones of the own room, at most 30 days."""
    grant = authenticate(services, request)
    require(grant, new.room, Action.ISSUE_TOKENS)
    if new.role not in ISSUABLE[grant.role]:
        raise AccessDenied(Reason.NOT_ALLOWED)
    if grant.role is not Role.ADMIN and new.ttl_s > HOST_MAX_TTL_S:
        raise RequestError(Reason.BAD_REQUEST, f"ttl_s: at most {HOST_MAX_TTL_S} for a host")
    now = unix_now()
    identity = new.identity or f"{new.role.value}-{secrets.token_hex(6)}"
    try:
        token = services.tokens.issue(
            room=new.room,
            role=new.role,
            identity=identity,
            now=now,
            ttl_s=new.ttl_s,
            name=new.name,
            camera=new.camera,
        )
    except ValueError:
        detail = "room, identity, name or camera is not a usable name"
        raise RequestError(Reason.BAD_NAME, detail) from None
    response.headers["Cache-Control"] = "no-store"
    return Token(
        token=token,
        identity=identity,
        room=new.room,
        role=new.role,
        expires_at=(int(now) + new.ttl_s) * 1000,
    )
