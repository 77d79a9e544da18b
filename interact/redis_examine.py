"""A look at a Redis before anything relies on it: `livehouse serve` and `livehouse doctor`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from interact.redis_link import Address, LinkLost, RedisError
from interact.redis_resp import Reply
from interact.redis_script import ROOMS_KEY
from interact.redis_servers import Servers


@dataclass(frozen=True, slots=True)
class RedisReport:
    """What was found. `weakness` is why an acknowledged write could be lost, or empty."""

    version: str
    masters: int
    round_trip_ms: float
    clock_ahead_ms: float
    """The server's clock minus this machine's."""
    weakness: str


async def examine_redis(url: str) -> RedisReport:
    """Connect, ask, disconnect. Raises RedisError, one line for the operator."""
    address = Address.parse(url)
    servers = Servers(address, _ignore_push, _ignore_loss)
    try:
        await servers.open()
        weakness = await servers.weakness()
        link = servers.of(ROOMS_KEY)
        samples = []
        for _ in range(5):
            asked = time.time()
            reply = await link.call("TIME")
            heard = time.time()
            assert isinstance(reply, list)
            seconds, micros = (int(part) for part in reply if isinstance(part, bytes))
            ahead = seconds + micros / 1e6 - (asked + heard) / 2
            samples.append((heard - asked, ahead))
    except LinkLost as error:
        raise RedisError(f"{address.shown} does not answer: {error}") from None
    finally:
        servers.close()
        await asyncio.sleep(0)  # lets the transports go
    round_trip_s, ahead_s = min(samples)
    return RedisReport(
        servers.version, len(servers.links), round_trip_s * 1000, ahead_s * 1000, weakness
    )


def _ignore_push(items: list[Reply]) -> None:
    """Nothing was subscribed to."""


def _ignore_loss() -> None:
    """Whoever waits for a reply hears of it there."""
