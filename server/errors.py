"""The one map from what went wrong to what the peer is told.

    RequestError   the request itself is wrong          400 404 405 413 415
    AccessDenied   no token, a bad one, a missing right  401 403
    Refused        a legal wish turned down by the rules 4xx by its reason
    MediaRefused   the same, said by a media worker
    Unavailable    a part of the server is away          503 with Retry-After
    anything else  our mistake: logged with traceback, told as `internal`, no detail

Every answer is RFC 9457 problem JSON with a `reason` word and is counted by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from interact.engine import EngineUnavailable
from interact.protocol import Reason, Refused
from server.auth import AccessDenied
from server.logs import log

PROBLEM_JSON: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1

STATUS: Final[dict[Reason, HTTPStatus]] = {
    Reason.NOT_OPEN: HTTPStatus.CONFLICT,
    Reason.TOO_LOW: HTTPStatus.CONFLICT,
    Reason.OWN_LEAD: HTTPStatus.CONFLICT,
    Reason.OWN_LOT: HTTPStatus.FORBIDDEN,
    Reason.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    Reason.BAD_KEY: HTTPStatus.CONFLICT,
    Reason.NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    Reason.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.NO_LOT: HTTPStatus.NOT_FOUND,
    Reason.BAD_STATE: HTTPStatus.CONFLICT,
    Reason.BAD_REQUEST: HTTPStatus.BAD_REQUEST,
    Reason.BAD_SDP: HTTPStatus.BAD_REQUEST,
    Reason.BAD_NAME: HTTPStatus.BAD_REQUEST,
    Reason.NO_CODEC: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Reason.UNSUPPORTED_MEDIA_TYPE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Reason.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    Reason.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Reason.UNKNOWN_METHOD: HTTPStatus.NOT_FOUND,
    Reason.NO_TOKEN: HTTPStatus.UNAUTHORIZED,
    Reason.BAD_TOKEN: HTTPStatus.UNAUTHORIZED,
    Reason.EXPIRED_TOKEN: HTTPStatus.UNAUTHORIZED,
    Reason.WRONG_ROOM: HTTPStatus.FORBIDDEN,
    Reason.NOT_LIVE: HTTPStatus.NOT_FOUND,
    Reason.NO_SESSION: HTTPStatus.NOT_FOUND,
    Reason.NO_CAMERA: HTTPStatus.NOT_FOUND,
    Reason.ETAG_MISMATCH: HTTPStatus.PRECONDITION_FAILED,
    Reason.ETAG_MISSING: HTTPStatus.PRECONDITION_REQUIRED,
    Reason.FULL: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}

TITLES: Final[dict[Reason, str]] = {
    Reason.NOT_OPEN: "The lot is not open",
    Reason.TOO_LOW: "The bid is too low",
    Reason.OWN_LEAD: "You lead already",
    Reason.OWN_LOT: "This is your own lot",
    Reason.RATE_LIMITED: "Too many requests",
    Reason.BAD_KEY: "The key was used for another request",
    Reason.NOT_ALLOWED: "This token may not do that",
    Reason.BUSY: "Busy, try again",
    Reason.NO_LOT: "No such lot",
    Reason.BAD_STATE: "Not possible in this state",
    Reason.BAD_REQUEST: "The request cannot be understood",
    Reason.BAD_SDP: "The session description cannot be used",
    Reason.BAD_NAME: "Not a usable name",
    Reason.NO_CODEC: "No codec in common",
    Reason.TOO_LARGE: "The request is too large",
    Reason.UNSUPPORTED_MEDIA_TYPE: "Unsupported media type",
    Reason.METHOD_NOT_ALLOWED: "Method not allowed",
    Reason.NOT_FOUND: "Not found",
    Reason.UNKNOWN_METHOD: "No such method",
    Reason.NO_TOKEN: "A token is needed",
    Reason.BAD_TOKEN: "The token is not valid",
    Reason.EXPIRED_TOKEN: "The token has expired",
    Reason.WRONG_ROOM: "The token is for another room",
    Reason.NOT_LIVE: "Nobody is live",
    Reason.NO_SESSION: "No such session",
    Reason.NO_CAMERA: "No such camera",
    Reason.ETAG_MISMATCH: "The session has changed",
    Reason.ETAG_MISSING: "If-Match is needed",
    Reason.FULL: "The server is full",
    Reason.UNAVAILABLE: "Unavailable, try again",
    Reason.INTERNAL: "Something went wrong here",
}

ADVICE: Final[dict[Reason, str]] = {
    Reason.NOT_OPEN: "Bids count from lot.opened until the lot's ends_at.",
    Reason.TOO_LOW: "Bid at least the minimum.",
    Reason.OWN_LEAD: "Raise your own maximum with bid.max, or wait until you are outbid.",
    Reason.OWN_LOT: "Nobody bids on a lot of their own.",
    Reason.RATE_LIMITED: "Send fewer requests and try again in a moment.",
    Reason.BAD_KEY: "Use a new key for a new request, 1 to 128 characters.",
    Reason.NOT_ALLOWED: "Ask the host for a token whose role may do this.",
    Reason.BUSY: "Nothing was changed; send the same request again.",
    Reason.NO_LOT: "The room has no lot of that id.",
    Reason.BAD_STATE: "What is asked for does not fit the present state.",
    Reason.BAD_REQUEST: "Compare the request with the protocol page.",
    Reason.BAD_SDP: "Send a WebRTC offer with BUNDLE, rtcp-mux and a DTLS fingerprint.",
    Reason.BAD_NAME: "Names are 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or digit.",
    Reason.NO_CODEC: "Offer H264, VP8, VP9 or AV1 for the picture and opus for the sound.",
    Reason.TOO_LARGE: "Send a shorter body.",
    Reason.UNSUPPORTED_MEDIA_TYPE: "Set the Content-Type that the operation asks for.",
    Reason.METHOD_NOT_ALLOWED: "The Allow header lists what works here.",
    Reason.NOT_FOUND: "There is nothing at this address.",
    Reason.UNKNOWN_METHOD: "There is no method of that name.",
    Reason.NO_TOKEN: "Send Authorization: Bearer TOKEN.",
    Reason.BAD_TOKEN: "The token is damaged or from another server; ask for a new one.",
    Reason.EXPIRED_TOKEN: "Ask for a new token.",
    Reason.WRONG_ROOM: "Use a token that was issued for this room.",
    Reason.NOT_LIVE: "Nobody publishes here at the moment; try again after Retry-After seconds.",
    Reason.NO_SESSION: "The session has ended or never was; start a new one.",
    Reason.NO_CAMERA: "The room has had no camera of that name.",
    Reason.ETAG_MISMATCH: "The session's ICE was restarted since; use its newest ETag.",
    Reason.ETAG_MISSING: "Send If-Match with the session's newest ETag, or * to restart ICE.",
    Reason.FULL: "A limit of this server is reached; try again later.",
    Reason.UNAVAILABLE: "A part of the server is away; try again in a moment.",
    Reason.INTERNAL: "The mistake is ours and was logged.",
}
"""What to do about each reason, where the place that refused says nothing closer."""

_RETRY: Final = frozenset(
    {Reason.NOT_LIVE, Reason.BUSY, Reason.FULL, Reason.UNAVAILABLE, Reason.RATE_LIMITED}
)
_CHALLENGE: Final = {
    Reason.NO_TOKEN: 'Bearer realm="livehouse"',
    Reason.BAD_TOKEN: 'Bearer realm="livehouse", error="invalid_token"',
    Reason.EXPIRED_TOKEN: (
        'Bearer realm="livehouse", error="invalid_token", error_description="expired"'
    ),
}
_REASON_OF_STATUS: Final = {
    400: Reason.BAD_REQUEST,
    404: Reason.NOT_FOUND,
    405: Reason.METHOD_NOT_ALLOWED,
    413: Reason.TOO_LARGE,
    415: Reason.UNSUPPORTED_MEDIA_TYPE,
}
_MAX_DETAIL: Final = 300


class RequestError(Exception):
    """The peer's request is wrong in a way that another one can put right."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail or reason.value)
        self.reason = reason
        self.detail = detail


class MediaRefused(Exception):
    """A media worker turned the request down."""

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        retry_after_s: int | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail or reason.value)
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.extra = extra
        """Further members of the answer, for instance the codecs that would work."""


class Unavailable(Exception):
    """A part of the server is away for the moment."""

    def __init__(self, part: str, retry_after_s: int = RETRY_AFTER_S) -> None:
        super().__init__(f"{part} is away for the moment")
        self.retry_after_s = retry_after_s


def problem(
    reason: Reason,
    detail: str = "",
    *,
    retry_after_s: int | None = None,
    extra: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem JSON answer. `detail` is shown to the peer: never pass an internal text."""
    status = STATUS[reason]
    body: dict[str, object] = {
        **(extra or {}),
        "type": "about:blank",
        "title": TITLES[reason],
        "status": status.value,
        "detail": (ADVICE[reason] if detail in ("", reason.value) else detail)[:_MAX_DETAIL],
        "reason": reason.value,
    }
    all_headers = {"Cache-Control": "no-store", **(headers or {})}
    if reason in _CHALLENGE:
        all_headers["WWW-Authenticate"] = _CHALLENGE[reason]
    if reason in _RETRY or retry_after_s is not None:
        all_headers["Retry-After"] = str(
            RETRY_AFTER_S if retry_after_s is None else max(0, retry_after_s)
        )
    return Response(
        msgspec.json.encode(body), status.value, headers=all_headers, media_type=PROBLEM_JSON
    )


def answer_for(error: Exception) -> tuple[Reason, Response]:
    """What to tell the peer about `error`; anything unknown is INTERNAL and logged."""
    match error:
        case AccessDenied():
            return error.reason, problem(error.reason)
        case RequestError():
            return error.reason, problem(error.reason, error.detail)
        case MediaRefused():
            # A camera may come at any moment, so players ask every second whatever the
            # worker would like; a full worker knows better when to come back.
            wait_s = None if error.reason is Reason.NOT_LIVE else error.retry_after_s
            response = problem(error.reason, error.detail, retry_after_s=wait_s, extra=error.extra)
            return error.reason, response
        case Refused():
            response = problem(
                error.reason,
                str(error),
                retry_after_s=_retry_after(error.detail.get("retry_after_ms")),
                extra=error.detail,
            )
            return error.reason, response
        case EngineUnavailable():
            return Reason.BUSY, problem(Reason.BUSY, "nothing was changed")
        case Unavailable():
            response = problem(Reason.UNAVAILABLE, str(error), retry_after_s=error.retry_after_s)
            return Reason.UNAVAILABLE, response
        case RequestValidationError():
            return Reason.BAD_REQUEST, problem(Reason.BAD_REQUEST, _what_is_invalid(error))
        case HTTPException():
            reason = _REASON_OF_STATUS.get(error.status_code, Reason.BAD_REQUEST)
            return reason, problem(reason, headers=dict(error.headers or {}))
        case _:
            log("http.failed", level="error", error=type(error).__name__)
            return Reason.INTERNAL, problem(Reason.INTERNAL)


def _retry_after(milliseconds: object) -> int | None:
    return math.ceil(milliseconds / 1000) if isinstance(milliseconds, int | float) else None


def _what_is_invalid(error: RequestValidationError) -> str:
    """Where and what, of the first fault; the value itself is never repeated."""
    for fault in error.errors():
        place = ".".join(str(part) for part in fault.get("loc", ()) if part != "body")
        message = str(fault.get("msg", "not valid"))
        return f"{place}: {message}" if place else message
    return "not valid"


def install(app: FastAPI, count: Callable[[Reason], None]) -> None:
    """Answer every exception of the app as above; `count` is called with each reason."""

    async def handle(_request: Request, error: Exception) -> Response:
        reason, response = answer_for(error)
        count(reason)
        return response

    for kind in (
        AccessDenied,
        RequestError,
        MediaRefused,
        Refused,
        EngineUnavailable,
        Unavailable,
        RequestValidationError,
        HTTPException,
        Exception,
    ):
        app.add_exception_handler(kind, handle)
