"""The one table from what went wrong to what the peer is told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from interact.engine import EngineUnavailable
from interact.protocol import Reason, Refused
from server.auth import AccessDenied
from server.errors import (
    STATUS,
    TITLES,
    MediaRefused,
    RequestError,
    Unavailable,
    answer_for,
    problem,
)


def told(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    _, response = answer_for(error)
    body = msgspec.json.decode(bytes(response.body), type=dict[str, Any])
    return response.status_code, body, dict(response.headers)


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_status_title_and_problem(reason: Reason) -> None:
    assert reason in STATUS and reason in TITLES
    body = msgspec.json.decode(bytes(problem(reason).body), type=dict[str, Any])
    assert body["reason"] == reason.value
    assert body["status"] == STATUS[reason]


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (AccessDenied(Reason.NO_TOKEN), 401, "no_token"),
        (AccessDenied(Reason.WRONG_ROOM), 403, "wrong_room"),
        (RequestError(Reason.BAD_SDP, "no m-line"), 400, "bad_sdp"),
        (Refused(Reason.NO_LOT), 404, "no_lot"),
        (MediaRefused(Reason.NOT_LIVE, retry_after_s=2), 404, "not_live"),
        (MediaRefused(Reason.FULL, retry_after_s=10), 503, "full"),
        (EngineUnavailable("disk full at /srv/secret"), 503, "busy"),
        (Unavailable("media worker 0"), 503, "unavailable"),
        (KeyError("our own mistake"), 500, "internal"),
    ],
)
def test_error_becomes_its_answer(error: Exception, status: int, reason: str) -> None:
    assert told(error)[0] == status
    assert told(error)[1]["reason"] == reason


def test_401_challenges_and_says_when_a_token_expired() -> None:
    headers = told(AccessDenied(Reason.EXPIRED_TOKEN))[2]
    assert 'error="invalid_token"' in headers["www-authenticate"]
    assert "error" not in told(AccessDenied(Reason.NO_TOKEN))[2]["www-authenticate"]


def test_retry_after_is_one_for_not_live_and_the_workers_for_full() -> None:
    assert told(MediaRefused(Reason.NOT_LIVE, retry_after_s=2))[2]["retry-after"] == "1"
    assert told(MediaRefused(Reason.FULL, retry_after_s=10))[2]["retry-after"] == "10"
    limited = Refused(Reason.RATE_LIMITED, retry_after_ms=1200)
    assert told(limited)[2]["retry-after"] == "2"


def test_refusal_carries_its_detail_but_cannot_overwrite_the_form() -> None:
    body = told(Refused(Reason.TOO_LOW, minimum=1100, status="x", title="y"))[1]
    assert (body["minimum"], body["status"], body["reason"]) == (1100, 409, "too_low")
    assert body["title"] == TITLES[Reason.TOO_LOW]


def test_our_own_mistakes_and_paths_are_never_told() -> None:
    for error in (KeyError("secret value"), EngineUnavailable("disk full at /srv/secret")):
        assert "secret" not in str(told(error)[1])


def test_long_detail_is_cut() -> None:
    assert len(told(RequestError(Reason.BAD_SDP, "x" * 5000))[1]["detail"]) == 300
