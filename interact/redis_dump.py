"""A copy of a Redis ledger in the embedded engine's file, so that one verifier reads both.

Nothing is computed here, hashes least of all: what Redis holds is what the file holds, and
whatever is wrong there is wrong here.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from interact.ledger_file import open_for_writing
from interact.redis_feed import read_entries
from interact.redis_link import Address, Link, LinkLost, RedisError
from interact.redis_resp import Argument, Reply, ReplyError
from interact.redis_script import ROOMS_KEY, channel_key, room_key, stream_key
from interact.redis_servers import Servers

_PAGE: Final = 1_000


async def dump_redis(url: str, only_room: str | None, directory: Path) -> None:
    """Write the ledger, of one room or of all, to a new file in `directory`.

    Raises RedisError where it cannot be read.
    """
    address = Address.parse(url)
    servers = Servers(address, _ignore_push, _ignore_loss)
    try:
        await servers.open()
        with closing(open_for_writing(directory)) as db:
            db.execute("BEGIN")
            if only_room is None:
                reply = await servers.of(ROOMS_KEY).call("SMEMBERS", ROOMS_KEY)
                rooms = sorted(_texts(reply))
            else:
                rooms = [only_room]
            await _dump_streams(servers, db, rooms)
            for room in rooms:
                await _dump_channels(servers.of(room), db, room)
            db.execute("COMMIT")
    except (LinkLost, ReplyError) as error:
        raise RedisError(f"redis {address.shown} cannot be read: {error}") from None
    finally:
        servers.close()


async def _dump_streams(servers: Servers, db: sqlite3.Connection, rooms: list[str]) -> None:
    dated: list[tuple[float, str, str]] = []
    for room in rooms:
        reply = await servers.of(room).call(
            "ZRANGE", room_key(room, "streams"), 0, -1, "WITHSCORES"
        )
        assert isinstance(reply, list)
        for pair in reply:
            assert isinstance(pair, list)
            name, score = pair
            assert isinstance(name, bytes) and isinstance(score, float | int)
            dated.append((score, name.decode(), room))
    for _, stream_name, room in sorted(dated):
        cursor = db.execute("INSERT INTO streams (name) VALUES (?)", (stream_name,))
        stream = cursor.lastrowid
        async for version, item in _Entries(servers.of(room), stream_key(stream_name)):
            row = (stream, version, item[b"k"].decode(), int(item[b"t"]), item[b"d"], item[b"h"])
            db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", row)


async def _dump_channels(link: Link, db: sqlite3.Connection, room: str) -> None:
    prefix = channel_key(f"?:{room}").removesuffix(f"?:{room}")
    names: set[str] = set()
    cursor: Argument = 0
    while True:
        reply = await link.call("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", _PAGE)
        assert isinstance(reply, list) and isinstance(reply[0], bytes)
        names.update(name.removeprefix(prefix) for name in _texts(reply[1]))
        cursor = reply[0]
        if cursor == b"0":
            break
    for name in sorted(names):
        channel = db.execute("INSERT INTO channels (name) VALUES (?)", (name,)).lastrowid
        async for offset, item in _Entries(link, channel_key(name)):
            db.execute("INSERT INTO publications VALUES (?, ?, ?)", (channel, offset, item[b"d"]))


class _Entries:
    """Every entry of a Redis stream, a page at a time."""

    def __init__(self, link: Link, key: str) -> None:
        self._link = link
        self._key = key
        self._page: list[tuple[int, dict[bytes, bytes]]] = []
        self._next = 0
        self._start = "-"
        self._is_last = False

    def __aiter__(self) -> _Entries:
        return self

    async def __anext__(self) -> tuple[int, dict[bytes, bytes]]:
        if self._next >= len(self._page):
            if self._is_last:
                raise StopAsyncIteration
            reply = await self._link.call("XRANGE", self._key, self._start, "+", "COUNT", _PAGE)
            self._page, self._next = read_entries(reply), 0
            self._is_last = len(self._page) < _PAGE
            if not self._page:
                raise StopAsyncIteration
            self._start = f"({self._page[-1][0]}-0"
        self._next += 1
        return self._page[self._next - 1]


def _texts(reply: Reply) -> list[str]:
    assert isinstance(reply, list)
    return [item.decode() for item in reply if isinstance(item, bytes)]


def _ignore_push(items: list[Reply]) -> None:
    """Nothing was subscribed to."""


def _ignore_loss() -> None:
    """Whoever waits for a reply hears of it there."""
