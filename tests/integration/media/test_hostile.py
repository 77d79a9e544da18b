"""Whatever arrives on the UDP port or the control port, the worker goes on serving."""

from __future__ import annotations

import os
import random
import socket

import pytest
from aioice import stun

from media.events import EventBoard
from tests.integration.media.harness import SECRET, eventually, publish, running_worker, watch


def hostile_datagrams(rng: random.Random) -> list[bytes]:
    """Noise of every protocol's shape, truncations and bit flips of sound packets included."""
    binding = bytes.fromhex("000100002112a442") + rng.randbytes(12)
    username = b"abcdefgh:ijkl"
    attribute = b"\x00\x06" + len(username).to_bytes(2, "big") + username + bytes(3)
    with_name = b"\x00\x01" + len(attribute).to_bytes(2, "big") + binding[4:] + attribute
    hello = bytes.fromhex("16fefd0000000000000000") + b"\x00\x40" + rng.randbytes(64)
    rtp = bytes.fromhex("80e0") + rng.randbytes(1000)
    rtcp = bytes.fromhex("80c80006") + rng.randbytes(24)
    sound = [binding, with_name, hello, rtp, rtcp]
    out = [b"", b"\x00", b"\x80", b"\x16", b"\xff" * 2000, bytes(1500)]
    out += [bytes([first]) + rng.randbytes(rng.randrange(1500)) for first in range(256)]
    for packet in sound:
        out.append(packet)
        out += [packet[: rng.randrange(len(packet))] for _ in range(20)]
        for _ in range(40):
            flipped = bytearray(packet)
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
            out.append(bytes(flipped))
    rng.shuffle(out)
    return out


@pytest.mark.parametrize("seed", [1, 2])
async def test_noise_from_strangers_changes_nothing(seed: int) -> None:
    async with running_worker() as worker:
        publishing = await publish(worker)
        watching = await watch(worker)
        await watching.frames_after(10)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.setblocking(False)
            for data in hostile_datagrams(random.Random(seed)):
                stranger.sendto(data, worker.udp.getsockname())
        await watching.frames_after(20)
        drops = (await worker.stats())["worker"]["drops"]
        assert drops["bad_stun"] > 10
        assert drops["unknown_peer"] > 10
        assert drops["unknown_protocol"] > 10
        assert "internal" not in drops
        await watching.close()
        await publishing.close()


async def test_noise_from_a_peers_own_address_changes_nothing() -> None:
    """The same noise by way of the peers' own sockets, so it reaches DTLS and SRTP."""
    async with running_worker() as worker:
        publishing = await publish(worker)
        watching = await watch(worker)
        await watching.frames_after(10)
        for end in (publishing, watching):
            connection = end.pc.getTransceivers()[0].sender.transport.transport._connection
            for data in hostile_datagrams(random.Random(5)):
                # DTLS alerts are not authenticated before the handshake ends, but now they
                # are: nothing that is made up here may end the session.
                await connection.send(data or b"\0")
        await watching.frames_after(20)
        details = await worker.session("shop", publishing.session)
        drops = details["drops"]
        assert drops["not_authentic"] + drops.get("malformed", 0) > 10
        assert "internal" not in (await worker.stats())["worker"]["drops"]
        await watching.close()
        await publishing.close()


async def test_authentic_but_senseless_packets_are_counted() -> None:
    """A publisher with the right keys may still send nonsense."""
    async with running_worker() as worker:
        publishing = await publish(worker)
        watching = await watch(worker)
        await watching.frames_after(5)
        dtls = publishing.pc.getTransceivers()[0].sender.transport
        rng = random.Random(9)
        for i in range(300):
            body = rng.randbytes(rng.randrange(0, 900))
            first = rng.choice([0x80, 0x90, 0xA0, 0xB0, 0x8F, 0x9F])
            kind = rng.choice([96, 97, 98, 120, 200, 201, 202, 203, 205, 206])
            ssrc = rng.choice([1, 2, 0xFFFFFFFF])
            packet = bytes((first, kind)) + i.to_bytes(2, "big") + ssrc.to_bytes(4, "big") + body
            try:
                await dtls._send_rtp(packet)
            except Exception as error:
                # libsrtp itself refuses to send some of them; the rest arrives.
                assert "srtp" in type(error).__module__
        await watching.frames_after(20)
        drops = (await worker.session("shop", publishing.session))["drops"]
        assert sum(drops.values()) > 10
        await watching.close()
        await publishing.close()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("POST", "/v1/whip/shop/main", b"{", 400, "bad_request"),
        ("POST", "/v1/whip/shop/main", b"[]", 400, "bad_request"),
        ("POST", "/v1/whip/shop/main", b'{"sdp":"","identity":"x"}', 400, "bad_sdp"),
        ("POST", "/v1/whip/shop/program", b'{"sdp":"","identity":"x"}', 400, "bad_name"),
        ("POST", "/v1/whip/..%2f/main", b'{"sdp":"","identity":"x"}', 404, None),
        ("POST", "/v1/whip/shop/main", b'{"sdp":"","identity":"a b"}', 400, "bad_name"),
        ("POST", "/v1/whep/shop", b'{"sdp":"v=0","identity":"x"}', 404, "not_live"),
        ("POST", "/v1/whip/shop/main", b'"' + b"x" * 200_000, 413, "too_large"),
        ("PATCH", "/v1/sessions/none?room=shop", b'{"sdpfrag":""}', 404, "no_session"),
        ("DELETE", "/v1/sessions/none?room=shop", b"", 404, "no_session"),
        ("GET", "/v1/sessions/none", b"", 404, "no_session"),
        ("PUT", "/v1/sessions/x/layer?room=r", b'{"max_height":-1}', 400, "bad_request"),
        ("PUT", "/v1/rooms/shop/program", b'{"camera":"none"}', 404, "no_camera"),
        ("PUT", "/v1/rooms/-/program", b'{"camera":null}', 400, "bad_name"),
    ],
)
async def test_bad_control_requests_get_a_reason(
    method: str, path: str, body: bytes, status: int, reason: str | None
) -> None:
    async with running_worker() as worker:
        response = await worker.http.request(method, path, content=body)
        assert response.status_code == status, response.text
        if reason is not None:
            error = response.json()
            assert (error["status"], error["reason"]) == (status, reason)
            assert "Traceback" not in response.text


@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {SECRET}", "Bearer é"])
async def test_control_needs_its_secret(header: str | None) -> None:
    async with running_worker() as worker:
        headers = {b"Authorization": (header or "").encode()}
        response = await worker.http.get("/v1/stats", headers=headers)
        assert (response.status_code, response.json()["reason"]) == (401, "bad_token")


async def test_slow_event_listener_is_cut_and_others_are_not() -> None:
    board = EventBoard()
    slow, quick = board.listen({"type": "snapshot"}), board.listen({"type": "snapshot"})
    reader = quick.read()
    for i in range(3000):
        board.publish({"type": "viewers", "n": i})
        await anext(reader)
    assert board.cut == 1
    assert slow.is_cut
    assert not quick.is_cut
    assert [event async for event in slow.read()] == []


async def test_check_for_a_forgotten_session_is_refused_with_a_signature() -> None:
    """A worker that restarted with the same secret answers its predecessor's peers."""
    async with running_worker() as worker:
        publishing = await publish(worker)
        watching = await watch(worker)
        await watching.frames_after(5)
        connection = watching.pc.getTransceivers()[0].sender.transport.transport._connection
        ufrag, pwd = connection.remote_username, connection.remote_password
        session = watching.session
        assert ufrag is not None
        assert pwd is not None
        await worker.http.delete(f"/v1/sessions/{session}", params={"room": "shop"})
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, os.urandom(12))
        request.attributes["USERNAME"] = f"{ufrag}:{connection.local_username}"
        request.add_message_integrity(pwd.encode())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(bytes(request), worker.udp.getsockname())
            answers: list[bytes] = []

            def answered() -> str:
                try:
                    answers.append(sock.recv(1500))
                except BlockingIOError:
                    return "no answer"
                return ""

            await eventually(answered, 3)
        reply = stun.parse_message(answers[0])
        assert reply.check_message_integrity(pwd.encode())
        assert reply.message_class is stun.Class.ERROR
        assert reply.attributes["ERROR-CODE"][0] == 400
        await watching.close()
        await publishing.close()
