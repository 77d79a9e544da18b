"""WHIP and WHEP: publish and watch by one POST each, then verbs on the session.

Who may comes first, then whether the request makes sense, then what the media worker
says. A session made with a header needs a token for its room on every later verb; one
made with `?token=` is its own capability, since a page cannot always send headers
(`sendBeacon` on leaving) and the address cannot be guessed.

Where the WHEP draft answers 409 while nobody publishes, we answer 404 `not_live` with
`Retry-After`, which the public contract has fixed; both documents forbid clients to tell
errors apart by their code.

RFC 9725 (WHIP), RFC 8840 (trickle fragments), draft-ietf-wish-whep.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from interact.protocol import PROGRAM, Reason, is_camera_name
from server.auth import AccessDenied, Action, Grant, require_camera
from server.errors import RequestError
from server.ice import ice_links
from server.media_client import Created, needs_bearer
from server.services import Services, Wired, authorize, open_room, token_of, unix_now

SDP: Final = "application/sdp"
SDP_FRAGMENT: Final = "application/trickle-ice-sdpfrag"
MAX_HEIGHT_PX: Final = 8192
_ENDPOINT_ALLOWS: Final = "POST, GET, HEAD, OPTIONS"
_SESSION_ALLOWS: Final = "PATCH, DELETE, GET, HEAD, OPTIONS"

router = APIRouter()

_SDP_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {SDP: {"schema": {"type": "string", "description": "An SDP offer"}}},
    }
}
_CREATED: Final[dict[int | str, dict[str, Any]]] = {
    201: {
        "description": "The SDP answer; `Location` is the session, `ETag` its ICE generation",
        "content": {SDP: {"schema": {"type": "string"}}},
    }
}


class CameraChoice(BaseModel):
    """Which camera a session shows; null follows the program."""

    model_config = ConfigDict(extra="forbid", strict=True)
    camera: str | None = Field(examples=["left"])


class LayerChoice(BaseModel):
    """The tallest picture a session wants, in pixels; null is automatic."""

    model_config = ConfigDict(extra="forbid", strict=True)
    max_height: int | None = Field(ge=1, le=MAX_HEIGHT_PX, examples=[360])


@router.post(
    "/whip/{room}/{camera}",
    status_code=201,
    response_class=Response,
    summary="Publish a camera (WHIP)",
    tags=["media"],
    openapi_extra=_SDP_BODY,
    responses=_CREATED,
)
async def publish(request: Request, room: str, camera: str, services: Wired) -> Response:
    """Send an SDP offer, get the answer. A second POST to a live camera takes it over."""
    grant = authorize(services, request, room, Action.PUBLISH)
    require_camera(grant, camera)
    _check_camera_name(camera)
    offer = await _offer(request)
    await open_room(services, grant, room)
    created = await services.media.publish(
        room, camera, sdp=offer, identity=grant.identity, bearer=True
    )
    return _created(services, room, created, grant.identity)


@router.post(
    "/whep/{room}",
    status_code=201,
    response_class=Response,
    summary="Watch the room's program (WHEP)",
    tags=["media"],
    openapi_extra=_SDP_BODY,
    responses=_CREATED,
)
async def watch_program(request: Request, room: str, services: Wired) -> Response:
    """Send an SDP offer, get the answer; the picture follows the director."""
    return await _watch(services, request, room, None)


@router.post(
    "/whep/{room}/{camera}",
    status_code=201,
    response_class=Response,
    summary="Watch one camera (WHEP)",
    tags=["media"],
    openapi_extra=_SDP_BODY,
    responses=_CREATED,
)
async def watch_camera(request: Request, room: str, camera: str, services: Wired) -> Response:
    """Send an SDP offer, get the answer. `program` is the same as naming no camera."""
    return await _watch(services, request, room, None if camera == PROGRAM else camera)


async def _watch(services: Services, request: Request, room: str, camera: str | None) -> Response:
    grant = authorize(services, request, room, Action.WATCH, query=True)
    if camera is not None:
        _check_camera_name(camera)
    _, is_bearer = token_of(request, query=True)
    offer = await _offer(request)
    await open_room(services, grant, room)
    created = await services.media.watch(
        room, camera, sdp=offer, identity=grant.identity, bearer=is_bearer
    )
    return _created(services, room, created, grant.identity)


@router.options("/whip/{room}/{camera}", include_in_schema=False)
async def describe_whip(request: Request, room: str, services: Wired) -> Response:
    """What may be posted here; with a token that may publish, ICE servers too."""
    return _described(services, request, room, Action.PUBLISH)


@router.options("/whep/{room}", include_in_schema=False)
@router.options("/whep/{room}/{camera}", include_in_schema=False)
async def describe_whep(request: Request, room: str, services: Wired) -> Response:
    """What may be posted here; with a token that may watch, ICE servers too."""
    return _described(services, request, room, Action.WATCH)


def _described(services: Services, request: Request, room: str, action: Action) -> Response:
    """RFC 9725 §4.2 and §4.6: some clients must know the ICE servers before their offer.

    Asks no token and then tells nothing: credentials are for those who may connect.
    """
    response = Response(status_code=200, headers={"Accept-Post": SDP, "Allow": _ENDPOINT_ALLOWS})
    try:
        grant = authorize(services, request, room, action, query=action is Action.WATCH)
    except (AccessDenied, RequestError):
        return response
    _add_ice_links(services, response, grant.identity)
    return response


@router.api_route("/whip/{room}/{camera}", methods=["GET", "HEAD"], include_in_schema=False)
@router.api_route("/whep/{room}", methods=["GET", "HEAD"], include_in_schema=False)
@router.api_route("/whep/{room}/{camera}", methods=["GET", "HEAD"], include_in_schema=False)
async def show_endpoint() -> Response:
    """Nothing to see, said kindly: both documents ask for an empty success (§4.1).

    The media type is how a player recognises a WHEP address by HEAD.
    """
    return Response(media_type=SDP, headers={"Accept-Post": SDP, "Allow": _ENDPOINT_ALLOWS})


@router.options("/session/{room}/{session}", include_in_schema=False)
async def describe_session() -> Response:
    """What a session takes."""
    return Response(headers={"Accept-Patch": SDP_FRAGMENT, "Allow": _SESSION_ALLOWS})


@router.api_route(
    "/session/{room}/{session}",
    methods=["GET", "HEAD"],
    status_code=204,
    response_class=Response,
    summary="Whether a session is still there",
    tags=["media"],
)
async def show_session(request: Request, room: str, session: str, services: Wired) -> Response:
    """204 while it lives, 404 after; it has no representation (RFC 9725 §4.1)."""
    _check_session(services, request, room, session)
    await services.media.for_session(session).inspect(room, session)
    return Response(status_code=204, headers={"Accept-Patch": SDP_FRAGMENT})


@router.api_route(
    "/whip/{room}/{camera}", methods=["PUT", "PATCH", "DELETE"], include_in_schema=False
)
@router.api_route("/whep/{room}", methods=["PUT", "PATCH", "DELETE"], include_in_schema=False)
@router.api_route(
    "/whep/{room}/{camera}", methods=["PUT", "PATCH", "DELETE"], include_in_schema=False
)
async def refuse_on_endpoint() -> Response:
    """An endpoint takes POST; everything else belongs to the session that POST makes."""
    raise HTTPException(405, headers={"Allow": _ENDPOINT_ALLOWS})


@router.api_route("/session/{room}/{session}", methods=["POST", "PUT"], include_in_schema=False)
async def refuse_on_session() -> Response:
    """A session cannot be made again or replaced."""
    raise HTTPException(405, headers={"Allow": _SESSION_ALLOWS})


@router.patch(
    "/session/{room}/{session}",
    status_code=204,
    response_class=Response,
    summary="Trickle candidates or restart ICE",
    tags=["media"],
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {SDP_FRAGMENT: {"schema": {"type": "string"}}},
        }
    },
    responses={
        200: {
            "description": "ICE restarted: the new fragment and ETag",
            "content": {SDP_FRAGMENT: {"schema": {"type": "string"}}},
        }
    },
)
async def patch_session(
    request: Request,
    room: str,
    session: str,
    services: Wired,
    if_match: Annotated[str | None, Header()] = None,
) -> Response:
    """`If-Match` holds the session's ETag; `*` asks for an ICE restart."""
    _check_session(services, request, room, session)
    fragment = await _text(request, SDP_FRAGMENT)
    worker = services.media.for_session(session)
    patched = await worker.patch(room, session, fragment, if_match)
    if patched is None:
        return Response(status_code=204)
    headers = {"ETag": _etag(patched.etag), "Cache-Control": "no-store"}
    return Response(patched.sdpfrag, 200, headers=headers, media_type=SDP_FRAGMENT)


@router.delete(
    "/session/{room}/{session}",
    response_class=Response,
    summary="End a session",
    tags=["media"],
)
async def end_session(request: Request, room: str, session: str, services: Wired) -> Response:
    """End publishing or watching; 200 with no body."""
    _check_session(services, request, room, session)
    await services.media.for_session(session).end(room, session)
    return Response(status_code=200)


@router.put(
    "/session/{room}/{session}/camera",
    status_code=204,
    response_class=Response,
    summary="Move a running session to another camera",
    tags=["media"],
)
async def set_camera(
    request: Request, room: str, session: str, choice: CameraChoice, services: Wired
) -> Response:
    """No renegotiation: the new camera begins on a key frame on the same line."""
    _check_session(services, request, room, session)
    camera = None if choice.camera == PROGRAM else choice.camera
    if camera is not None:
        _check_camera_name(camera)
    await services.media.for_session(session).set_camera(room, session, camera)
    return Response(status_code=204)


@router.put(
    "/session/{room}/{session}/layer",
    status_code=204,
    response_class=Response,
    summary="Cap the quality of a running session",
    tags=["media"],
)
async def set_layer(
    request: Request, room: str, session: str, choice: LayerChoice, services: Wired
) -> Response:
    """The tallest layer to send; null lets the server choose."""
    _check_session(services, request, room, session)
    await services.media.for_session(session).set_layer(room, session, choice.max_height)
    return Response(status_code=204)


def _check_session(services: Services, request: Request, room: str, session: str) -> Grant | None:
    """Raise unless the request may use the session's verbs."""
    if not needs_bearer(session):
        return None
    token, _ = token_of(request, query=True)
    return services.tokens.authorize(token, room, Action.WATCH, unix_now())


def _check_camera_name(camera: str) -> None:
    if camera == PROGRAM:
        raise RequestError(Reason.BAD_NAME, f"{PROGRAM} is reserved")
    if not is_camera_name(camera):
        raise RequestError(Reason.BAD_NAME, "1-64 of A-Z a-z 0-9 . _ -, a letter or digit first")


async def _offer(request: Request) -> str:
    offer = await _text(request, SDP)
    if not offer.strip():
        raise RequestError(Reason.BAD_SDP, "the body is empty; it must be an SDP offer")
    return offer


async def _text(request: Request, media_type: str) -> str:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != media_type:
        raise RequestError(Reason.UNSUPPORTED_MEDIA_TYPE, f"Content-Type must be {media_type}")
    try:
        return (await request.body()).decode()
    except UnicodeDecodeError:
        raise RequestError(Reason.BAD_SDP, "the body is not UTF-8") from None


def _created(services: Services, room: str, created: Created, identity: str) -> Response:
    response = Response(
        created.sdp,
        201,
        headers={
            "Location": f"/session/{room}/{created.session}",
            "ETag": _etag(created.etag),
            "Accept-Patch": SDP_FRAGMENT,
            "Cache-Control": "no-store",
        },
        media_type=SDP,
    )
    _add_ice_links(services, response, identity)
    return response


def _add_ice_links(services: Services, response: Response, identity: str) -> None:
    for link in ice_links(services.settings.ice_servers, identity, unix_now()):
        response.headers.append("Link", link)


def _etag(etag: str) -> str:
    """A strong entity tag; the media worker may or may not have quoted it."""
    return etag if etag.startswith('"') else f'"{etag}"'
