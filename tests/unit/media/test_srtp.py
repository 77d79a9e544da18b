"""SRTP sending and receiving, with libsrtp as the oracle."""

from __future__ import annotations

import os

import pytest
from pylibsrtp import Error, Session

from media.srtp import (
    PROFILES,
    GcmSender,
    LibSrtpSender,
    OutPacket,
    SrtpKeys,
    SrtpProfile,
    SrtpReceiver,
    SrtpSender,
    SrtpStatus,
    make_sender,
    slot_pointers,
    split_keys,
)

SSRC = 0xCAFEBABE


def make_keys(profile: SrtpProfile) -> SrtpKeys:
    return SrtpKeys(profile, os.urandom(profile.key_bytes), os.urandom(profile.salt_bytes))


def packets(first: int, count: int, size: int = 1100) -> list[OutPacket]:
    return [
        (first + i, 9000 * i, 0x80 if i == count - 1 else 0, bytes([i]) * size)
        for i in range(count)
    ]


def unprotect_all(oracle: Session, out: memoryview, end: int, step: int) -> list[bytes]:
    return [oracle.unprotect(bytes(out[at : at + step])) for at in range(0, end, step)]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
def test_burst_opens_with_libsrtp(profile: SrtpProfile) -> None:
    keys = make_keys(profile)
    sender = make_sender(keys)
    out = memoryview(bytearray(65536))
    burst = packets(100, 5)
    end = sender.protect(out, 0, burst, 7, 2**32 - 9000, 96, SSRC)
    step = 12 + 1100 + sender.tag_bytes
    assert end == 5 * step
    opened = unprotect_all(keys.session(inbound=True), out, end, step)
    for i, packet in enumerate(opened):
        assert packet[:2] == bytes((0x80, 96 | (0x80 if i == 4 else 0)))
        assert int.from_bytes(packet[2:4], "big") == 107 + i
        assert int.from_bytes(packet[4:8], "big") == (9000 * i - 9000) % 2**32
        assert int.from_bytes(packet[8:12], "big") == SSRC
        assert packet[12:] == burst[i][3]


@pytest.mark.parametrize("profile", PROFILES[:2], ids=lambda p: p.name)
def test_both_senders_write_the_same_bytes(profile: SrtpProfile) -> None:
    keys = make_keys(profile)
    out = [memoryview(bytearray(8192)) for _ in range(2)]
    senders: list[SrtpSender] = [GcmSender(keys), LibSrtpSender(keys)]
    ends = [
        sender.protect(o, 3, packets(5, 4), 1000, 77, 111, SSRC)
        for sender, o in zip(senders, out, strict=True)
    ]
    assert ends[0] == ends[1]
    assert out[0] == out[1]


@pytest.mark.parametrize("start", [65530, 2**17 - 3, 2**16 * 5 - 4])
def test_roll_over_is_followed_by_the_receiver(start: int) -> None:
    keys = make_keys(PROFILES[0])
    sender = GcmSender(keys)
    oracle = keys.session(inbound=True)
    out = memoryview(bytearray(65536))
    # The receiver learns the roll-over counter by seeing each wrap, so walk up to it.
    for index in range(30000, start, 20000):
        end = sender.protect(out, 0, [(index, 0, 0, b"walk")], 0, 0, 96, SSRC)
        oracle.unprotect(bytes(out[:end]))
    end = sender.protect(out, 0, packets(start, 10, 20), 0, 0, 96, SSRC)
    opened = unprotect_all(oracle, out, end, 12 + 20 + 16)
    assert [int.from_bytes(p[2:4], "big") for p in opened] == [
        (start + i) & 0xFFFF for i in range(10)
    ]


def test_resend_is_the_same_bytes() -> None:
    sender = GcmSender(make_keys(PROFILES[0]))
    out = memoryview(bytearray(4096))
    end = sender.protect(out, 0, packets(70000, 1), 0, 5, 96, SSRC)
    again = sender.protect(out, end, packets(70000, 1), 0, 5, 96, SSRC)
    assert out[:end] == out[end:again]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
def test_receiver_opens_in_place_and_refuses_replay_and_forgery(profile: SrtpProfile) -> None:
    keys = make_keys(profile)
    sender = make_sender(keys)
    store = bytearray(4 * 2048)
    pointers = slot_pointers(store, 2048)
    receiver = SrtpReceiver(keys)
    view = memoryview(store)
    end = sender.protect(view, 2048, [(9, 90, 0, b"payload")], 0, 0, 96, SSRC)
    protected = bytes(view[2048:end])
    length = receiver.unprotect(pointers[1], end - 2048)
    assert length == 12 + 7
    assert bytes(view[2048 + 12 : 2048 + length]) == b"payload"
    view[: len(protected)] = protected
    assert receiver.unprotect(pointers[0], len(protected)) == -SrtpStatus.REPLAY_FAIL
    forged = bytearray(protected)
    forged[3] += 1
    view[: len(forged)] = forged
    assert receiver.unprotect(pointers[0], len(forged)) == -SrtpStatus.AUTH_FAIL


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
def test_rtcp_round_trip(profile: SrtpProfile) -> None:
    keys = make_keys(profile)
    report = bytes.fromhex("80c90001cafebabe")
    protected = make_sender(keys).protect_rtcp(report)
    store = bytearray(2048)
    store[: len(protected)] = protected
    length = SrtpReceiver(keys).unprotect_rtcp(slot_pointers(store, 2048)[0], len(protected))
    assert store[:length] == report


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80" * 11, b"\x80" + bytes(40), b"\xff" * 1500])
def test_garbage_is_refused_not_crashed_on(data: bytes) -> None:
    store = bytearray(2048)
    store[: len(data)] = data
    receiver = SrtpReceiver(make_keys(PROFILES[0]))
    pointer = slot_pointers(store, 2048)[0]
    assert receiver.unprotect(pointer, len(data)) < 0
    assert receiver.unprotect_rtcp(pointer, len(data)) < 0


def test_two_ends_of_a_handshake_agree() -> None:
    profile = PROFILES[0]
    material = os.urandom(2 * (profile.key_bytes + profile.salt_bytes))
    server_in, server_out = split_keys(profile, material, is_server=True)
    client_in, client_out = split_keys(profile, material, is_server=False)
    assert (server_in.key, server_in.salt) == (client_out.key, client_out.salt)
    assert (server_out.key, server_out.salt) == (client_in.key, client_in.salt)
    assert server_in.key != server_out.key
    with pytest.raises(ValueError, match="wrong size"):
        split_keys(profile, material[1:], is_server=True)


def test_wrong_key_is_refused_by_the_oracle() -> None:
    sender = GcmSender(make_keys(PROFILES[0]))
    out = memoryview(bytearray(2048))
    end = sender.protect(out, 0, packets(0, 1, 10), 0, 0, 96, SSRC)
    with pytest.raises(Error, match="authentication"):
        make_keys(PROFILES[0]).session(inbound=True).unprotect(bytes(out[:end]))
