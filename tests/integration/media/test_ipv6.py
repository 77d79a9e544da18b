"""One dual-stack socket carries IPv6 and IPv4 peers at once."""

from __future__ import annotations

import re
import socket

import pytest

from media.addresses import candidate_addresses
from server.sockets import bind_media, has_ipv6
from tests.integration.media.harness import eventually, publish, running_worker, watch


def only(version: int, answer: str) -> str:
    """The answer with candidates of one IP version alone."""
    other = (
        r"a=candidate:\S+ 1 udp \d+ [0-9.]+ .*\r\n"
        if version == 6
        else (r"a=candidate:\S+ 1 udp \d+ [0-9a-f]*:[0-9a-f:]+ .*\r\n")
    )
    left = re.sub(other, "", answer)
    assert "a=candidate:" in left
    return left


async def test_publisher_on_ipv6_is_watched_from_both() -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    udp = bind_media("::", 0)
    assert udp.family == socket.AF_INET6
    if not any(":" in host for host, _ in candidate_addresses(udp)):
        udp.close()
        pytest.skip("this machine has no IPv6 address but link-local ones")
    async with running_worker(udp=udp) as worker:
        publishing = await publish(worker, rewrite=lambda sdp: only(6, sdp))

        async def address(session: str) -> str:
            return str((await worker.session("shop", session))["address"])

        await eventually(lambda: "" if publishing.pc.connectionState == "connected" else "not yet")
        assert (await address(publishing.session)).startswith("[")
        for version in (6, 4):
            watching = await watch(worker, rewrite=lambda sdp, v=version: only(v, sdp))  # type: ignore[misc]  # a default binds the loop's value
            await watching.frames_after(5)
            assert (await address(watching.session)).startswith("[") is (version == 6)
            await watching.close()
        await publishing.close()
