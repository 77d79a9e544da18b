"""A publisher and a viewer with the right keys send what breaks readers.

Authentic packets get past SRTP, so parsers, receivers, rings, key-frame caches and the
fan-out all meet them. Whatever they send, the worker serves everybody else.
"""

from __future__ import annotations

import contextlib
import random

import pytest
from pylibsrtp import Error as SrtpError

from loadtest.offers import offer, read_answer
from loadtest.transport import Transport
from tests.integration.media.harness import Worker, publish, running_worker, watch
from tests.support.nasty import corpus, mutated

SSRC = 0x51515151
"""Not the one of the corpus, or an authentic BYE would end the session as it should."""
MUTATIONS = 600
PAYLOAD_TYPES = {"VP8": (96, 97), "H264": (102, 103)}


async def connect(worker: Worker, path: str, codec: str, sending: bool) -> tuple[Transport, str]:
    transport = Transport(lambda data, now: None)
    sdp = offer(
        transport.local,
        Transport.fingerprint(),
        video=[codec],
        audio=False,
        sending=(SSRC, SSRC + 1) if sending else None,
    )
    response = await worker.post(path, sdp)
    assert response.status_code == 201, response.text
    await transport.connect(read_answer(response.json()["sdp"]))
    return transport, response.json()["session"]


def packets(rng: random.Random, payload_types: list[int]) -> list[tuple[bool, bytes]]:
    """(is RTCP, packet): the corpus, then mutations, each RTP packet under a live number."""
    whole = [p for p in corpus() if p.protocol != "stun"]
    more = [rng.choice(whole) for _ in range(MUTATIONS)]
    out = [(p.protocol == "rtcp", p.data) for p in whole]
    out += [(p.protocol == "rtcp", mutated(p.data, rng)) for p in more]
    numbered = []
    for index, (is_rtcp, data) in enumerate(out):
        if not is_rtcp and len(data) >= 12:
            marker = data[1] & 0x80
            head = bytes((data[0] & 0x3F | 0x80, marker | rng.choice(payload_types)))
            data = head + index.to_bytes(2, "big") + data[4:8] + SSRC.to_bytes(4, "big") + data[12:]
        numbered.append((is_rtcp, data))
    return numbered


def send_all(transport: Transport, what: list[tuple[bool, bytes]]) -> int:
    """Protect and send; libsrtp itself turns some down. Returns how many left."""
    sent = 0
    tx = transport.tx
    assert tx is not None
    for is_rtcp, data in what:
        with contextlib.suppress(SrtpError):
            transport.send(tx.protect_rtcp(data) if is_rtcp else tx.protect(data))
            sent += 1
    return sent


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_authentic_nonsense_hurts_nobody_else(codec: str) -> None:
    rng = random.Random(codec)
    async with running_worker() as worker:
        publishing = await publish(worker, camera="good")
        watching = await watch(worker, camera="good")
        await watching.frames_after(5)
        payload_types = [*PAYLOAD_TYPES[codec], 111]
        bad, session = await connect(worker, "/v1/whip/shop/bad", codec, sending=True)
        listener, _ = await connect(worker, "/v1/whep/shop/bad", codec, sending=False)
        what = packets(rng, payload_types)
        for start in range(0, len(what), 40):  # in turns, so that no socket overflows
            assert send_all(bad, what[start : start + 40]) > 5
            send_all(listener, [p for p in what[start : start + 40] if p[0]])
            await watching.frames_after(1)
        details = await worker.session("shop", session)
        assert sum(details["drops"].values()) > 20
        assert "internal" not in (await worker.stats())["worker"]["drops"]
        await watching.frames_after(20)
        for transport in (bad, listener):
            transport.close()
        await watching.close()
        await publishing.close()
