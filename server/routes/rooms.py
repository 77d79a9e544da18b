"""Rooms and lots over REST: a mirror of the bus for scripts and for joining.

Commands on lots go through the very `RoomService.rpc` that the bus calls, so there is one
set of rules and one ledger; only the form of request and answer differs.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Body, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from interact.protocol import PROGRAM, Reason, Refused, Role, is_camera_name
from interact.rooms import Caller, RoomInfo
from server.auth import ANY_ROOM, Action, Grant, new_guest_identity
from server.errors import RequestError
from server.services import (
    Services,
    Wired,
    authenticate,
    authorize,
    authorize_grant,
    caller_of,
    check_room_name,
    open_room,
    unix_now,
)

router = APIRouter(prefix="/api/v1", tags=["rooms"])

MAX_TITLE: Final = 200


class RoomOptions(BaseModel):
    """What can be changed of a room; absent leaves it as it is."""

    model_config = ConfigDict(extra="forbid", strict=True)
    title: str | None = Field(default=None, max_length=MAX_TITLE, examples=["Friday's show"])
    open: bool | None = Field(default=None, description="May guests join without a token?")


class NewRoom(RoomOptions):
    """A room to be."""

    room: str = Field(examples=["shop"])


class Room(BaseModel):
    """A room and its options."""

    room: str
    title: str
    open: bool
    created_at: int = Field(description="Unix milliseconds")


class Join(BaseModel):
    """A guest's token and everything a page needs to begin."""

    token: str
    identity: str
    name: str
    room: str
    expires_at: int = Field(description="Unix milliseconds")


class ProgramChoice(BaseModel):
    """The camera on air; null leaves it to the first live one."""

    model_config = ConfigDict(extra="forbid", strict=True)
    camera: str | None


@router.post("/rooms", status_code=201, summary="Make a room with options")
async def create_room(request: Request, new: NewRoom, services: Wired) -> Room:
    """For a host's or an admin's token; a room that exists gets the options."""
    grant = authenticate(services, request)
    authorize_grant_for_new(grant, new.room)
    info = await services.rooms.create_room(
        caller_of(grant, new.room), title=new.title, is_open=new.open
    )
    return _room(info)


def authorize_grant_for_new(grant: Grant, room: str) -> None:
    """As `authorize_grant`, but an impossible name is the body's fault, not the path's."""
    try:
        authorize_grant(grant, room, Action.CREATE_ROOM)
    except RequestError:
        allowed = "1-64 of A-Z a-z 0-9 . _ -, a letter or digit first"
        raise RequestError(Reason.BAD_NAME, f"room: {allowed}") from None


@router.get("/rooms", summary="The rooms a token may see")
async def list_rooms(request: Request, services: Wired) -> list[Room]:
    """Every room for an admin of all rooms, else the token's own."""
    grant = authenticate(services, request)
    infos = [services.rooms.room_info(grant.room)]
    if grant.room == ANY_ROOM:
        infos = list(services.rooms.room_infos())
    return [_room(info) for info in infos if info is not None]


@router.get(
    "/rooms/{room}",
    response_class=Response,
    summary="The room's public state",
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def room_state(request: Request, room: str, services: Wired) -> Response:
    """The same snapshot as the bus call `room.state`, for any token of the room."""
    grant = authorize(services, request, room, Action.WATCH)
    await open_room(services, grant, room)
    return await _rpc(services, caller_of(grant, room), "room.state")


@router.patch("/rooms/{room}", summary="Change a room's options")
async def change_room(request: Request, room: str, options: RoomOptions, services: Wired) -> Room:
    """For a host's or an admin's token."""
    grant = authorize(services, request, room, Action.CREATE_ROOM)
    info = await services.rooms.create_room(
        caller_of(grant, room), title=options.title, is_open=options.open
    )
    return _room(info)


@router.get("/rooms/{room}/join", summary="A fresh guest token where the room is open")
async def join_room(room: str, services: Wired, response: Response) -> Join:
    """No token needed. A closed room and one that nobody made yet answer alike."""
    check_room_name(room)
    info = services.rooms.room_info(room)
    if info is None or not info.is_open:
        raise Refused(Reason.NOT_ALLOWED, "The room is not open to guests, or not yet.")
    identity, now = new_guest_identity(), unix_now()
    # Short, and the same in every language: the page may show "Guest" in front of it.
    name = identity.removeprefix("guest-")[:4].upper()
    ttl_s = services.settings.guest_ttl_s
    token = services.tokens.issue(
        room=room, role=Role.VIEWER, identity=identity, now=now, ttl_s=ttl_s, name=name
    )
    response.headers["Cache-Control"] = "no-store"
    return Join(
        token=token,
        identity=identity,
        name=name,
        room=room,
        expires_at=(int(now) + ttl_s) * 1000,
    )


@router.put(
    "/rooms/{room}/program",
    status_code=204,
    response_class=Response,
    summary="Put a camera on air",
)
async def set_program(
    request: Request, room: str, choice: ProgramChoice, services: Wired
) -> Response:
    """For a director's, host's or admin's token; null goes back to the first live camera."""
    authorize(services, request, room, Action.CUT)
    if choice.camera is not None and not is_camera_name(choice.camera):
        raise RequestError(Reason.BAD_NAME, f"camera: a camera's name, not {PROGRAM}")
    await services.bridge.choose_program(room, choice.camera)
    return Response(status_code=204)


# ------------------------------------------------------------------------- lots

_LOT: Final = "The same fields as the bus call"
_ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/json": {"schema": {"type": "object"}}}}
}
_Fields = Annotated[dict[str, Any], Body()]


@router.post(
    "/rooms/{room}/lots",
    status_code=201,
    response_class=Response,
    summary="Create a lot",
    tags=["lots"],
    responses={201: _ANSWER[200]},
)
async def create_lot(request: Request, room: str, lot: _Fields, services: Wired) -> Response:
    """For a host. The same fields and answer as the bus call `lot.create`."""
    grant = authorize(services, request, room, Action.RUN_LOTS)
    return await _rpc(services, caller_of(grant, room), "lot.create", lot, status=201)


@router.get(
    "/rooms/{room}/lots",
    response_class=Response,
    summary="The room's lots, newest first",
    tags=["lots"],
    responses=_ANSWER,
)
async def list_lots(request: Request, room: str, services: Wired) -> Response:
    """At most 50, as in the bus call `room.state`."""
    grant = authorize(services, request, room, Action.WATCH)
    state = await services.rooms.rpc(caller_of(grant, room), "room.state", b"{}")
    lots = msgspec.json.decode(state, type=dict[str, msgspec.Raw]).get("lots", msgspec.Raw(b"[]"))
    return _json(b'{"lots":' + bytes(lots) + b"}")


@router.get(
    "/rooms/{room}/lots/{lot}",
    response_class=Response,
    summary="One lot",
    tags=["lots"],
    responses=_ANSWER,
)
async def get_lot(request: Request, room: str, lot: str, services: Wired) -> Response:
    """The snapshot of the bus call `lot.state`."""
    grant = authorize(services, request, room, Action.WATCH)
    return await _rpc(services, caller_of(grant, room), "lot.state", {"lot": lot})


@router.post(
    "/rooms/{room}/lots/{lot}/start",
    response_class=Response,
    summary="Open a lot for bids",
    tags=["lots"],
    responses=_ANSWER,
)
async def start_lot(request: Request, room: str, lot: str, services: Wired) -> Response:
    """For a host; the bus call `lot.start`."""
    grant = authorize(services, request, room, Action.RUN_LOTS)
    return await _rpc(services, caller_of(grant, room), "lot.start", {"lot": lot})


class Cancellation(BaseModel):
    """Why a lot is cancelled; bidders see it."""

    model_config = ConfigDict(extra="forbid", strict=True)
    reason: str = Field(max_length=500)


@router.post(
    "/rooms/{room}/lots/{lot}/cancel",
    response_class=Response,
    summary="Cancel a lot",
    tags=["lots"],
    responses=_ANSWER,
)
async def cancel_lot(
    request: Request, room: str, lot: str, why: Cancellation, services: Wired
) -> Response:
    """For a host; the bus call `lot.cancel`."""
    grant = authorize(services, request, room, Action.RUN_LOTS)
    fields = {"lot": lot, "reason": why.reason}
    return await _rpc(services, caller_of(grant, room), "lot.cancel", fields)


async def _rpc(
    services: Services,
    caller: Caller,
    method: str,
    params: dict[str, Any] | None = None,
    *,
    status: int = 200,
) -> Response:
    result = await services.rooms.rpc(caller, method, msgspec.json.encode(params or {}))
    return _json(result, status)


def _json(body: bytes, status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(body, status, headers=headers, media_type="application/json")


def _room(info: RoomInfo) -> Room:
    return Room(room=info.room, title=info.title, open=info.is_open, created_at=info.created_at)
