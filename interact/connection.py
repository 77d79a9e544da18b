"""The server side of the Centrifugo client protocol for one connection. Pure.

Frames come in, effects (`interact/effects.py`) go out; their outcomes come back as further
calls. Commands sent along with `connect` in one frame, as SDKs do, wait until it is done.

    NEW ──connect──► JOINING ──joined──► OPEN        any ──► CLOSED
     ▲                  │ refused with an error reply
     └──────────────────┘

Invariants: after Close nothing but Abort comes out; each command with an id gets exactly
one reply, unless the connection closes; a channel is subscribed to at most once; never
more than `max_calls` RPCs run at a time.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import msgspec

from interact import channels, commands
from interact.channels import ANY_ROOM, KEPT, parse_channel
from interact.commands import BadCommand, Command, decode_command, reply
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
    ReadHistory,
    ReadPresence,
    Transmit,
    refuse,
)
from interact.engine import HistoryPage, Position
from interact.pace import Pace
from interact.protocol import BusError, Disconnect, Reason, Refused, is_room_name
from interact.recovery import Joined
from interact.rooms import Caller
from interact.subscriptions import Subscriptions

VERSION: Final = "livehouse"
NEVER: Final = float("inf")

CLOSE_REASONS: Final[dict[Disconnect, str]] = {
    Disconnect.CONNECTION_CLOSED: "connection closed",
    Disconnect.SHUTDOWN: "shutdown",
    Disconnect.SERVER_ERROR: "internal server error",
    Disconnect.EXPIRED: "connection expired",
    Disconnect.SLOW: "slow",
    Disconnect.INSUFFICIENT_STATE: "insufficient state",
    Disconnect.NO_PONG: "no pong",
    Disconnect.TOO_MANY_REQUESTS: "too many requests",
    Disconnect.INVALID_TOKEN: "invalid token",
    Disconnect.BAD_REQUEST: "bad request",
    Disconnect.STALE: "stale",
    Disconnect.FORCED: "force disconnect",
    Disconnect.CONNECTION_LIMIT: "connection limit",
    Disconnect.PERMISSION_DENIED: "permission denied",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may ask for. Times in seconds."""

    connect_timeout_s: float = 5.0
    entry_timeout_s: float = 60.0
    """From the upgrade to the first connect command that succeeds, refused ones included."""
    join_timeout_s: float = 15.0
    ping_interval_s: float = 25.0
    pong_timeout_s: float = 10.0
    expiry_grace_s: float = 10.0
    """SDKs begin to refresh when the token expires; this is their time to do it."""
    close_timeout_s: float = 5.0
    commands_per_s: float = 200.0
    command_burst: float = 400.0
    command_debt: float = 400.0
    """Commands refused in a row before the connection is closed."""
    max_calls: int = 128
    max_waiting: int = 64
    max_subscriptions: int = 128
    max_history: int = 1_000
    """Publications in one history or recovery reply; about 300 kB of bids."""


DEFAULT_LIMITS: Final = Limits()


class Phase(Enum):
    NEW = auto()
    JOINING = auto()
    OPEN = auto()
    CLOSED = auto()


class _Entry(msgspec.Struct):
    """What is needed between the connect command and its reply."""

    request: commands.Connect
    access: Access | None = None
    waiting: list[Command] = msgspec.field(default_factory=list)


class _ConnectData(msgspec.Struct):
    """`data` of a connect command, as far as we look into it."""

    room: str = ""


class Connection:
    """One connection's protocol state. `now` is monotonic seconds everywhere."""

    __slots__ = (
        "_calls",
        "_deadline",
        "_entry",
        "_expires_at",
        "_give_up_at",
        "_limits",
        "_pace",
        "_pong_by",
        "_subscriptions",
        "_upgrade_token",
        "caller",
        "client",
        "phase",
    )

    def __init__(
        self,
        client: str,
        now: float,
        *,
        upgrade_token: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.client = client
        self.phase = Phase.NEW
        self.caller: Caller | None = None
        self._limits = limits
        self._upgrade_token = upgrade_token
        self._entry: _Entry | None = None  # while JOINING only
        self._subscriptions = Subscriptions()
        self._calls = 0
        self._pace = Pace(now, limits.command_burst)
        self._expires_at = NEVER
        self._pong_by = NEVER
        self._deadline = now + limits.connect_timeout_s
        self._give_up_at = now + limits.entry_timeout_s

    # --- input: the wire -------------------------------------------------------------

    def receive(self, frame: bytes, now: float) -> list[Effect]:
        """One text message from the client. Never raises, whatever the bytes."""
        effects: list[Effect] = []
        limits = self._limits
        for line in frame.split(b"\n"):
            line = line.strip()
            if not line:
                continue
            if self.phase is Phase.CLOSED:
                break
            in_time = self._pace.take(now, limits.commands_per_s, limits.command_burst)
            if line == commands.PING:
                self._pong_by = NEVER
                if not in_time:
                    effects += self._too_fast(0, now)
                continue
            try:
                command = decode_command(line)
            except BadCommand:
                effects += [Count("malformed"), *self.close(Disconnect.BAD_REQUEST, now)]
                break
            if not in_time:
                effects += self._too_fast(command.id, now)
            elif self.phase is Phase.JOINING:
                effects += self._postpone(command, now)
            else:
                effects += self._take(command, now)
        return effects

    def receive_binary(self, now: float) -> list[Effect]:
        """A binary message: some other protocol; there is no answer to give in it."""
        return [Count("binary"), *self.close(Disconnect.BAD_REQUEST, now)]

    def receive_control(self, now: float) -> list[Effect]:
        """A WebSocket ping or pong: counted like a command."""
        limits = self._limits
        if self._pace.take(now, limits.commands_per_s, limits.command_burst):
            return []
        return self._too_fast(0, now)

    def lost(self) -> None:
        """The socket is gone."""
        self._enter_closed(NEVER)

    def close(self, code: Disconnect, now: float) -> list[Effect]:
        """End the connection from our side."""
        if self.phase is Phase.CLOSED:
            return []
        self._enter_closed(now + self._limits.close_timeout_s)
        return [Close(int(code), CLOSE_REASONS[code])]

    def break_frame(self, code: int, reason: str, now: float) -> list[Effect]:
        """The peer broke RFC 6455: close with that standard's own code."""
        if self.phase is Phase.CLOSED:
            return []
        self._enter_closed(now + self._limits.close_timeout_s)
        return [Count("bad_frame"), Close(code, reason)]

    # --- input: time -----------------------------------------------------------------

    def next_deadline(self) -> float:
        """When to call `handle_timer` at the latest."""
        return min(self._deadline, self._pong_by, self._expires_at)

    def handle_timer(self, now: float) -> list[Effect]:
        """Whatever is due by `now`; calling early does no harm."""
        if now < self.next_deadline():
            return []
        match self.phase:
            case Phase.CLOSED:
                self._deadline = NEVER
                return [Abort()]
            case Phase.NEW:
                return self.close(Disconnect.STALE, now)
            case Phase.JOINING:
                return self.close(Disconnect.SERVER_ERROR, now)
            case Phase.OPEN:
                if now >= self._expires_at:
                    return self.close(Disconnect.EXPIRED, now)
                if now >= self._pong_by:
                    return self.close(Disconnect.NO_PONG, now)
                self._deadline = now + self._limits.ping_interval_s
                self._pong_by = now + self._limits.pong_timeout_s
                return [Transmit(commands.PING)]

    # --- input: outcomes of tokens ---------------------------------------------------

    def admit(self, command_id: int, access: Access, now: float, unix_now: float) -> list[Effect]:
        """The connect command's token is good."""
        entry = self._entry
        if entry is None:
            return []
        self.caller = _in_room(access.caller, entry.request.data)
        entry.access = access
        self._live_until(access, now, unix_now)
        return [self._subscriptions.at_connect(self.caller, entry.request, command_id)]

    def turn_away(self, command_id: int, refused: Refused, now: float) -> list[Effect]:
        """The connect command's token is not good."""
        if self._entry is None:
            return []
        match refused.reason:
            case Reason.EXPIRED_TOKEN:
                # An error, not a close code: it tells SDKs to fetch a fresh token.
                error = BusError.TOKEN_EXPIRED
            case Reason.UNAVAILABLE | Reason.BUSY | Reason.INTERNAL:
                error = BusError.INTERNAL
            case _:
                word = Count(refused.reason.value)
                return [word, *self.close(Disconnect.INVALID_TOKEN, now)]
        answer = Transmit(commands.error_reply(command_id, error), refused.reason.value)
        return [answer, *self._back_to_new(now)]

    def admit_refresh(
        self, command_id: int, access: Access, now: float, unix_now: float
    ) -> list[Effect]:
        """A fresh token for the same person in the same role goes on; another does not."""
        caller = self.caller
        if self.phase is not Phase.OPEN or caller is None:
            return []
        fresh = access.caller
        is_same = (fresh.identity, fresh.role) == (caller.identity, caller.role)
        if not is_same or fresh.room not in (caller.room, ANY_ROOM):
            return [Count("wrong_room"), *self.close(Disconnect.INVALID_TOKEN, now)]
        self._live_until(access, now, unix_now)
        result = {"client": self.client, "version": VERSION, **_lifetime(access, unix_now)}
        return [Transmit(reply(command_id, b"refresh", commands.encode_object(result)))]

    def refuse_refresh(self, command_id: int, refused: Refused, now: float) -> list[Effect]:
        """The refresh command's token is not good."""
        if self.phase is not Phase.OPEN:
            return []
        match refused.reason:
            case Reason.UNAVAILABLE | Reason.BUSY | Reason.INTERNAL:
                return [refuse(command_id, BusError.INTERNAL)]
            case Reason.EXPIRED_TOKEN:
                code = Disconnect.EXPIRED
            case _:
                code = Disconnect.INVALID_TOKEN
        return [Count(refused.reason.value), *self.close(code, now)]

    # --- input: outcomes of joins ----------------------------------------------------

    def awaits(self, join: Join) -> bool:
        """Whether a Join under way is still wanted."""
        match self.phase:
            case Phase.JOINING:
                return True
            case Phase.OPEN:
                return self._subscriptions.awaits(join)
            case _:
                return False

    def joined(
        self, join: Join, joined: dict[str, Joined], now: float, unix_now: float, node: str
    ) -> list[Effect]:
        """History of every channel of `join` is read: answer its connect or subscribe."""
        if not self.awaits(join):
            return []
        if self.phase is Phase.JOINING:
            return self._connected(join.command_id, joined, now, unix_now, node)
        return self._subscriptions.joined(join, joined)

    def join_failed(self, join: Join, now: float) -> list[Effect]:
        """History could not be read; the SDK tries again."""
        if not self.awaits(join):
            return []
        effects = self._subscriptions.join_failed(join)
        return [*effects, *self._back_to_new(now)] if self.phase is Phase.JOINING else effects

    def position_lost(self, channel: str, now: float) -> list[Effect]:
        """The feed of `channel` has a hole: make the SDK recover."""
        effects = self._subscriptions.position_lost(channel)
        return self.close(Disconnect.INSUFFICIENT_STATE, now) if effects is None else effects

    # --- input: outcomes of queries and calls ----------------------------------------

    def history_read(self, asked: ReadHistory, page: HistoryPage) -> list[Effect]:
        """Answer a history command."""
        if self.phase is not Phase.OPEN:
            return []
        if asked.since is not None and not page.recovered:
            return [refuse(asked.command_id, BusError.UNRECOVERABLE_POSITION)]
        result = commands.history_result(page.position, page.publications)
        return [Transmit(reply(asked.command_id, b"history", result))]

    def presence_read(self, asked: ReadPresence, result: bytes) -> list[Effect]:
        """Answer presence or presence_stats; `result` is the encoded result object."""
        if self.phase is not Phase.OPEN:
            return []
        kind = b"presence_stats" if asked.is_count else b"presence"
        return [Transmit(reply(asked.command_id, kind, result))]

    def query_failed(self, command_id: int) -> list[Effect]:
        """History could not be read: ours, so no detail."""
        if self.phase is not Phase.OPEN:
            return []
        return [refuse(command_id, BusError.INTERNAL)]

    def rpc_answered(self, command_id: int, data: bytes) -> list[Effect]:
        """An RPC's result, a JSON value."""
        self._calls -= 1
        if self.phase is not Phase.OPEN:
            return []
        return [Transmit(commands.rpc_reply(command_id, data))]

    def rpc_refused(self, command_id: int, refused: Refused) -> list[Effect]:
        """An RPC turned down with a reason."""
        self._calls -= 1
        if self.phase is not Phase.OPEN:
            return []
        return [Transmit(commands.refusal_reply(command_id, refused), refused.reason.value)]

    def rpc_failed(self, command_id: int) -> list[Effect]:
        """An RPC ended in an exception of ours."""
        self._calls -= 1
        return self.query_failed(command_id)

    def debug_info(self) -> dict[str, object]:
        """For a person."""
        return {
            "client": self.client,
            "phase": self.phase.name,
            "caller": dataclasses.asdict(self.caller) if self.caller else None,
            "subscriptions": self._subscriptions.debug_info(),
            "calls": self._calls,
        }

    # --- commands --------------------------------------------------------------------

    def _take(self, command: Command, now: float) -> list[Effect]:
        """Run a command in NEW or OPEN."""
        request = command.request()
        if request is None:
            return self._take_nothing(command.id)
        is_connect = isinstance(request, commands.Connect)
        has_id = command.id != 0 or isinstance(request, commands.Send)
        if is_connect is not (self.phase is Phase.NEW) or not has_id:
            return [Count("out_of_order"), *self.close(Disconnect.BAD_REQUEST, now)]
        if isinstance(request, commands.Connect):
            return self._connect(command.id, request, now)
        caller = self.caller
        if caller is None:
            raise AssertionError("an open connection has a caller")
        match request:
            case commands.Rpc():
                return self._rpc(command.id, request, caller)
            case commands.Subscribe():
                most = self._limits.max_subscriptions
                return self._subscriptions.subscribe(caller, command.id, request, most)
            case commands.Unsubscribe():
                return self._subscriptions.unsubscribe(command.id, request.channel)
            case commands.Publish():
                # Facts come from rooms only; whoever wants one to happen calls.
                return [refuse(command.id, BusError.PERMISSION_DENIED)]
            case commands.History():
                return [self._history(command.id, request, caller)]
            case commands.Presence():
                return [_presence(command.id, request.channel, caller, is_count=False)]
            case commands.PresenceStats():
                return [_presence(command.id, request.channel, caller, is_count=True)]
            case commands.Ping():
                return [Transmit(reply(command.id, b"ping"))]
            case commands.Send():
                return []  # nobody listens, and the protocol has no answer to it
            case commands.Refresh():
                return [Authenticate(command.id, request.token or "", is_refresh=True)]
            case commands.SubRefresh():
                # Subscriptions live as long as the connection; they have no token.
                return [refuse(command.id, BusError.NOT_AVAILABLE)]

    def _take_nothing(self, command_id: int) -> list[Effect]:
        """A command without a request that we know: with an id, a method that we lack."""
        if command_id:
            return [refuse(command_id, BusError.METHOD_NOT_FOUND)]
        self._pong_by = NEVER
        return []

    def _postpone(self, command: Command, now: float) -> list[Effect]:
        """Keep a command until the connection is open."""
        if self._entry is None or len(self._entry.waiting) >= self._limits.max_waiting:
            return [Count("too_many_requests"), *self.close(Disconnect.TOO_MANY_REQUESTS, now)]
        self._entry.waiting.append(command)
        return []

    def _too_fast(self, command_id: int, now: float) -> list[Effect]:
        if self._pace.is_below(self._limits.command_debt):
            return [Count("too_many_requests"), *self.close(Disconnect.TOO_MANY_REQUESTS, now)]
        if not command_id:
            return [Count("too_many_requests")]
        return [refuse(command_id, BusError.TOO_MANY_REQUESTS)]

    def _connect(self, command_id: int, request: commands.Connect, now: float) -> list[Effect]:
        self.phase = Phase.JOINING
        self._entry = _Entry(request)
        self._deadline = now + self._limits.join_timeout_s
        token = request.token or self._upgrade_token or ""
        return [Authenticate(command_id, token, is_refresh=False)]

    def _connected(
        self,
        command_id: int,
        joined: dict[str, Joined],
        now: float,
        unix_now: float,
        node: str,
    ) -> list[Effect]:
        caller, entry = self.caller, self._entry
        if caller is None or entry is None or entry.access is None:
            return []
        self.phase = Phase.OPEN
        self._entry = self._upgrade_token = None
        self._deadline = now + self._limits.ping_interval_s
        head = {
            "client": self.client,
            "version": VERSION,
            **_lifetime(entry.access, unix_now),
            "ping": int(self._limits.ping_interval_s),
            "pong": True,
            "session": self.client,
            "node": node,
            "time": int(unix_now * 1000),
            "data": {
                "room": caller.room,
                "identity": caller.identity,
                "name": caller.name,
                "role": caller.role,
            },
        }
        subs = {channel: commands.subscription(result) for channel, result in joined.items()}
        body = commands.connect_result(head, subs)
        effects: list[Effect] = [Transmit(reply(command_id, b"connect", body))]
        effects += [Enter(channel, result) for channel, result in joined.items()]
        for command in entry.waiting:
            if self.phase is Phase.OPEN:
                effects += self._take(command, now)
        return effects

    def _rpc(self, command_id: int, request: commands.Rpc, caller: Caller) -> list[Effect]:
        if not request.method:
            return [refuse(command_id, BusError.BAD_REQUEST)]
        if self._calls >= self._limits.max_calls:
            return [refuse(command_id, BusError.TOO_MANY_REQUESTS, Reason.BUSY.value)]
        if caller.room == ANY_ROOM:
            refused = Refused(Reason.BAD_REQUEST, detail="name a room in the connect data")
            return [Transmit(commands.refusal_reply(command_id, refused), refused.reason.value)]
        self._calls += 1
        return [CallRpc(command_id, caller, request.method, bytes(request.data) or b"{}")]

    def _history(self, command_id: int, request: commands.History, caller: Caller) -> Effect:
        parsed = parse_channel(request.channel)
        if parsed is None or not channels.may_read(caller, parsed):
            return refuse(command_id, BusError.PERMISSION_DENIED)
        if parsed.namespace not in KEPT:
            return refuse(command_id, BusError.NOT_AVAILABLE)
        most = self._limits.max_history
        since = request.since
        return ReadHistory(
            command_id,
            request.channel,
            Position(since.epoch, since.offset) if since is not None else None,
            min(request.limit, most) if request.limit >= 0 else most,
            request.reverse,
        )

    # --- helpers ---------------------------------------------------------------------

    def _live_until(self, access: Access, now: float, unix_now: float) -> None:
        self._expires_at = now + access.expires_at - unix_now + self._limits.expiry_grace_s

    def _back_to_new(self, now: float) -> list[Effect]:
        """The connect command failed: what came along with it fails too."""
        waiting = self._entry.waiting if self._entry is not None else []
        self.phase = Phase.NEW
        self.caller = self._entry = None
        self._subscriptions.clear()
        self._expires_at = NEVER
        self._deadline = min(now + self._limits.connect_timeout_s, self._give_up_at)
        return [refuse(command.id, BusError.UNAUTHORIZED) for command in waiting if command.id]

    def _enter_closed(self, deadline: float) -> None:
        self.phase = Phase.CLOSED
        self._entry = None
        self._subscriptions.clear()
        self._expires_at = self._pong_by = NEVER
        self._deadline = deadline


def _presence(command_id: int, channel: str, caller: Caller, *, is_count: bool) -> Effect:
    parsed = parse_channel(channel)
    if parsed is None or not channels.may_read(caller, parsed):
        return refuse(command_id, BusError.PERMISSION_DENIED)
    if parsed.namespace is not channels.Namespace.ROOM:
        return refuse(command_id, BusError.NOT_AVAILABLE)
    if not is_count and caller.role not in channels.PRESENCE_READERS:
        return refuse(command_id, BusError.PERMISSION_DENIED)
    return ReadPresence(command_id, channel, is_count)


def _in_room(caller: Caller, data: msgspec.Raw) -> Caller:
    """An every-room administrator moved into the room that the connect data names, if any."""
    if caller.room != ANY_ROOM or not bytes(data):
        return caller
    try:
        room = msgspec.json.decode(data, type=_ConnectData).room
    except (msgspec.MsgspecError, RecursionError):
        return caller
    return dataclasses.replace(caller, room=room) if is_room_name(room) else caller


def _lifetime(access: Access, unix_now: float) -> dict[str, object]:
    """`expires` and `ttl` (whole seconds, at least 1) of a connect or refresh result."""
    return {"expires": True, "ttl": max(1, int(access.expires_at - unix_now))}
