"""The worker's private control API: the relay's verbs as HTTP and JSON.

Served on a loopback listener that only the supervisor's children know; every request
carries the control secret as a bearer token. Errors are
`{"status": int, "reason": Reason, "detail": str}`. `GET /v1/events` never ends: one JSON
object a line, a snapshot first; when it breaks, the worker is gone.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from interact.protocol import Reason, Refused
from media.events import EventStream
from media.feed import PullOffer
from media.relay import Relay

logger = logging.getLogger("media.control")

MAX_BODY_BYTES: Final = 128 * 1024
MAX_HEIGHT_PX: Final = 16_384

STATUS: Final[dict[Reason, int]] = {
    Reason.BAD_REQUEST: 400,
    Reason.BAD_SDP: 400,
    Reason.BAD_NAME: 400,
    Reason.NO_TOKEN: 401,
    Reason.BAD_TOKEN: 401,
    Reason.NOT_FOUND: 404,
    Reason.NOT_LIVE: 404,
    Reason.NO_SESSION: 404,
    Reason.NO_CAMERA: 404,
    Reason.BAD_STATE: 409,
    Reason.ETAG_MISMATCH: 412,
    Reason.ETAG_MISSING: 428,
    Reason.TOO_LARGE: 413,
    Reason.NO_CODEC: 422,
    Reason.FULL: 503,
}

T = TypeVar("T", bound=msgspec.Struct)
Handler = Callable[[Request], Awaitable[Response]]


class OfferBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of both POSTs. `bearer`: whether the client showed an Authorization header."""

    sdp: str
    identity: str
    bearer: bool = True


class PatchBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of PATCH."""

    sdpfrag: str
    if_match: str | None = None


class CameraBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of PUT camera; null: back to program."""

    camera: str | None


class ProgramBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of PUT program; null: automatic. `at`: when it was said, Unix ms (null: now)."""

    camera: str | None
    at: int | None = None


class LayerBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of PUT layer, in pixels; null: automatic."""

    max_height: int | None


Prepare = Callable[[str, str | None], Awaitable[None]]


async def _nothing_to_prepare(room: str, camera: str | None) -> None:
    """A worker alone has all its cameras."""


class LayersBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of PUT layers, on a pull: the simulcast layers that somebody needs."""

    rids: list[str]


def create_control_app(
    relay: Relay, secret: str, prepare: Prepare = _nothing_to_prepare
) -> Starlette:
    """The ASGI application of one worker.

    `prepare(room, camera or None)` is awaited before a viewer is let in: time to agree with
    another worker on a camera that has to be pulled.
    """
    api = _ControlApi(relay, secret, prepare)
    return Starlette(
        routes=[
            Route("/v1/whip/{room}/{camera}", api.guard(api.whip), methods=["POST"]),
            Route("/v1/whep/{room}", api.guard(api.whep), methods=["POST"]),
            Route("/v1/whep/{room}/{camera}", api.guard(api.whep), methods=["POST"]),
            Route("/v1/pull/{room}/{camera}", api.guard(api.pull), methods=["POST"]),
            Route("/v1/sessions/{session}", api.guard(api.patch), methods=["PATCH"]),
            Route("/v1/sessions/{session}", api.guard(api.delete), methods=["DELETE"]),
            Route("/v1/sessions/{session}", api.guard(api.describe), methods=["GET"]),
            Route("/v1/sessions/{session}/camera", api.guard(api.camera), methods=["PUT"]),
            Route("/v1/sessions/{session}/layer", api.guard(api.layer), methods=["PUT"]),
            Route("/v1/sessions/{session}/layers", api.guard(api.layers), methods=["PUT"]),
            Route("/v1/rooms/{room}/program", api.guard(api.program), methods=["PUT"]),
            Route("/v1/stats", api.guard(api.stats), methods=["GET"]),
            Route("/v1/events", api.guard(api.events), methods=["GET"]),
        ]
    )


class _ControlApi:
    def __init__(self, relay: Relay, secret: str, prepare: Prepare) -> None:
        self._relay = relay
        self._prepare = prepare
        self._authorization = f"Bearer {secret}".encode()

    def guard(self, handler: Handler) -> Handler:
        """Check the secret, and turn refusals into their answers."""

        async def guarded(request: Request) -> Response:
            given = request.headers.get("authorization", "").encode()
            if not hmac.compare_digest(given, self._authorization):
                return _error(Refused(Reason.BAD_TOKEN, "not the control secret"))
            try:
                return await handler(request)
            except Refused as refused:
                return _error(refused)
            except Exception:
                logger.exception("control.fault path=%s", request.url.path)
                return _error(Refused(Reason.INTERNAL, ""))

        return guarded

    async def whip(self, request: Request) -> Response:
        body = await _read(request, OfferBody)
        opened = self._relay.publish(
            request.path_params["room"],
            request.path_params["camera"],
            body.sdp,
            body.identity,
            bearer=body.bearer,
        )
        return _json({"session": opened.session, "sdp": opened.sdp, "etag": opened.etag}, 201)

    async def whep(self, request: Request) -> Response:
        body = await _read(request, OfferBody)
        room, camera = request.path_params["room"], request.path_params.get("camera")
        await self._prepare(room, camera)
        opened = self._relay.watch(
            room,
            camera,
            body.sdp,
            body.identity,
            bearer=body.bearer,
        )
        return _json({"session": opened.session, "sdp": opened.sdp, "etag": opened.etag}, 201)

    async def pull(self, request: Request) -> Response:
        offer = await _read(request, PullOffer)
        room, camera = request.path_params["room"], request.path_params["camera"]
        return _json(self._relay.feed(room, camera, offer), 201)

    async def patch(self, request: Request) -> Response:
        body = await _read(request, PatchBody)
        restarted = self._relay.patch(*_where(request), body.sdpfrag, body.if_match)
        if restarted is None:
            return Response(status_code=204)
        return _json({"sdpfrag": restarted.sdpfrag, "etag": restarted.etag})

    async def delete(self, request: Request) -> Response:
        self._relay.delete(*_where(request))
        return Response(status_code=200)

    async def describe(self, request: Request) -> Response:
        return _json(self._relay.describe(*_where(request)))

    async def camera(self, request: Request) -> Response:
        body = await _read(request, CameraBody)
        self._relay.set_camera(*_where(request), body.camera)
        return Response(status_code=204)

    async def layer(self, request: Request) -> Response:
        body = await _read(request, LayerBody)
        if body.max_height is not None and not 1 <= body.max_height <= MAX_HEIGHT_PX:
            raise Refused(Reason.BAD_REQUEST, f"max_height is 1 to {MAX_HEIGHT_PX} or null")
        self._relay.set_layer(*_where(request), body.max_height)
        return Response(status_code=204)

    async def layers(self, request: Request) -> Response:
        body = await _read(request, LayersBody)
        self._relay.set_feed_layers(*_where(request), body.rids)
        return Response(status_code=204)

    async def program(self, request: Request) -> Response:
        body = await _read(request, ProgramBody)
        self._relay.set_program(request.path_params["room"], body.camera, body.at)
        return Response(status_code=204)

    async def stats(self, request: Request) -> Response:
        # With thousands of sessions the whole takes milliseconds that packets wait for.
        worker_only = request.query_params.get("only") == "worker"
        return _json(self._relay.stats(worker_only=worker_only))

    async def events(self, request: Request) -> Response:
        return StreamingResponse(
            self._lines(self._relay.listen()), media_type="application/x-ndjson"
        )

    async def _lines(self, stream: EventStream) -> AsyncIterator[bytes]:
        try:
            async for event in stream.read():
                yield msgspec.json.encode(event) + b"\n"
        finally:
            self._relay.events.leave(stream)


def _where(request: Request) -> tuple[str, str]:
    """(room, session) that a session verb names."""
    return request.query_params.get("room", ""), request.path_params["session"]


async def _read(request: Request, kind: type[T]) -> T:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Refused(Reason.TOO_LARGE, f"a body has at most {MAX_BODY_BYTES} bytes")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise Refused(Reason.BAD_REQUEST, str(error)) from None


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _error(refused: Refused) -> Response:
    detail = dict(refused.detail)
    retry_after = detail.pop("retry_after_s", None)
    status = STATUS.get(refused.reason, 500)
    response = _json(
        {"status": status, "reason": refused.reason.value, "detail": str(refused), **detail},
        status,
    )
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response
