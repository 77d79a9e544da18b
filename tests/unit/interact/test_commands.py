"""Centrifugo's JSON: what is taken and what is given."""

from __future__ import annotations

import json

import pytest

from interact import commands
from interact.engine import Position, Publication
from interact.protocol import REFUSAL_CODES, BusError, Reason, Refused
from interact.recovery import Joined


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"[]",
        b"1",
        b'{"id":"1"}',
        b'{"id":-1}',
        b'{"id":4294967296}',
        b'{"id":1.5,"ping":{}}',
        b'{"id":1,"rpc":[]}',
        b'{"id":1,"subscribe":{"channel":5}}',
        b'{"id":1,"subscribe":{"channel":"room:r","offset":-1}}',
        b'{"id":1,"subscribe":{"channel":"room:r","offset":99999999999999999999}}',
        b'{"id":1,"connect":{"subs":{"room:r":null}}}',
        b'{"id":1,"rpc":{"method":"a","data":}}',
        b'{"id":1,"rpc":{"method":"a","data":{"x":"\xff"}}}',
        b'{"id":1,"rpc":{"method":"\xc3"}}',
        b'{"id":1}{"id":2}',
        b"[" * 100_000,
        b'{"id":1,"rpc":{"method":"m","data":' + b"[" * 60_000,
        b'{"a":' * 60_000,
    ],
)
def test_malformed_line_is_a_bad_command(line: bytes) -> None:
    with pytest.raises(commands.BadCommand):
        commands.decode_command(line)


def test_unknown_members_are_ignored_and_payloads_stay_raw() -> None:
    line = '{"id":3,"new":1,"rpc":{"method":"m","data": {"ü" : [1,2]},"later":{}}}'.encode()
    command = commands.decode_command(line)
    request = command.request()
    assert isinstance(request, commands.Rpc)
    assert bytes(request.data) == '{"ü" : [1,2]}'.encode()


def test_every_request_is_recognised() -> None:
    for word, kind in [
        ("connect", commands.Connect),
        ("subscribe", commands.Subscribe),
        ("unsubscribe", commands.Unsubscribe),
        ("publish", commands.Publish),
        ("presence", commands.Presence),
        ("presence_stats", commands.PresenceStats),
        ("history", commands.History),
        ("ping", commands.Ping),
        ("send", commands.Send),
        ("rpc", commands.Rpc),
        ("refresh", commands.Refresh),
        ("sub_refresh", commands.SubRefresh),
    ]:
        command = commands.decode_command(b'{"id":1,"%b":{}}' % word.encode())
        assert isinstance(command.request(), kind), word
    assert commands.decode_command(b"{}").request() is None


def test_refusal_carries_code_word_and_details_flat() -> None:
    answer = json.loads(commands.refusal_reply(5, Refused(Reason.TOO_LOW, minimum=1_100)))
    assert answer == {
        "id": 5,
        "error": {"minimum": 1_100, "code": 1001, "message": "too_low", "temporary": False},
    }


def test_details_cannot_forge_the_code() -> None:
    refused = Refused(Reason.BUSY, code=0, temporary=False, retry_after_ms=5)
    assert json.loads(commands.refusal_reply(1, refused))["error"] == {
        "code": REFUSAL_CODES[Reason.BUSY],
        "message": "busy",
        "temporary": True,
        "retry_after_ms": 5,
    }


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_an_error(reason: Reason) -> None:
    error = json.loads(commands.refusal_reply(1, Refused(reason)))["error"]
    assert error["code"] >= 100
    if reason not in (Reason.UNKNOWN_METHOD, Reason.INTERNAL):
        assert error["message"] == reason.value


@pytest.mark.parametrize("error", list(BusError))
def test_every_bus_error_has_its_words(error: BusError) -> None:
    body = json.loads(commands.error_reply(1, error))["error"]
    assert body["code"] == error
    assert body["message"]


def test_subscription_says_what_was_recovered() -> None:
    missed = (Publication("room:r", 5, b'{"n":5}'),)
    joined = Joined(
        epoch='e"1',
        offset=4,
        recovered=True,
        was_recovering=True,
        publications=missed,
        follow=(),
        top=5,
    )
    assert json.loads(commands.subscription(joined)) == {
        "recoverable": True,
        "positioned": True,
        "epoch": 'e"1',
        "offset": 4,
        "was_recovering": True,
        "recovered": True,
        "publications": [{"data": {"n": 5}, "offset": 5}],
    }


def test_pushes_and_results_are_json() -> None:
    assert json.loads(commands.publication_push("room:ü", b"{}", 3)) == {
        "push": {"channel": "room:ü", "pub": {"data": {}, "offset": 3}}
    }
    assert json.loads(commands.unsubscribe_push("room:r", 2500, "insufficient state")) == {
        "push": {
            "channel": "room:r",
            "unsubscribe": {"code": 2500, "reason": "insufficient state"},
        }
    }
    assert json.loads(commands.join_push("room:r", b'{"client":"c"}')) == {
        "push": {"channel": "room:r", "join": {"info": {"client": "c"}}}
    }
    assert json.loads(commands.history_result(Position("e", 2), ())) == {
        "publications": [],
        "epoch": "e",
        "offset": 2,
    }
    assert json.loads(commands.connect_result({"client": "c"}, {"room:r": b"{}"})) == {
        "client": "c",
        "subs": {"room:r": {}},
    }
