"""The bus: connections, channels, rooms and the engine put together.

`Bus` is what the server builds; `Session` is the shell of one `Connection`: it runs the
effects the core decides on. No task and no timer per connection: one wheel serves all,
and a task lives only as long as a history read or an RPC takes. A call under way goes
on when its connection is lost, since what was accepted must be finished.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final, Protocol

from interact.connection import DEFAULT_LIMITS, Connection, Limits, Phase
from interact.effects import (
    Abort,
    Access,
    Authenticate,
    CallRpc,
    Close,
    Count,
    Effect,
    Enter,
    Join,
    Leave,
    ReadHistory,
    ReadPresence,
    Transmit,
)
from interact.engine import EngineUnavailable, HistoryPage, Position
from interact.frames import Message, Opcode, encode_frame, encode_text
from interact.hub import Hub, HubStats
from interact.outbox import LIMIT_BYTES, Outbox, Socket
from interact.protocol import Disconnect, Reason, Refused
from interact.recovery import Joined, merge
from interact.rooms import FOUNDERS, Caller, Clock
from interact.wheel import SLOT_S, Wheel

logger = logging.getLogger(__name__)

JOIN_ATTEMPTS: Final = 3
"""Reads of history for one join; each needs another burst of thousands to fail."""

Authenticator = Callable[[str], Access]
"""Checks a token; raises Refused with `no_token`, `bad_token` or `expired_token`."""


class History(Protocol):
    """What the bus needs of an `Engine`."""

    async def history(
        self, channel: str, since: Position | None, limit: int, *, reverse: bool = False
    ) -> HistoryPage: ...


class Rooms(Protocol):
    """What the bus needs of `RoomService`."""

    async def ensure_room(self, caller: Caller) -> bool: ...
    async def rpc(self, caller: Caller, method: str, params: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class BusStats:
    """A snapshot for metrics."""

    connections: int
    by_role: dict[str, int]
    calls: int
    hub: HubStats


class Session:
    """One connection's shell. The socket calls it; it never outlives the socket."""

    __slots__ = (
        "_bus",
        "channels",
        "core",
        "is_closed",
        "is_counted",
        "outbox",
        "slot",
        "socket",
    )

    def __init__(self, bus: Bus, core: Connection, socket: Socket, limit_bytes: int) -> None:
        self._bus = bus
        self.core = core
        self.socket = socket
        self.outbox = Outbox(socket, limit_bytes)
        self.channels: set[str] = set()  # written by Bus only
        self.slot = 0  # written by Bus only
        self.is_counted = False  # written by Bus only
        self.is_closed = False  # written by Bus only: nothing may be written any more

    @property
    def client(self) -> str:
        return self.core.client

    @property
    def caller(self) -> Caller | None:
        return self.core.caller

    def receive(self, messages: list[Message]) -> None:
        """What one read from the network completed, in order."""
        self._bus.receive(self, messages)

    def broken(self, code: int, reason: str) -> None:
        """The peer broke RFC 6455."""
        self._bus.run(self, self.core.break_frame(code, reason, self._bus.now()))

    def paused(self) -> None:
        """The socket's write buffer is over its high-water mark."""
        if not self.is_closed:
            self._bus.hub.paused(self)

    def resumed(self) -> None:
        """The socket's write buffer has drained."""
        if not self.is_closed:
            self._bus.hub.resumed(self)

    def lost(self) -> None:
        """The socket is gone; the last call."""
        self._bus.drop(self)

    def shut_down(self) -> None:
        """The server stops: clients come back to the next one."""
        self.close(Disconnect.SHUTDOWN)

    def close(self, code: Disconnect) -> None:
        self._bus.run(self, self.core.close(code, self._bus.now()))

    def position_lost(self, channel: str) -> None:
        self._bus.run(self, self.core.position_lost(channel, self._bus.now()))

    def too_slow(self) -> None:
        self.close(Disconnect.SLOW)


class Bus:
    """Everything behind `/connection/websocket`. Use from one event loop only.

    `engine` is started by its owner with `listener=bus.hub.publish`; ticks go to
    `bus.hub.publish_tick`. `clock` gives Unix milliseconds.
    """

    def __init__(
        self,
        engine: History,
        rooms: Rooms,
        authenticate: Authenticator,
        clock: Clock,
        *,
        hub: Hub | None = None,
        node: str = "",
        limits: Limits = DEFAULT_LIMITS,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self.hub = hub or Hub()
        self._engine = engine
        self._rooms = rooms
        self._authenticate = authenticate
        self._clock = clock
        self._node = node or secrets.token_urlsafe(6)
        self._limits = limits
        self._limit_bytes = limit_bytes
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sessions: set[Session] = set()
        self._by_role: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wheel: Wheel[Session] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def open(self, socket: Socket, upgrade_token: str | None = None) -> Session:
        """A WebSocket is open. `upgrade_token` came with the request, if any."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        now = self.now()
        core = Connection(
            secrets.token_urlsafe(16), now, upgrade_token=upgrade_token, limits=self._limits
        )
        session = Session(self, core, socket, self._limit_bytes)
        self._sessions.add(session)
        if self._wheel is None:
            self._wheel = Wheel(now)
            self._timer = self._loop.call_later(SLOT_S, self._turn)
        session.slot = self._wheel.add(session, core.next_deadline())
        return session

    async def close(self, timeout_s: float = 5.0) -> None:
        """Close every connection with 3001 and finish the calls under way."""
        for session in list(self._sessions):
            session.shut_down()
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def disconnect(self, identity: str, room: str, code: Disconnect = Disconnect.FORCED) -> int:
        """Close every connection of a person in a room; how many there were."""
        found = [
            s
            for s in self._sessions
            if s.caller is not None and (s.caller.identity, s.caller.room) == (identity, room)
        ]
        for session in found:
            session.close(code)
        return len(found)

    def stats(self) -> BusStats:
        """For metrics; `hub` is live, the rest a snapshot."""
        by_role = {role: count for role, count in self._by_role.items() if count}
        return BusStats(len(self._sessions), by_role, len(self._tasks), self.hub.stats)

    # --- called by Session -----------------------------------------------------------

    def now(self) -> float:
        """Monotonic seconds, the loop's clock."""
        loop = self._loop
        return loop.time() if loop is not None else 0.0

    def receive(self, session: Session, messages: list[Message]) -> None:
        """Hand incoming messages to the core and run what it decides."""
        core = session.core
        now = self.now()
        for opcode, payload in messages:
            if opcode is Opcode.TEXT:
                self.hub.stats.commands += payload.count(b"\n") + 1
                effects = core.receive(payload, now)
            elif opcode is Opcode.BINARY:
                effects = core.receive_binary(now)
            else:
                effects = core.receive_control(now)
                if opcode is Opcode.PING and not session.is_closed:
                    session.outbox.write(encode_frame(Opcode.PONG, payload))
            if effects:
                self.run(session, effects)

    def run(self, session: Session, effects: list[Effect]) -> None:
        """Do what the core decided, in order; neighbouring replies share a frame."""
        queue: list[bytes] = []
        for effect in effects:
            if session.is_closed and not isinstance(effect, Abort):
                return
            if isinstance(effect, Transmit):
                queue.append(effect.message)
                if effect.refusal:
                    self.hub.stats.refusals[effect.refusal] += 1
                continue
            if queue and isinstance(effect, Enter | Close):
                self._transmit(session, queue)
                queue = []
            self._execute(session, effect)
        if queue and not session.is_closed:
            self._transmit(session, queue)
        self._reschedule(session)

    def drop(self, session: Session) -> None:
        """The socket is gone."""
        if not session.is_closed:
            self._leave_everything(session, Disconnect.CONNECTION_CLOSED)
        session.core.lost()
        self._sessions.discard(session)
        if self._wheel is not None:
            self._wheel.remove(session, session.slot)

    # --- effects ---------------------------------------------------------------------

    def _execute(self, session: Session, effect: Effect) -> None:
        match effect:
            case CallRpc():
                self._spawn(self._call(session, effect))
            case Join():
                for channel, _ in effect.channels:
                    session.channels.add(channel)
                    self.hub.begin(session, channel)
                self._spawn(self._join(session, effect))
            case Enter():
                self._enter(session, effect)
            case Leave():
                session.channels.discard(effect.channel)
                self.hub.leave(session, effect.channel)
            case Authenticate():
                self._check_token(session, effect)
            case ReadHistory():
                self._spawn(self._read_history(session, effect))
            case ReadPresence():
                read = self.hub.presence_stats if effect.is_count else self.hub.presence
                result = read(effect.channel)
                self.run(session, session.core.presence_read(effect, result))
            case Close():
                self._leave_everything(session, effect.code)
                session.socket.close(effect.code, effect.reason)
            case Abort():
                session.socket.abort()
            case Count():
                self.hub.stats.refusals[effect.refusal] += 1
            case Transmit():  # in `run` already; here for completeness
                self._transmit(session, [effect.message])

    def _transmit(self, session: Session, messages: list[bytes]) -> None:
        frame = encode_text(b"\n".join(messages) if len(messages) > 1 else messages[0])
        session.outbox.write(frame)
        stats = self.hub.stats
        stats.messages_sent += len(messages)
        stats.bytes_sent += len(frame)
        if session.outbox.is_congested and session.outbox.is_overflowing():
            session.too_slow()

    def _enter(self, session: Session, enter: Enter) -> None:
        session.channels.add(enter.channel)
        joined = enter.joined
        if joined is None:
            self.hub.activate(session, enter.channel)
        else:
            self.hub.activate_joined(session, enter.channel, joined)
            if joined.was_recovering:
                self.hub.stats.recovered += joined.recovered
                self.hub.stats.unrecovered += not joined.recovered
        caller = session.caller
        if not session.is_counted and caller is not None:
            session.is_counted = True
            self._by_role[caller.role.value] += 1

    def _check_token(self, session: Session, effect: Authenticate) -> None:
        core = session.core
        now, unix_now = self.now(), self._clock() / 1000
        try:
            access = self._authenticate(effect.token)
        except Refused as refused:
            turn_away = core.refuse_refresh if effect.is_refresh else core.turn_away
            effects = turn_away(effect.command_id, refused, now)
        except Exception:
            logger.exception("bus.authenticate_failed client=%s", core.client)
            turn_away = core.refuse_refresh if effect.is_refresh else core.turn_away
            effects = turn_away(effect.command_id, Refused(Reason.INTERNAL), now)
        else:
            admit = core.admit_refresh if effect.is_refresh else core.admit
            effects = admit(effect.command_id, access, now, unix_now)
        self.run(session, effects)

    async def _join(self, session: Session, join: Join) -> None:
        """Read every channel's history, then enter all of them in one go."""
        core = session.core
        caller = core.caller
        try:
            if core.phase is Phase.JOINING and caller is not None and caller.role in FOUNDERS:
                # The first valid use of such a token makes its room exist.
                await self._rooms.ensure_room(caller)
            joined = await self._read_joined(session, join)
        except (EngineUnavailable, Refused):
            effects = core.join_failed(join, self.now())
        except Exception:
            logger.exception("bus.join_failed client=%s", core.client)
            effects = core.join_failed(join, self.now())
        else:
            if joined is None:
                if not core.awaits(join):
                    return
                effects = core.close(Disconnect.INSUFFICIENT_STATE, self.now())
            else:
                unix_now = self._clock() / 1000
                effects = core.joined(join, joined, self.now(), unix_now, self._node)
        self.run(session, effects)

    async def _read_joined(self, session: Session, join: Join) -> dict[str, Joined] | None:
        """None when it is not wanted any more, or the feed and history do not meet."""
        pages: dict[str, HistoryPage] = {}
        for _ in range(JOIN_ATTEMPTS):
            for channel, since in join.channels:
                if channel not in pages:
                    limit = self._limits.max_history + 1 if since is not None else 0
                    pages[channel] = await self._engine.history(channel, since, limit)
            if not session.core.awaits(join):
                return None
            joined: dict[str, Joined] = {}
            for channel, since in join.channels:
                result = merge(since, pages[channel], self.hub.buffered(session, channel))
                if result is None or self.hub.is_ahead(channel, result.top):
                    del pages[channel]
                else:
                    joined[channel] = result
            if len(joined) == len(join.channels):
                return joined
        return None

    async def _read_history(self, session: Session, asked: ReadHistory) -> None:
        core = session.core
        try:
            page = await self._engine.history(
                asked.channel, asked.since, asked.limit, reverse=asked.reverse
            )
        except EngineUnavailable:
            effects = core.query_failed(asked.command_id)
        except Exception:
            logger.exception("bus.history_failed channel=%r", asked.channel)
            effects = core.query_failed(asked.command_id)
        else:
            effects = core.history_read(asked, page)
        self.run(session, effects)

    async def _call(self, session: Session, call: CallRpc) -> None:
        core = session.core
        try:
            data = await self._rooms.rpc(call.caller, call.method, call.params)
        except Refused as refused:
            effects = core.rpc_refused(call.command_id, refused)
        except EngineUnavailable:
            effects = core.rpc_refused(call.command_id, Refused(Reason.BUSY))
        except Exception:
            logger.exception("bus.rpc_failed method=%r room=%s", call.method, call.caller.room)
            effects = core.rpc_failed(call.command_id)
        else:
            effects = core.rpc_answered(call.command_id, data)
        self.run(session, effects)

    # --- helpers ---------------------------------------------------------------------

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _leave_everything(self, session: Session, code: int) -> None:
        session.is_closed = True
        self.hub.stats.disconnects[code] += 1
        self.hub.forget(session, session.channels)
        session.channels.clear()
        caller = session.caller
        if session.is_counted and caller is not None:
            session.is_counted = False
            self._by_role[caller.role.value] -= 1

    def _reschedule(self, session: Session) -> None:
        """Move the session to an earlier slot if its deadline came nearer."""
        if self._wheel is None or session not in self._sessions:
            return
        deadline = session.core.next_deadline()
        if deadline < (session.slot - 1) * SLOT_S:
            self._wheel.remove(session, session.slot)
            session.slot = self._wheel.add(session, deadline)

    def _turn(self) -> None:
        """Once a second: pings, pongs overdue, tokens expired, handshakes unfinished."""
        if self._wheel is None or self._loop is None:
            return
        self._timer = self._loop.call_later(SLOT_S, self._turn)
        now = self.now()
        for session in self._wheel.advance(now):
            effects = session.core.handle_timer(now)
            deadline = session.core.next_deadline()
            if session in self._sessions and deadline != float("inf"):
                session.slot = self._wheel.add(session, deadline)
            if effects:
                self.run(session, effects)
