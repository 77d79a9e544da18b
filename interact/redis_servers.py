"""Which connection a room's keys are behind: one server, or the masters of a cluster.

A cluster that moves a slot, or a server that became a replica, is treated like a lost
connection: everything is cut and found anew. That is rare, takes milliseconds, and keeps
one rule for all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from interact.redis_link import Address, Link, LinkLost, RedisError
from interact.redis_resp import Reply, ReplyError
from interact.redis_script import APPEND, BEGIN_ROOM

SLOTS: Final = 16_384
OLDEST: Final = (7, 0)

_CRC16: Final = []
for _value in range(256):
    _crc = _value << 8
    for _ in range(8):
        _crc = ((_crc << 1) ^ 0x1021 if _crc & 0x8000 else _crc << 1) & 0xFFFF
    _CRC16.append(_crc)


def slot_of(tag: str) -> int:
    """The cluster slot of a hash tag (CRC16/XMODEM, the Redis cluster specification)."""
    crc = 0
    for byte in tag.encode():
        crc = ((crc << 8) & 0xFFFF) ^ _CRC16[(crc >> 8) ^ byte]
    return crc % SLOTS


class Servers:
    """Every connection of one worker. `on_lost` is called once, at the first that breaks."""

    def __init__(
        self,
        address: Address,
        on_push: Callable[[list[Reply]], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._address = address
        self._on_push = on_push
        self._on_lost = on_lost
        self._links: list[Link] = []
        self._ranges: list[tuple[int, int, Link]] = []  # slots from, to
        self._is_over = False
        self.append_sha = b""
        self.begin_sha = b""
        self.version = ""

    @property
    def links(self) -> list[Link]:
        """The one server, or every master."""
        return self._links

    def of(self, room: str) -> Link:
        """The connection for a room's keys."""
        if not self._ranges:
            return self._links[0]
        slot = slot_of(room)
        for first, last, link in self._ranges:
            if first <= slot <= last:
                return link
        raise LinkLost(f"no node of the cluster serves slot {slot}")

    async def open(self) -> None:
        """Connect to everything. Raises LinkLost (try again) or RedisError (no use)."""
        try:
            await self._open()
        except ReplyError as error:
            self.close()
            if error.kind in ("NOAUTH", "WRONGPASS", "NOPERM"):
                raise RedisError(f"redis {self._address.shown} refuses: {error}") from None
            raise LinkLost(str(error)) from None
        except BaseException:
            self.close()
            raise

    async def _open(self) -> None:
        first = await Link.open(self._address, self._on_push, self._lost)
        self._links.append(first)
        about = await _info(first)
        self.version = about.get("valkey_version", about.get("redis_version", "0.0"))
        parts = about.get("redis_version", "0.0").split(".")
        if (int(parts[0]), int(parts[1])) < OLDEST:
            raise RedisError(
                f"redis {self._address.shown} is version {'.'.join(parts)};"
                " Livehouse needs Redis 7 or Valkey"
            )
        if about.get("redis_mode") == "cluster":
            await self._open_cluster(first)
        for link in self._links:
            await self._prepare(link)

    async def _open_cluster(self, first: Link) -> None:
        if self._address.database:
            raise RedisError("a Redis cluster has database 0 only")
        slots = await first.call("CLUSTER", "SLOTS")
        nodes: dict[tuple[str, int], Link] = {}
        assert isinstance(slots, list)
        for entry in slots:
            assert isinstance(entry, list)
            start, end, master = entry[:3]
            assert isinstance(start, int) and isinstance(end, int) and isinstance(master, list)
            host = master[0].decode() if isinstance(master[0], bytes) else ""
            port = master[1]
            assert isinstance(port, int)
            where = (host or self._address.host, port)
            if where not in nodes:
                nodes[where] = await Link.open(self._address.at(*where), self._on_push, self._lost)
                self._links.append(nodes[where])
            self._ranges.append((start, end, nodes[where]))
        covered = sum(end - start + 1 for start, end, _ in self._ranges)
        if covered != SLOTS:
            raise LinkLost(f"the cluster serves {covered} of {SLOTS} slots")
        self._links.remove(first)
        first.abort()

    async def _prepare(self, link: Link) -> None:
        about = await _info(link)
        if about.get("role") != "master":
            raise LinkLost("this server is a replica")
        if about.get("loading", "0") != "0":
            raise LinkLost("the server is still loading its data")
        append = await link.call("SCRIPT", "LOAD", APPEND)
        begin = await link.call("SCRIPT", "LOAD", BEGIN_ROOM)
        assert isinstance(append, bytes) and isinstance(begin, bytes)
        self.append_sha, self.begin_sha = append, begin

    async def weakness(self) -> str:
        """Why an acknowledged write could be lost, or "" where it cannot. Raises LinkLost."""
        for link in self._links:
            for key, wanted in (("appendonly", b"yes"), ("appendfsync", b"always")):
                try:
                    reply = await link.call("CONFIG", "GET", key)
                except ReplyError:
                    return f"the server does not tell its {key}"
                value = reply[1] if isinstance(reply, list) and len(reply) > 1 else b"unknown"
                if value != wanted:
                    shown = value.decode() if isinstance(value, bytes) else "unknown"
                    return f"{key} is {shown}, it must be {wanted.decode()}"
        return ""

    def close(self) -> None:
        """Cut everything; `on_lost` is not called any more."""
        self._is_over = True
        for link in self._links:
            link.abort()

    def cut(self) -> None:
        """Something is wrong with a connection: lose them all, which calls `on_lost`."""
        for link in list(self._links):
            link.abort()

    def _lost(self) -> None:
        if self._is_over or not self._links or all(link.is_up for link in self._links):
            return
        self._is_over = True
        for link in self._links:
            link.abort()
        self._on_lost()


async def _info(link: Link) -> dict[str, str]:
    reply = await link.call("INFO", "everything")
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else ""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {key: value.strip() for key, _, value in pairs}


async def gathered(futures: list[asyncio.Future[Reply]]) -> list[Reply]:
    """Every reply of a pipeline. Raises LinkLost; errors of the server are in the list."""
    await asyncio.wait(futures)
    return [future.result() for future in futures]
