"""What workers hear from Redis: every write of every room, once and in the server's order.

Each room has one sharded channel. A message carries the records and publications of one
append with their numbers, so a worker that listens knows the newest state of every stream
without reading. Messages can only be missed while the connection is gone; then the
channels are read from where they were left off before anything newer is passed on.
"""

from __future__ import annotations

import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from interact.channel_rings import Rings
from interact.engine import Publication, PublicationListener, RecordListener
from interact.redis_link import LinkLost
from interact.redis_resp import Argument, Reply, ReplyError
from interact.redis_script import (
    FED,
    ROOMS_KEY,
    Written,
    channel_key,
    feed_of,
    read_message,
    room_key,
    room_of,
)
from interact.redis_servers import Servers, gathered

log = logging.getLogger(__name__)

_MAX_HEADS: Final = 50_000
_NEVER_TOO_MANY: Final = 20_000
"""Publications of one channel read after an outage; a channel keeps fewer."""


class RoomFeed:
    """One room as this worker hears it."""

    __slots__ = ("epoch", "held", "name")

    def __init__(self, name: str, epoch: str) -> None:
        self.name = name
        self.epoch = epoch
        self.held: list[bytes] | None = None  # messages that must wait for older ones


class Feed:
    """Rooms, rings and stream heads of one worker. Use from the event loop only."""

    def __init__(self, worker: str, database: int) -> None:
        self.rings = Rings()
        self.heads: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        """Newest version and hash of streams, as the server wrote them."""
        self.rooms: dict[str, RoomFeed] = {}
        self.listener: PublicationListener | None = None
        self.on_records: RecordListener | None = None
        self.on_told: Callable[[str, bytes], None] | None = None
        self.on_new_room: Callable[[str], None] | None = None
        self._worker = worker
        self._database = database
        self._rooms_feed = f"lh{database}:rooms"
        self._by_channel: dict[bytes, RoomFeed] = {}
        self.messages = 0

    # -- hearing ----------------------------------------------------------------------

    def push(self, items: list[Reply]) -> None:
        """One push of any connection."""
        if len(items) < 3 or items[0] != b"smessage":
            return
        channel, data = items[1], items[2]
        assert isinstance(channel, bytes) and isinstance(data, bytes)
        room = self._by_channel.get(channel)
        if room is not None:
            if room.held is not None:
                room.held.append(data)
            else:
                self._take(room, data)
        elif channel.decode() == self._rooms_feed and self.on_new_room is not None:
            self.on_new_room(data.decode())

    def _take(self, room: RoomFeed, data: bytes) -> None:
        self.messages += 1
        if data[:1] == FED:
            self._take_written(*read_message(data[1:]))
        elif self.on_told is not None:
            self._guarded(self.on_told, room.name, data[1:])

    def _take_written(self, offsets: list[int], written: Written) -> None:
        if written.records:
            version = written.expected + len(written.records)
            self.learn_head(written.stream, version, written.records[-1][3])
            if self.on_records is not None:
                self._guarded(self.on_records, written.as_records())
        for offset, (channel, data) in zip(offsets, written.publications, strict=True):
            self._publish(Publication(channel, offset, data))

    def _publish(self, publication: Publication) -> None:
        ring = self.rings.get(publication.channel)
        if ring is not None and publication.offset <= ring.head:
            return
        self.rings.remember(publication)
        if self.listener is not None:
            self._guarded(self.listener, publication)

    def _guarded(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception:
            # One broken listener call must not cost the others their news.
            log.exception("listener failed")

    def learn_head(self, stream: str, version: int, digest: bytes) -> None:
        """A stream is at least at this version."""
        known = self.heads.get(stream)
        if known is None or known[0] <= version:
            self.heads[stream] = (version, digest)
            self.heads.move_to_end(stream)
            if len(self.heads) > _MAX_HEADS:
                self.heads.popitem(last=False)

    # -- rooms ------------------------------------------------------------------------

    async def begin(self, servers: Servers, name: str) -> RoomFeed:
        """Listen to a room, making it known to all where it is new.

        Raises LinkLost.
        """
        [is_new] = await _replies(servers, "", [["SADD", ROOMS_KEY, name]])
        commands = self._begin_commands(servers, name)
        epoch, _ = await _replies(servers, name, commands)
        assert isinstance(epoch, bytes)
        room = self.rooms.get(name)
        if room is None:
            room = self.rooms[name] = RoomFeed(name, epoch.decode())
            self._by_channel[feed_of(name, self._database).encode()] = room
        if is_new == 1:
            command: list[Argument] = ["SPUBLISH", self._rooms_feed, name]
            await _replies(servers, self._rooms_feed, [command])
        return room

    def _begin_commands(self, servers: Servers, name: str) -> list[list[Argument]]:
        begin: list[Argument] = ["EVALSHA", servers.begin_sha, 1, room_key(name, "epoch")]
        return [[*begin, secrets.token_hex(6)], ["SSUBSCRIBE", feed_of(name, self._database)]]

    async def begin_all(self, servers: Servers) -> None:
        """Listen for new rooms. Raises LinkLost."""
        await _replies(servers, self._rooms_feed, [["SSUBSCRIBE", self._rooms_feed]])

    async def names(self, servers: Servers) -> list[str]:
        """Every room there is. Raises LinkLost."""
        [found] = await _replies(servers, ROOMS_KEY, [["SMEMBERS", ROOMS_KEY]])
        assert isinstance(found, list)
        return sorted(name.decode() for name in found if isinstance(name, bytes))

    async def resume(self, servers: Servers) -> bool:
        """Listen again after an outage, and pass on what was missed, in order.

        False where the server has forgotten something that was passed on: its data was
        lost or replaced. Raises LinkLost.
        """
        await self.begin_all(servers)
        for room in self.rooms.values():
            room.held = []
        self.heads.clear()
        is_whole = True
        channels: dict[str, list[str]] = {}
        for channel in self.rings.channels():
            channels.setdefault(room_of(channel), []).append(channel)
        try:
            for room in list(self.rooms.values()):
                is_whole &= await self._resume_room(servers, room, channels.get(room.name, []))
        finally:
            for room in self.rooms.values():
                room.held = None
        return is_whole

    async def _resume_room(self, servers: Servers, room: RoomFeed, channels: list[str]) -> bool:
        commands = self._begin_commands(servers, room.name)
        heads = {channel: ring.head for channel in channels if (ring := self.rings.get(channel))}
        for channel in heads:
            commands.append(["XREVRANGE", channel_key(channel), "+", "-", "COUNT", 1])
        for channel, head in heads.items():
            after = f"({head}-0"
            commands.append(["XRANGE", channel_key(channel), after, "+", "COUNT", _NEVER_TOO_MANY])
        commands.append(["SADD", ROOMS_KEY, room.name] if len(servers.links) == 1 else ["PING"])
        epoch, _, *found = await _replies(servers, room.name, commands)
        assert isinstance(epoch, bytes)
        is_whole = epoch.decode() == room.epoch
        for head, newest in zip(heads.values(), found, strict=False):
            entries = read_entries(newest)
            is_whole &= head <= (entries[0][0] if entries else 0)
        if not is_whole:
            log.error("redis lost what it had acknowledged room=%s", room.name)
            room.epoch = secrets.token_hex(6)
            await _replies(servers, room.name, [["SET", room_key(room.name, "epoch"), room.epoch]])
            for channel in heads:
                self.rings.forget(channel)
        else:
            for channel, missed in zip(heads, found[len(heads) :], strict=False):
                for offset, fields in read_entries(missed):
                    self._publish(Publication(channel, offset, fields[b"d"]))
        held, room.held = room.held or [], None
        for message in held:
            self._take(room, message)
        return is_whole


async def _replies(servers: Servers, room: str, commands: list[list[Argument]]) -> list[Reply]:
    """Replies of commands that cannot sensibly be refused. Raises LinkLost."""
    link = servers.of(room or ROOMS_KEY)
    replies = await gathered(link.send(commands))
    for reply in replies:
        if isinstance(reply, ReplyError):
            servers.cut()  # it moved, loads, or is a replica now: find out anew
            raise LinkLost(str(reply))
    return replies


def read_entries(reply: Reply) -> list[tuple[int, dict[bytes, bytes]]]:
    """Entries of XRANGE as (number before the dash, fields)."""
    assert isinstance(reply, list)
    found = []
    for entry in reply:
        assert isinstance(entry, list)
        number, fields = entry
        assert isinstance(number, bytes) and isinstance(fields, list)
        names = [item for item in fields if isinstance(item, bytes)]
        found.append(
            (int(number.partition(b"-")[0]), dict(zip(names[::2], names[1::2], strict=True)))
        )
    return found
