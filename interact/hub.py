"""Channels and fan-out: who gets what, encoded and framed once for all of them.

A reader of a kept channel is in one of three states:

    begin ──► joining (live publications are buffered while history is read)
                 │ activate(top)
                 ▼
              skipping (the live feed has not reached `top` yet) ──► active

The engine calls `publish` in offset order without gaps; should a gap show all the same,
everybody in the channel has lost the position and is told so, which makes SDKs recover.
Presence is the set of active readers of a `room:` channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from interact import commands
from interact.channels import Namespace, parse_channel
from interact.engine import Publication
from interact.fleet import Person
from interact.frames import encode_text
from interact.outbox import Outbox
from interact.protocol import Role
from interact.recovery import Joined
from interact.rooms import Caller

MAX_BUFFERED: Final = 5_000
"""Publications held for one joining reader; more, and its history is read again."""


class Member(Protocol):
    """A connection as the hub knows it."""

    @property
    def client(self) -> str: ...
    @property
    def caller(self) -> Caller | None: ...
    @property
    def outbox(self) -> Outbox: ...

    def position_lost(self, channel: str) -> None:
        """Called when the member can no longer know what it missed."""
        ...

    def too_slow(self) -> None:
        """Called when more than the outbox may hold waits to be sent."""
        ...


@dataclass(slots=True)
class HubStats:
    """Counters since the start; the hub and the bus write them, metrics reads."""

    publications: int = 0
    ticks: int = 0
    messages_sent: int = 0
    bytes_sent: int = 0
    ticks_skipped: int = 0
    duplicates: int = 0
    positions_lost: int = 0
    commands: int = 0
    recovered: int = 0
    unrecovered: int = 0
    disconnects: Counter[int] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Channel:
    """One channel with at least one reader."""

    namespace: Namespace
    room: str
    newest: int = 0  # offset last published; 0 until the first
    writers: dict[Member, Callable[[bytes], None]] = field(default_factory=dict)
    joining: dict[Member, list[Publication]] = field(default_factory=dict)
    skipping: dict[Member, int] = field(default_factory=dict)
    tick: bytes | None = None
    users: Counter[str] = field(default_factory=Counter)
    viewers: Counter[str] = field(default_factory=Counter)

    def is_empty(self) -> bool:
        return not (self.writers or self.joining or self.skipping)


class Hub:
    """Every channel of this process. Use from one event loop only."""

    def __init__(self, *, join_leave: frozenset[Namespace] = frozenset()) -> None:
        self.stats = HubStats()
        self.on_presence_change: Callable[[str, int], None] | None = None
        """Called with a room and its number of distinct viewers whenever that changes."""
        self.on_came: Callable[[Person], None] | None = None
        """Called for each connection that enters a `room:` channel."""
        self.on_left: Callable[[str, str], None] | None = None
        """Called with room and client when it leaves."""
        self.elsewhere: Callable[[str], list[Person]] | None = None
        """Gives a room's connections at other workers, who count as present too."""
        self._channels: dict[str, _Channel] = {}
        self._congested: set[Member] = set()
        self._join_leave = join_leave

    # --- readers ---------------------------------------------------------------------

    def begin(self, member: Member, channel: str) -> None:
        """Start to buffer for a reader whose history is about to be read."""
        self._channel(channel).joining[member] = []

    def buffered(self, member: Member, channel: str) -> list[Publication]:
        """What was published since `begin`."""
        state = self._channels.get(channel)
        return state.joining.get(member, []) if state is not None else []

    def is_ahead(self, channel: str, top: int) -> bool:
        """Whether `top` is behind what was published before: history was read from a laggard."""
        state = self._channels.get(channel)
        return state is not None and state.newest > top

    def activate(self, member: Member, channel: str, top: int = 0) -> None:
        """Deliver from the offset after `top` on (of a channel that is not kept: everything)."""
        state = self._channel(channel)
        state.joining.pop(member, None)
        if state.newest == top or state.namespace is Namespace.TICK:
            state.writers[member] = member.outbox.write
        else:
            state.skipping[member] = top
        if state.namespace is Namespace.ROOM:
            self._count_in(state, member)
        if state.namespace in self._join_leave:
            self._announce(commands.join_push(channel, _info(member)), state, member)

    def activate_joined(self, member: Member, channel: str, joined: Joined) -> None:
        """Push what was published while history was read, then deliver from there on."""
        for publication in joined.follow:
            push = commands.publication_push(channel, publication.data, publication.offset)
            frame = encode_text(push)
            member.outbox.write(frame)
            self._count(1, len(frame))
        self.activate(member, channel, joined.top)

    def leave(self, member: Member, channel: str) -> None:
        """Stop delivering; the member need not be in the channel."""
        state = self._channels.get(channel)
        if state is None:
            return
        was_buffered = state.joining.pop(member, None) is not None
        was_skipping = state.skipping.pop(member, None) is not None
        was_active = state.writers.pop(member, None) is not None
        if was_skipping or was_active:
            if state.namespace is Namespace.ROOM:
                self._count_out(state, member)
            if state.namespace in self._join_leave:
                self._announce(commands.leave_push(channel, _info(member)), state, member)
        if (was_buffered or was_skipping or was_active) and state.is_empty():
            del self._channels[channel]

    # --- fan-out ---------------------------------------------------------------------

    def publish(self, publication: Publication) -> None:
        """Fan out one kept publication; the engine's listener."""
        self.stats.publications += 1
        channel = publication.channel
        state = self._channels.get(channel)
        if state is None:
            return
        offset = publication.offset
        if offset <= state.newest:
            self.stats.duplicates += 1
            return
        has_gap = state.newest != 0 and offset != state.newest + 1
        state.newest = offset
        for buffer in state.joining.values():
            if len(buffer) >= MAX_BUFFERED:
                buffer.clear()  # the merge will see the hole and read again
            buffer.append(publication)
        if has_gap:
            self._lose([*state.writers, *state.skipping], channel)
            return
        if not state.writers and not state.skipping:
            return
        frame = encode_text(commands.publication_push(channel, publication.data, offset))
        if state.skipping:
            # First, as it may add to the writers.
            self._pass_top(state, channel, offset)
        self._write(state, frame)

    def publish_tick(self, channel: str, data: bytes) -> None:
        """Fan out the newest counters; congested readers get only the last, later."""
        self.stats.ticks += 1
        state = self._channels.get(channel)
        if state is None or not state.writers:
            return
        frame = encode_text(commands.tick_push(channel, data))
        state.tick = frame
        congested = [member for member in self._congested if member in state.writers]
        if not congested:
            self._write(state, frame)
            return
        for member in congested:
            member.outbox.skip_tick(channel)
        self.stats.ticks_skipped += len(congested)
        ready = [w for m, w in state.writers.items() if not m.outbox.is_congested]
        for write in ready:
            write(frame)
        self._count(len(ready), len(frame))

    def paused(self, member: Member) -> None:
        """The member's socket takes no more for now."""
        member.outbox.is_congested = True
        self._congested.add(member)

    def resumed(self, member: Member) -> None:
        """The member's socket has drained: catch up on ticks."""
        self._congested.discard(member)
        for channel in member.outbox.drained():
            state = self._channels.get(channel)
            if state is not None and state.tick is not None and member in state.writers:
                member.outbox.write(state.tick)
                self._count(1, len(state.tick))

    def forget(self, member: Member, channels: Iterable[str]) -> None:
        """The connection is over."""
        self._congested.discard(member)
        for channel in channels:
            self.leave(member, channel)

    # --- presence --------------------------------------------------------------------

    def presence(self, channel: str) -> bytes:
        """A PresenceResult: everybody in the channel, by client id."""
        state = self._channels.get(channel)
        members = [*state.writers, *state.skipping] if state is not None else []
        people = [(m.client, _info(m)) for m in members]
        people += [(person.client, _info_of(person)) for person in self._elsewhere(channel)]
        listed = b",".join(b'"%b":%b' % (client.encode(), info) for client, info in people)
        return b'{"presence":{%b}}' % listed

    def presence_stats(self, channel: str) -> bytes:
        """A PresenceStatsResult: connections, and distinct identities."""
        state = self._channels.get(channel)
        clients = len(state.writers) + len(state.skipping) if state is not None else 0
        users = state.users if state is not None else {}
        others = self._elsewhere(channel)
        strangers = {person.identity for person in others} - users.keys()
        return b'{"num_clients":%d,"num_users":%d}' % (
            clients + len(others),
            len(users) + len(strangers),
        )

    def _elsewhere(self, channel: str) -> list[Person]:
        word, _, room = channel.partition(":")
        return self.elsewhere(room) if self.elsewhere and word == Namespace.ROOM else []

    def viewers(self, room: str) -> int:
        """Distinct identities with the role viewer that are connected to the room here."""
        return len(self.viewer_names(room))

    def viewer_names(self, room: str) -> Collection[str]:
        """Who they are."""
        state = self._channels.get(f"{Namespace.ROOM}:{room}")
        return state.viewers.keys() if state is not None else ()

    # --- helpers ---------------------------------------------------------------------

    def _channel(self, channel: str) -> _Channel:
        state = self._channels.get(channel)
        if state is None:
            parsed = parse_channel(channel)
            if parsed is None:
                raise ValueError(f"{channel!r} is no channel")
            state = self._channels[channel] = _Channel(parsed.namespace, parsed.room)
        return state

    def _pass_top(self, state: _Channel, channel: str, offset: int) -> None:
        """Let readers out of `skipping` whose `top` the feed has reached."""
        lost: list[Member] = []
        for member, top in list(state.skipping.items()):
            if offset <= top:
                continue
            if offset == top + 1:
                del state.skipping[member]
                state.writers[member] = member.outbox.write
            else:
                lost.append(member)
        self._lose(lost, channel)

    def _write(self, state: _Channel, frame: bytes) -> None:
        for write in state.writers.values():
            write(frame)
        self._count(len(state.writers), len(frame))
        if self._congested:
            slow = [m for m in self._congested if m in state.writers and m.outbox.is_overflowing()]
            for member in slow:
                member.too_slow()

    def _count(self, readers: int, size: int) -> None:
        self.stats.messages_sent += readers
        self.stats.bytes_sent += readers * size

    def _lose(self, members: list[Member], channel: str) -> None:
        self.stats.positions_lost += len(members)
        for member in members:
            member.position_lost(channel)

    def _announce(self, push: bytes, state: _Channel, member: Member) -> None:
        frame = encode_text(push)
        others = [write for other, write in state.writers.items() if other is not member]
        for write in others:
            write(frame)
        self._count(len(others), len(frame))

    def _count_in(self, state: _Channel, member: Member) -> None:
        caller = member.caller
        if caller is None:
            return
        state.users[caller.identity] += 1
        if self.on_came is not None:
            self.on_came(
                Person(state.room, member.client, caller.identity, caller.name, caller.role)
            )
        if caller.role is Role.VIEWER:
            state.viewers[caller.identity] += 1
            if state.viewers[caller.identity] == 1:
                self._viewers_changed(state)

    def _count_out(self, state: _Channel, member: Member) -> None:
        caller = member.caller
        if caller is None:
            return
        _decrement(state.users, caller.identity)
        if self.on_left is not None:
            self.on_left(state.room, member.client)
        if caller.role is Role.VIEWER and _decrement(state.viewers, caller.identity):
            self._viewers_changed(state)

    def _viewers_changed(self, state: _Channel) -> None:
        if self.on_presence_change is not None:
            self.on_presence_change(state.room, len(state.viewers))


def _info_of(person: Person) -> bytes:
    """As `_info`, of somebody at another worker."""
    info = {"name": person.name, "role": person.role}
    return commands.encode_object(
        {"client": person.client, "user": person.identity, "conn_info": info}
    )


def _decrement(counter: Counter[str], key: str) -> bool:
    """Count one less; whether that was the last."""
    counter[key] -= 1
    if counter[key] > 0:
        return False
    del counter[key]
    return True


def _info(member: Member) -> bytes:
    """A ClientInfo."""
    caller = member.caller
    info: dict[str, object] = {"client": member.client}
    if caller is not None:
        info["user"] = caller.identity
        info["conn_info"] = {"name": caller.name, "role": caller.role}
    return commands.encode_object(info)
