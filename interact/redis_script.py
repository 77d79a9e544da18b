"""How the ledger and the channels lie in Redis, and the one script that writes them.

Everything of a room has the hash tag `{room}`, so a cluster keeps a room on one node and
one script can write all of it:

    lh:{room}:s:STREAM    a stream; entry VERSION-0 holds kind, time, data and hash
    lh:{room}:c:CHANNEL   a channel; entry OFFSET-0 holds data
    lh:{room}:streams     the room's streams by time of creation (µs)
    lh:{room}:epoch       of the room's channels
    lh:{room}:count       counters that all workers add to
    lh:rooms              every room's name

The script checks the version *and the hash* a decision was made on. So a decision that
stands on one that was turned down is turned down too, even where its number would fit,
and an append whose answer was lost may be sent again: its own hash shows that it is there.
It ends with one message on the room's feed, which every worker hears in the order in
which the server wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from interact.engine import NewRecord, Outgoing, Record
from interact.ledger_file import chain_hash
from interact.ledger_writer import kept_publications
from interact.redis_resp import Argument

ROOMS_KEY: Final = "lh:rooms"
FED: Final = b"f"
TOLD: Final = b"t"
"""First byte of a feed message: something was written, or one worker tells the others."""

APPEND: Final = """
local expected, count, pubs = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4])
local is_again, id, feed = ARGV[5] == '1', ARGV[6], ARGV[7]
local at = 10
if count > 0 then
  local head = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  local version, hash = 0, string.rep('\\0', 32)
  if head then
    version, hash = tonumber(string.match(head[1], '^%d+')), head[2][8]
  end
  if version ~= expected or hash ~= ARGV[2] then
    if is_again then
      local first = string.format('%.0f-0', expected + 1)
      local mine = redis.call('XRANGE', KEYS[1], first, first)[1]
      if mine and mine[2][8] == ARGV[at + 3] then return {expected + count} end
    end
    return {-1}
  end
  if version == 0 then
    local now = redis.call('TIME')
    redis.call('ZADD', KEYS[2], string.format('%.0f', now[1] * 1000000 + now[2]), ARGV[9])
  end
  for i = 1, count do
    redis.call('XADD', KEYS[1], string.format('%.0f-0', version + i),
      'k', ARGV[at], 't', ARGV[at + 1], 'd', ARGV[at + 2], 'h', ARGV[at + 3])
    at = at + 4
  end
elseif is_again then
  for _, entry in ipairs(redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 200)) do
    if entry[2][4] == id then return {0} end
  end
end
local offsets = {}
for i = 1, pubs do
  local key = KEYS[2 + i]
  local head = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  local offset = 1
  if head then offset = tonumber(string.match(head[1], '^%d+')) + 1 end
  redis.call('XADD', key, 'MAXLEN', '~', ARGV[at + 1], string.format('%.0f-0', offset),
    'd', ARGV[at], 'i', id)
  offsets[i] = string.format('%.0f', offset)
  at = at + 2
end
redis.call('SPUBLISH', feed, 'f' .. table.concat(offsets, ',') .. '\\n' .. ARGV[8])
return {expected + count}
"""

BEGIN_ROOM: Final = """
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
"""


class Written(msgspec.Struct, array_like=True, frozen=True):
    """What one append wrote, as the feed carries it. `offsets` go with `publications`."""

    worker: str
    stream: str
    expected: int
    records: tuple[tuple[str, int, bytes, bytes], ...]
    publications: tuple[tuple[str, bytes], ...]

    def as_records(self) -> list[Record]:
        """The records with their versions."""
        return [
            Record(self.stream, self.expected + index, *record)
            for index, record in enumerate(self.records, 1)
        ]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Written).decode


def room_of(name: str) -> str:
    """The room that a stream or channel belongs to; a name without one is its own."""
    parts = name.split(":", 2)
    return parts[1] if len(parts) > 1 else name


def stream_key(stream: str) -> str:
    """Where a stream lies."""
    return f"lh:{{{room_of(stream)}}}:s:{stream}"


def channel_key(channel: str) -> str:
    """Where a channel lies."""
    return f"lh:{{{room_of(channel)}}}:c:{channel}"


def room_key(room: str, what: str) -> str:
    """`streams`, `epoch` or `count` of a room."""
    return f"lh:{{{room}}}:{what}"


def feed_of(room: str, database: int) -> str:
    """The sharded channel on which a room's workers hear of each other."""
    return f"lh{database}:{{{room}}}"


def chained(
    stream: str, version: int, previous: bytes, records: Sequence[NewRecord]
) -> tuple[tuple[str, int, bytes, bytes], ...]:
    """Records as they are stored, each with its hash; `version` is the one before them."""
    stored = []
    for number, record in enumerate(records, version + 1):
        previous = chain_hash(previous, stream, number, record.kind, record.at_ms, record.data)
        stored.append((record.kind, record.at_ms, record.data, previous))
    return tuple(stored)


def append_command(
    script: bytes,
    room: str,
    database: int,
    written: Written,
    previous: bytes,
    identifier: str,
    *,
    is_again: bool,
) -> list[Argument]:
    """The EVALSHA for one append; `previous` is the hash before its first record."""
    channels = [channel for channel, _ in written.publications]
    keys = [
        stream_key(written.stream) if written.stream else room_key(room, "streams"),
        room_key(room, "streams"),
        *map(channel_key, channels),
    ]
    command: list[Argument] = ["EVALSHA", script, len(keys), *keys]
    command += [written.expected, previous, len(written.records), len(channels)]
    command += ["1" if is_again else "0", identifier, feed_of(room, database)]
    command += [_encode(written), written.stream]
    for kind, at_ms, data, digest in written.records:
        command += [kind, at_ms, data, digest]
    for channel, data in written.publications:
        command += [data, kept_publications(channel)]
    return command


def read_message(message: bytes) -> tuple[list[int], Written]:
    """Offsets and content of a FED message, the first byte taken off."""
    offsets, _, content = message.partition(b"\n")
    return [int(offset) for offset in offsets.split(b",") if offset], _decode(content)


def pairs_of(publications: Sequence[Outgoing]) -> tuple[tuple[str, bytes], ...]:
    """Publications as `Written` holds them."""
    return tuple((outgoing.channel, outgoing.data) for outgoing in publications)
