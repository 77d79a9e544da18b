"""The checking agent against the lite one it talks to, without sockets."""

from __future__ import annotations

import random

from aioice import stun
from hypothesis import given
from hypothesis import strategies as st

from media.ice_client import CONSENT_S, FIRST_CHECK_S, SLOWEST_CHECK_S, IceClient, IceState
from media.stun import IceLite

NEAR = ("192.0.2.1", 8189)
FAR = ("198.51.100.7", 8189)
SERVER = IceLite(b"secret")


def client(now: float = 100.0) -> IceClient:
    return IceClient(
        "mine", "theirs", SERVER.password("theirs"), [NEAR, FAR], now, random.Random(1)
    )


def answer(data: bytes, *, known: bool = True) -> bytes:
    check = SERVER.receive(data, ("192.0.2.9", 5000), lambda ours, peers: known)
    assert check is not None
    assert (check.local_ufrag, check.remote_ufrag) == ("theirs", "mine")
    return check.reply


def connected() -> IceClient:
    ice = client()
    (data, _), _ = ice.poll(100.0)
    assert ice.receive(answer(data), NEAR, 100.01)
    return ice


def test_every_candidate_is_checked_until_one_answers_and_is_then_nominated() -> None:
    ice = client()
    first = ice.poll(100.0)
    assert [address for _, address in first] == [NEAR, FAR]
    assert ice.poll(100.0) == [], "not before it is due"
    assert ice.receive(answer(first[1][0]), FAR, 100.03)
    assert (ice.state, ice.selected) == (IceState.CONNECTED, FAR)
    ((nomination, address),) = ice.poll(100.03)
    assert address == FAR
    check = SERVER.receive(nomination, ("192.0.2.9", 5000), lambda ours, peers: True)
    assert check is not None
    assert check.is_nominated


def test_checks_are_repeated_ever_slower() -> None:
    ice = client()
    gaps = []
    now = 100.0
    for _ in range(8):
        ice.poll(now)
        due = ice.next_deadline()
        assert due is not None
        gaps.append(round(due - now, 3))
        now = due
    assert gaps[:3] == [FIRST_CHECK_S, 2 * FIRST_CHECK_S, 4 * FIRST_CHECK_S]
    assert gaps[-1] == SLOWEST_CHECK_S


def test_nobody_answers() -> None:
    ice = client()
    ice.poll(100.0)
    ice.poll(104.1)
    assert (ice.state, ice.failure, ice.next_deadline()) == (IceState.FAILED, "no_answer", None)


def test_consent_is_kept_up_and_its_loss_noticed() -> None:
    ice = connected()
    now = 100.02
    for _ in range(20):
        ((data, _),) = ice.poll(now)
        assert not ice.receive(answer(data), NEAR, now + 0.005)
        assert ice.round_trip_s is not None
        due = ice.next_deadline()
        assert due is not None
        assert now < due <= now + 1.2 * CONSENT_S
        now = due
    ice.poll(now + 5.5)
    assert ice.failure == "consent_lost"


def test_signed_error_ends_it_at_once() -> None:
    ice = connected()
    ((data, _),) = ice.poll(101.0)
    assert ice.receive(answer(data, known=False), NEAR, 101.01)
    assert (ice.state, ice.failure) == (IceState.FAILED, "unknown_session")


def test_answers_from_elsewhere_or_signed_by_others_or_repeated_count_nothing() -> None:
    ice = client()
    (data, _), _ = ice.poll(100.0)
    reply = answer(data)
    assert not ice.receive(reply, FAR, 100.01)
    forged = stun.parse_message(reply)
    forged.add_message_integrity(b"guess")
    assert not ice.receive(bytes(forged), NEAR, 100.01)
    bare = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, forged.transaction_id)
    assert not ice.receive(bytes(bare), NEAR, 100.01)
    assert ice.receive(reply, NEAR, 100.01)
    heard_at = ice.heard_at
    assert not ice.receive(reply, NEAR, 103.0)
    assert ice.heard_at == heard_at


@given(st.binary(max_size=200))
def test_any_bytes_are_passed_over(data: bytes) -> None:
    ice = client()
    ice.poll(100.0)
    assert not ice.receive(data, NEAR, 100.0)
    assert ice.state is IceState.CHECKING
