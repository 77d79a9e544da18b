"""The connection's core: frames in, effects out, no sockets and no clock."""

from __future__ import annotations

import json
from typing import Any

import pytest

from interact.connection import CLOSE_REASONS, Connection, Limits, Phase
from interact.effects import (
    Abort,
    Access,
    Authenticate,
    CallRpc,
    Close,
    Count,
    Effect,
    Enter,
    Join,
    Leave,
    ReadHistory,
    ReadPresence,
    Transmit,
)
from interact.engine import HistoryPage, Position, Publication
from interact.protocol import Disconnect, Reason, Refused, Role
from interact.recovery import merge
from interact.rooms import Caller

UNIX = 1_700_000_000.0
ROOM_CHANNEL = "room:shop"


def line(**members: object) -> bytes:
    return json.dumps(members).encode()


def answers(effects: list[Effect]) -> list[dict[str, Any]]:
    return [json.loads(e.message) for e in effects if isinstance(e, Transmit)]


def only(effects: list[Effect], kind: type) -> Any:
    (found,) = [effect for effect in effects if isinstance(effect, kind)]
    return found


def fresh(now: float = 0.0, **limits: Any) -> Connection:
    return Connection("c1", now, limits=Limits(**limits))


def access(role: Role = Role.VIEWER, room: str = "shop", ttl_s: float = 600) -> Access:
    return Access(Caller(room, "ann", role, "Ann"), UNIX + ttl_s)


def complete(core: Connection, join: Join, now: float = 0.0) -> list[Effect]:
    """Answer a Join from empty history."""
    page = HistoryPage(Position("e", 0), (), True)
    joined = {}
    for channel, since in join.channels:
        result = merge(since, page, [])
        assert result is not None
        joined[channel] = result
    return core.joined(join, joined, now, UNIX, "node")


def opened(role: Role = Role.VIEWER, now: float = 0.0, **limits: Any) -> Connection:
    core = fresh(now, **limits)
    core.receive(line(id=1, connect={"token": "t"}), now)
    join = only(core.admit(1, access(role), now, UNIX), Join)
    complete(core, join, now)
    assert core.phase is Phase.OPEN
    return core


def test_connect_asks_for_the_token_then_joins_then_answers() -> None:
    core = fresh()
    assert core.receive(line(id=9, connect={"token": "t"}), 0) == [Authenticate(9, "t", False)]
    join = only(core.admit(9, access(), 0, UNIX), Join)
    assert join.channels == ((ROOM_CHANNEL, None), ("user:shop:ann", None))
    effects = complete(core, join)
    assert [type(effect) for effect in effects] == [Transmit, Enter, Enter]
    (answer,) = answers(effects)
    assert answer["id"] == 9
    assert answer["connect"]["client"] == "c1"
    assert answer["connect"]["ttl"] == 600
    assert answer["connect"]["time"] == int(UNIX * 1000)


def test_connect_recovers_only_from_channels_that_are_its_own() -> None:
    core = fresh()
    subs = {
        ROOM_CHANNEL: {"recover": True, "epoch": "e", "offset": 4},
        "user:shop:bob": {"recover": True, "epoch": "e", "offset": 0},
        "user:shop:ann": {"epoch": "e", "offset": 3},
    }
    core.receive(line(id=1, connect={"token": "t", "subs": subs}), 0)
    join = only(core.admit(1, access(), 0, UNIX), Join)
    assert join.channels == ((ROOM_CHANNEL, Position("e", 4)), ("user:shop:ann", None))


def test_upgrade_token_serves_when_the_command_has_none() -> None:
    core = Connection("c1", 0, upgrade_token="from-url")
    assert core.receive(line(id=1, connect={}), 0) == [Authenticate(1, "from-url", False)]


def test_commands_in_the_connect_frame_wait_for_its_reply() -> None:
    core = fresh()
    frame = line(id=1, connect={"token": "t"}) + b"\n" + line(id=2, rpc={"method": "m"})
    assert core.receive(frame, 0) == [Authenticate(1, "t", False)]
    effects = complete(core, only(core.admit(1, access(), 0, UNIX), Join))
    assert answers(effects)[0]["id"] == 1
    assert isinstance(effects[-1], CallRpc)


def test_too_many_waiting_commands_close() -> None:
    core = fresh(max_waiting=2)
    frame = b"\n".join(
        [line(id=1, connect={"token": "t"}), *(line(id=n, ping={}) for n in range(2, 5))]
    )
    assert only(core.receive(frame, 0), Close).code == Disconnect.TOO_MANY_REQUESTS


@pytest.mark.parametrize(
    ("frame", "word"),
    [
        (line(id=1, rpc={"method": "m"}), "out_of_order"),
        (line(id=1, subscribe={"channel": ROOM_CHANNEL}), "out_of_order"),
        (line(connect={"token": "t"}), "out_of_order"),
        (b"nonsense", "malformed"),
    ],
)
def test_first_command_must_be_a_connect_with_an_id(frame: bytes, word: str) -> None:
    core = fresh()
    assert core.receive(frame, 0) == [Count(word), Close(3501, "bad request")]
    assert core.receive(frame, 0) == []


def test_second_connect_closes() -> None:
    assert Close(3501, "bad request") in opened().receive(line(id=2, connect={}), 0)


@pytest.mark.parametrize(
    ("reason", "close", "error"),
    [
        (Reason.NO_TOKEN, 3500, None),
        (Reason.BAD_TOKEN, 3500, None),
        (Reason.WRONG_ROOM, 3500, None),
        (Reason.EXPIRED_TOKEN, None, 109),
        (Reason.UNAVAILABLE, None, 100),
    ],
)
def test_refused_token(reason: Reason, close: int | None, error: int | None) -> None:
    core = fresh()
    core.receive(line(id=1, connect={"token": "t"}), 0)
    effects = core.turn_away(1, Refused(reason), 0)
    assert [e.code for e in effects if isinstance(e, Close)] == ([close] if close else [])
    assert [a["error"]["code"] for a in answers(effects)] == ([error] if error else [])
    assert core.phase is (Phase.CLOSED if close else Phase.NEW)
    if error:
        assert core.receive(line(id=2, connect={"token": "u"}), 0) == [Authenticate(2, "u", False)]


def test_commands_sent_along_with_a_failed_connect_are_answered() -> None:
    core = fresh()
    frame = b"\n".join(
        [line(id=1, connect={"token": "t"}), line(id=2, ping={}), line(send={"data": 1})]
    )
    core.receive(frame, 0)
    effects = core.turn_away(1, Refused(Reason.EXPIRED_TOKEN), 0)
    assert [(a["id"], a["error"]["code"]) for a in answers(effects)] == [(1, 109), (2, 101)]


def test_refused_tokens_do_not_keep_a_connection_open_for_ever() -> None:
    core = fresh()
    for now in range(0, 59, 4):
        core.receive(line(id=1, connect={"token": "t"}), now)
        core.turn_away(1, Refused(Reason.EXPIRED_TOKEN), now)
    assert core.next_deadline() == 60.0
    assert core.handle_timer(60.0) == [Close(3502, "stale")]


def test_without_connect_it_is_stale_and_cut_when_it_does_not_answer() -> None:
    core = fresh(now=10.0)
    assert core.handle_timer(14.9) == []
    assert core.next_deadline() == 15.0
    assert core.handle_timer(15.0) == [Close(3502, "stale")]
    assert core.next_deadline() == 20.0
    assert core.handle_timer(20.0) == [Abort()]
    assert core.next_deadline() == float("inf")


def test_join_that_never_ends_closes_with_server_error() -> None:
    core = fresh()
    core.receive(line(id=1, connect={"token": "t"}), 0)
    assert core.handle_timer(15.0) == [Close(3004, "internal server error")]


def test_ping_pong_and_no_pong() -> None:
    core = opened()
    assert core.handle_timer(25.0) == [Transmit(b"{}")]
    assert core.next_deadline() == 35.0
    assert core.receive(b"{}", 26.0) == []
    assert core.next_deadline() == 50.0
    assert core.handle_timer(50.0) == [Transmit(b"{}")]
    assert core.handle_timer(60.0) == [Close(3012, "no pong")]


def test_token_expires_after_the_grace_unless_refreshed() -> None:
    core = fresh(ping_interval_s=1e9, join_timeout_s=1e9)
    core.receive(line(id=1, connect={"token": "t"}), 0)
    complete(core, only(core.admit(1, access(ttl_s=60), 0, UNIX), Join))
    assert core.next_deadline() == 70.0
    assert core.receive(line(id=2, refresh={"token": "u"}), 60) == [Authenticate(2, "u", True)]
    (answer,) = answers(core.admit_refresh(2, access(ttl_s=160), 60, UNIX + 60))
    assert answer["refresh"] == {
        "client": "c1",
        "version": "livehouse",
        "expires": True,
        "ttl": 100,
    }
    assert core.next_deadline() == 170.0
    assert core.handle_timer(170.0) == [Close(3005, "connection expired")]


@pytest.mark.parametrize(
    "other",
    [
        Caller("shop", "bob", Role.VIEWER),
        Caller("mall", "ann", Role.VIEWER),
        Caller("shop", "ann", Role.HOST),
    ],
)
def test_refresh_to_somebody_else_closes(other: Caller) -> None:
    effects = opened().admit_refresh(2, Access(other, UNIX + 60), 0, UNIX)
    assert only(effects, Close).code == 3500


@pytest.mark.parametrize(
    ("reason", "code"), [(Reason.EXPIRED_TOKEN, 3005), (Reason.BAD_TOKEN, 3500)]
)
def test_refresh_with_a_refused_token_closes(reason: Reason, code: int) -> None:
    assert only(opened().refuse_refresh(2, Refused(reason), 0), Close).code == code


def test_subscribe_waits_for_history_and_answers_once() -> None:
    core = opened(Role.MODERATOR)
    (join,) = core.receive(line(id=2, subscribe={"channel": "screen:shop"}), 0)
    assert join == Join(2, (("screen:shop", None),))
    again = answers(core.receive(line(id=3, subscribe={"channel": "screen:shop"}), 0))
    assert again[0]["error"]["code"] == 105
    assert isinstance(join, Join)
    effects = complete(core, join)
    assert answers(effects) == [
        {
            "id": 2,
            "subscribe": {"recoverable": True, "positioned": True, "epoch": "e", "offset": 0},
        }
    ]
    assert complete(core, join) == []


def test_unsubscribe_while_joining_answers_both_and_a_new_subscribe_has_its_own_answer() -> None:
    core = opened(Role.MODERATOR)
    (first,) = core.receive(line(id=2, subscribe={"channel": "screen:shop"}), 0)
    effects = core.receive(line(id=3, unsubscribe={"channel": "screen:shop"}), 0)
    assert Leave("screen:shop") in effects
    assert [(a["id"], "error" in a) for a in answers(effects)] == [(2, True), (3, False)]
    (second,) = core.receive(line(id=4, subscribe={"channel": "screen:shop"}), 0)
    assert isinstance(first, Join)
    assert isinstance(second, Join)
    assert complete(core, first) == []
    assert answers(complete(core, second))[0]["id"] == 4


def test_failed_history_is_a_temporary_error_and_may_be_tried_again() -> None:
    core = opened(Role.MODERATOR)
    (join,) = core.receive(line(id=2, subscribe={"channel": "screen:shop"}), 0)
    assert isinstance(join, Join)
    (answer,) = answers(core.join_failed(join, 0))
    assert answer["error"] == {"code": 100, "message": "internal server error", "temporary": True}
    assert core.receive(line(id=3, subscribe={"channel": "screen:shop"}), 0) != []

    core = fresh()
    core.receive(line(id=1, connect={"token": "t"}), 0)
    join = only(core.admit(1, access(), 0, UNIX), Join)
    assert answers(core.join_failed(join, 0))[0]["error"]["temporary"] is True
    assert core.phase is Phase.NEW


def test_lost_position_closes_a_server_side_and_resubscribes_a_client_side_channel() -> None:
    core = opened(Role.MODERATOR)
    (join,) = core.receive(line(id=2, subscribe={"channel": "screen:shop"}), 0)
    assert isinstance(join, Join)
    complete(core, join)
    effects = core.position_lost("screen:shop", 0)
    assert effects[0] == Leave("screen:shop")
    assert answers(effects)[0]["push"]["unsubscribe"]["code"] == 2500
    assert core.position_lost("screen:shop", 0) == []
    assert core.position_lost(ROOM_CHANNEL, 0) == [Close(3010, "insufficient state")]


def test_server_side_subscription_cannot_be_left() -> None:
    (answer,) = answers(opened().receive(line(id=2, unsubscribe={"channel": ROOM_CHANNEL}), 0))
    assert answer["error"]["code"] == 103


def test_subscriptions_are_bounded() -> None:
    core = opened(max_subscriptions=3)
    assert answers(core.receive(line(id=2, subscribe={"channel": "tick:shop"}), 0)) == [
        {"id": 2, "subscribe": {}}
    ]
    core = opened(max_subscriptions=2)
    (answer,) = answers(core.receive(line(id=2, subscribe={"channel": "tick:shop"}), 0))
    assert answer["error"]["code"] == 106


def test_rpc_passes_caller_and_raw_data_and_is_bounded() -> None:
    core = opened(max_calls=2)
    (call,) = core.receive(b'{"id":2,"rpc":{"method":"m","data":{ "a":1}}}', 0)
    assert call == CallRpc(2, Caller("shop", "ann", Role.VIEWER, "Ann"), "m", b'{ "a":1}')
    (call,) = core.receive(b'{"id":3,"rpc":{"method":"m"}}', 0)
    assert isinstance(call, CallRpc)
    assert call.params == b"{}"
    (busy,) = answers(core.receive(b'{"id":4,"rpc":{"method":"m"}}', 0))
    assert busy["error"] == {"code": 111, "message": "busy", "temporary": True}
    assert answers(core.rpc_answered(3, b'{"x":1}')) == [{"id": 3, "rpc": {"data": {"x": 1}}}]
    assert isinstance(core.receive(b'{"id":5,"rpc":{"method":"m"}}', 0)[0], CallRpc)
    assert answers(core.rpc_failed(2))[0]["error"]["code"] == 100
    assert answers(core.rpc_refused(5, Refused(Reason.TOO_LOW)))[0]["error"]["code"] == 1001
    (answer,) = answers(core.receive(b'{"id":6,"rpc":{}}', 0))
    assert answer["error"]["code"] == 107


def test_late_outcomes_after_the_end_say_nothing() -> None:
    core = opened()
    core.receive(line(id=2, rpc={"method": "m"}), 0)
    core.lost()
    assert core.rpc_answered(2, b"{}") == []
    assert core.rpc_refused(2, Refused(Reason.BUSY)) == []
    assert core.close(Disconnect.SLOW, 0) == []
    assert core.handle_timer(1e9) == []
    asked = ReadHistory(3, ROOM_CHANNEL, None, 1, False)
    assert core.history_read(asked, HistoryPage(Position("e", 0), (), True)) == []


def test_history_is_bounded_and_says_when_a_position_is_gone() -> None:
    core = opened(max_history=10)
    for limit, expected in [(0, 0), (3, 3), (11, 10), (-1, 10)]:
        command = {"channel": ROOM_CHANNEL, "limit": limit, "reverse": True}
        assert core.receive(line(id=2, history=command), 0) == [
            ReadHistory(2, ROOM_CHANNEL, None, expected, True)
        ]
    asked = ReadHistory(2, ROOM_CHANNEL, Position("old", 1), 5, False)
    (gone,) = answers(core.history_read(asked, HistoryPage(Position("e", 9), (), False)))
    assert gone["error"]["code"] == 112
    page = HistoryPage(Position("e", 2), (Publication(ROOM_CHANNEL, 2, b"{}"),), True)
    (answer,) = answers(core.history_read(asked, page))
    assert answer["history"] == {
        "publications": [{"data": {}, "offset": 2}],
        "epoch": "e",
        "offset": 2,
    }


@pytest.mark.parametrize(
    ("role", "command", "code"),
    [
        (Role.VIEWER, {"presence": {"channel": ROOM_CHANNEL}}, 103),
        (Role.VIEWER, {"presence": {"channel": "room:mall"}}, 103),
        (Role.VIEWER, {"presence_stats": {"channel": "user:shop:ann"}}, 108),
        (Role.VIEWER, {"history": {"channel": "tick:shop"}}, 108),
        (Role.VIEWER, {"history": {"channel": "stage:shop"}}, 103),
        (Role.HOST, {"publish": {"channel": ROOM_CHANNEL, "data": {}}}, 103),
        (Role.HOST, {"sub_refresh": {"channel": ROOM_CHANNEL}}, 108),
        (Role.HOST, {"teleport": {}}, 104),
    ],
)
def test_what_is_not_there_or_not_theirs(role: Role, command: dict[str, Any], code: int) -> None:
    (answer,) = answers(opened(role).receive(line(id=2, **command), 0))
    assert answer["error"]["code"] == code


def test_presence_asks_the_shell() -> None:
    core = opened(Role.HOST)
    asked = ReadPresence(2, ROOM_CHANNEL, False)
    assert core.receive(line(id=2, presence={"channel": ROOM_CHANNEL}), 0) == [asked]
    assert answers(core.presence_read(asked, b'{"presence":{}}')) == [
        {"id": 2, "presence": {"presence": {}}}
    ]


def test_send_is_ignored_and_ping_answered() -> None:
    core = opened()
    assert core.receive(line(send={"data": {}}), 0) == []
    assert answers(core.receive(line(id=2, ping={}), 0)) == [{"id": 2, "ping": {}}]


def test_pace_refuses_then_closes_then_time_pays_back() -> None:
    core = opened(commands_per_s=10.0, command_burst=3.0, command_debt=2.0)
    codes = [
        answers(core.receive(line(id=n, ping={}), 0))[0].get("error", {}).get("code", 0)
        for n in range(2, 6)
    ]
    assert codes == [0, 0, 111, 111]
    assert answers(core.receive(line(id=9, ping={}), 1.0))[0] == {"id": 9, "ping": {}}
    effects: list[Effect] = []
    for _ in range(6):
        effects += core.receive_control(1.0)
    assert only(effects, Close).code == 3013


def test_binary_and_broken_frames_close() -> None:
    assert opened().receive_binary(0) == [Count("binary"), Close(3501, "bad request")]
    assert opened().break_frame(1009, "message too big", 0) == [
        Count("bad_frame"),
        Close(1009, "message too big"),
    ]


def test_admin_of_every_room_moves_into_the_room_it_names() -> None:
    core = fresh()
    core.receive(line(id=1, connect={"token": "t", "data": {"room": "mall"}}), 0)
    join = only(core.admit(1, access(Role.ADMIN, room="*"), 0, UNIX), Join)
    assert ("stage:mall", None) in join.channels

    core = fresh()
    core.receive(line(id=1, connect={"token": "t", "data": {"room": "no such name"}}), 0)
    join = only(core.admit(1, access(Role.ADMIN, room="*"), 0, UNIX), Join)
    assert join.channels == ()
    complete(core, join)
    (answer,) = answers(core.receive(line(id=2, rpc={"method": "m"}), 0))
    assert answer["error"]["message"] == "bad_request"


def test_viewer_cannot_move_to_another_room() -> None:
    core = fresh()
    core.receive(line(id=1, connect={"token": "t", "data": {"room": "mall"}}), 0)
    join = only(core.admit(1, access(), 0, UNIX), Join)
    assert join.channels[0][0] == ROOM_CHANNEL


def test_every_close_code_has_its_words() -> None:
    assert set(CLOSE_REASONS) == set(Disconnect)
    assert opened().debug_info()["phase"] == "OPEN"
