"""Peers that prove several addresses: the worker must answer where the peer listens."""

from __future__ import annotations

import asyncio
import socket

from aioice import stun

from loadtest.offers import Answer, offer, read_answer
from loadtest.transport import Transport
from tests.integration.media.harness import running_worker


class TwoFaced(Transport):
    """Nominates a second address of its own last, and then goes on with the first."""

    async def _handshake(self, answer: Answer) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            request = stun.Message(
                message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST
            )
            request.attributes["USERNAME"] = f"{answer.remote.ufrag}:{self.local.ufrag}"
            request.attributes["PRIORITY"] = 1
            request.attributes["ICE-CONTROLLING"] = 1
            request.attributes["USE-CANDIDATE"] = None
            request.add_message_integrity(answer.remote.pwd.encode())
            request.add_fingerprint()
            loop = asyncio.get_running_loop()
            await loop.sock_sendto(other, bytes(request), answer.candidates[0])
            reply = await asyncio.wait_for(loop.sock_recv(other, 2048), 5)
            assert stun.parse_message(reply).message_class is stun.Class.RESPONSE
            await super()._handshake(answer)


async def test_handshake_is_answered_where_it_comes_from() -> None:
    """Aggressive nomination of two paths: the last nominated is not the one in use."""
    async with running_worker() as worker:
        transport = TwoFaced(lambda data, now: None)
        sdp = offer(
            transport.local,
            Transport.fingerprint(),
            video=["VP8"],
            audio=True,
            sending=(1, 2),
            fmtp="",
        )
        response = await worker.post("/v1/whip/shop/main", sdp)
        assert response.status_code == 201, response.text
        await asyncio.wait_for(transport.connect(read_answer(response.json()["sdp"])), 10)
        assert transport.tx is not None
        transport.close()
