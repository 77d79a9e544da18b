"""Channel names, and who may read which: one table for the bus.

Nobody learns from a refusal whether a room, a channel or a person exists: whatever the
table does not allow is "permission denied", names that make no sense included.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from interact.protocol import (
    Channel,
    Role,
    is_identity,
    is_room_name,
    room_channel,
    screen_channel,
    stage_channel,
    user_channel,
)

ANY_ROOM: Final = "*"
"""`room` of an administrator's token for every room."""


class Reader(Protocol):
    """Who asks: a room's member as the token named them."""

    @property
    def room(self) -> str: ...
    @property
    def identity(self) -> str: ...
    @property
    def role(self) -> Role: ...


class Namespace(StrEnum):
    """The word before the first colon."""

    ROOM = "room"
    TICK = "tick"
    USER = "user"
    SCREEN = "screen"
    STAGE = "stage"


KEPT: Final = frozenset({Namespace.ROOM, Namespace.USER, Namespace.SCREEN, Namespace.STAGE})
"""Namespaces with history and recovery; ticks are latest-wins."""

EVERYBODY: Final = frozenset(Role)
READERS: Final[dict[Namespace, frozenset[Role]]] = {
    Namespace.ROOM: EVERYBODY,
    Namespace.TICK: EVERYBODY,
    Namespace.USER: EVERYBODY,  # each only the own one
    Namespace.SCREEN: frozenset(
        {Role.SCREEN, Role.HOST, Role.DIRECTOR, Role.MODERATOR, Role.ADMIN}
    ),
    Namespace.STAGE: frozenset({Role.HOST, Role.DIRECTOR, Role.MODERATOR, Role.ADMIN}),
}
SCREEN_AT_CONNECT: Final = READERS[Namespace.SCREEN] - {Role.MODERATOR}
"""A moderator may subscribe to the screens' channel, but is not made to."""

PRESENCE_READERS: Final = frozenset({Role.HOST, Role.DIRECTOR, Role.MODERATOR, Role.ADMIN})
"""Who may list people; everybody in the room may count them."""


class ParsedChannel(NamedTuple):
    """A well-formed channel name; `identity` only for `user:`."""

    namespace: Namespace
    room: str
    identity: str | None


def parse_channel(channel: str) -> ParsedChannel | None:
    """The parts of a channel name, or None for anything that is not one."""
    word, _, rest = channel.partition(":")
    try:
        namespace = Namespace(word)
    except ValueError:
        return None
    if namespace is Namespace.USER:
        room, colon, identity = rest.partition(":")
        if not colon or not is_room_name(room) or not is_identity(identity):
            return None
        return ParsedChannel(namespace, room, identity)
    return ParsedChannel(namespace, rest, None) if is_room_name(rest) else None


def may_read(reader: Reader, channel: ParsedChannel) -> bool:
    """Whether `reader` may subscribe to `channel` and read its history."""
    if reader.room != channel.room and reader.room != ANY_ROOM:
        return False
    if channel.namespace is Namespace.USER:
        return channel.identity == reader.identity
    return reader.role in READERS[channel.namespace]


def channels_at_connect(reader: Reader) -> tuple[Channel, ...]:
    """The server-side subscriptions of a new connection; none for a token of every room."""
    if reader.room == ANY_ROOM:
        return ()
    channels = [room_channel(reader.room), user_channel(reader.room, reader.identity)]
    if reader.role in SCREEN_AT_CONNECT:
        channels.append(screen_channel(reader.room))
    if reader.role in READERS[Namespace.STAGE]:
        channels.append(stage_channel(reader.room))
    return tuple(channels)
