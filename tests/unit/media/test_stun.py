import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st

from media.stun import (
    IceLite,
    StunError,
    is_dtls,
    is_rtp_or_rtcp,
    is_stun,
    make_ufrag,
)

SECRET = b"worker secret"
UFRAG = make_ufrag(bytes(range(9)))
PEER = ("192.0.2.7", 4242)


def check(ufrag: str = UFRAG, password: str | None = None, **attributes: object) -> bytes:
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{ufrag}:peer"
    for name, value in attributes.items():
        request.attributes[name.replace("_", "-")] = value
    key = IceLite(SECRET).password(ufrag) if password is None else password
    request.add_message_integrity(key.encode())
    return bytes(request)


def known(local: str, remote: str) -> bool:
    return (local, remote) == (UFRAG, "peer")


@pytest.mark.parametrize(
    ("address", "mapped"),
    [
        (PEER, PEER),
        (("::ffff:192.0.2.7", 4242), PEER),
        (("2001:db8::1", 9), ("2001:db8::1", 9)),
        (("fe80::1%eth0", 9), ("fe80::1", 9)),
    ],
)
def test_known_session_is_told_its_address(
    address: tuple[str, int], mapped: tuple[str, int]
) -> None:
    ice = IceLite(SECRET)
    answer = ice.receive(check(PRIORITY=1, ICE_CONTROLLING=5), address, known)
    assert answer is not None
    assert (answer.local_ufrag, answer.remote_ufrag) == (UFRAG, "peer")
    assert answer.is_known
    assert not answer.is_nominated
    reply = stun.parse_message(answer.reply)
    assert reply.message_class == stun.Class.RESPONSE
    assert reply.attributes["XOR-MAPPED-ADDRESS"] == mapped
    assert reply.check_message_integrity(ice.password(UFRAG).encode())


def test_nomination_is_noticed() -> None:
    answer = IceLite(SECRET).receive(check(USE_CANDIDATE=None), PEER, known)
    assert answer is not None
    assert answer.is_nominated


def test_peer_claiming_to_be_controlled_is_answered_all_the_same() -> None:
    answer = IceLite(SECRET).receive(check(ICE_CONTROLLED=5), PEER, known)
    assert answer is not None
    assert stun.parse_message(answer.reply).message_class == stun.Class.RESPONSE


def test_authentic_check_of_a_lost_session_gets_a_signed_final_error() -> None:
    restarted = IceLite(SECRET)
    answer = restarted.receive(check(), PEER, lambda local, remote: False)
    assert answer is not None
    assert not answer.is_known
    reply = stun.parse_message(answer.reply)
    assert reply.message_class == stun.Class.ERROR
    assert reply.error_code == 400
    assert reply.check_message_integrity(restarted.password(UFRAG).encode())


def test_forged_check_gets_no_answer_and_no_lookup() -> None:
    def never(local: str, remote: str) -> bool:
        raise AssertionError("looked up before the signature was verified")

    for data in (check(password="p" * 24), check(ufrag="other", password="p" * 24)):
        with pytest.raises(StunError, match="signature"):
            IceLite(SECRET).receive(data, PEER, never)


def test_keep_alive_has_no_answer() -> None:
    indication = stun.Message(stun.Method.BINDING, stun.Class.INDICATION)
    assert IceLite(SECRET).receive(bytes(indication), PEER, known) is None


@pytest.mark.parametrize("message_class", (stun.Class.RESPONSE, stun.Class.ERROR))
def test_stray_answers_are_turned_down(message_class: stun.Class) -> None:
    message = stun.Message(stun.Method.BINDING, message_class)
    with pytest.raises(StunError, match="binding request"):
        IceLite(SECRET).receive(bytes(message), PEER, known)


def test_check_without_user_name_is_turned_down() -> None:
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    with pytest.raises(StunError, match="user name"):
        IceLite(SECRET).receive(bytes(request), PEER, known)


@given(st.binary(max_size=200))
def test_any_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(StunError):
        IceLite(SECRET).receive(b"\x00\x01" + data, PEER, lambda local, remote: True)


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=30)), max_size=8))
def test_any_attributes_raise_only_our_error(attributes: list[tuple[int, bytes]]) -> None:
    body = b"".join(
        number.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)
        for number, value in attributes
    )
    data = (
        b"\x00\x01"
        + len(body).to_bytes(2, "big")
        + stun.COOKIE.to_bytes(4, "big")
        + bytes(12)
        + body
    )
    with pytest.raises(StunError):
        IceLite(SECRET).receive(data, PEER, lambda local, remote: True)


@given(st.integers(0, 1000), st.integers(1, 255))
def test_any_changed_byte_is_noticed(position: int, flip: int) -> None:
    data = bytearray(check(PRIORITY=1))
    data[position % len(data)] ^= flip
    try:
        answer = IceLite(SECRET).receive(bytes(data), PEER, known)
    except StunError:
        return
    # Only an indication, or bytes that nobody reads, may be left.
    assert answer is None or answer.local_ufrag == UFRAG


def test_passwords_differ_by_secret_and_user_fragment() -> None:
    ice = IceLite(SECRET)
    assert len({ice.password("a"), ice.password("b"), IceLite(b"other").password("a")}) == 3
    assert len(ice.password("a")) >= 22
    assert "secret" not in repr(ice)


def test_first_byte_tells_protocols_apart() -> None:
    for byte in range(256):
        assert is_stun(byte) + is_dtls(byte) + is_rtp_or_rtcp(byte) <= 1
    assert is_stun(0) and is_stun(1) and not is_stun(4)
    assert is_dtls(20) and is_dtls(63) and not is_dtls(64)
    assert is_rtp_or_rtcp(0x80) and is_rtp_or_rtcp(0xBF) and not is_rtp_or_rtcp(0xC0)
