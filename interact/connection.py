"""The server side of the Centrifugo client protocol for one connection. Pure.

Frames come in, effects go out; reading history, checking a token or calling a room is
an effect, whose outcome comes back as another call. Commands sent along with `connect`
in one frame (SDKs do that) wait until the connection is open.

    NEW ──connect──► JOINING ──joined──► OPEN        any ──► CLOSED
     ▲                  │ refused with an error reply
     └──────────────────┘

Invariants: in CLOSED nothing is sent any more; each command with an id gets exactly one
reply, unless the connection closes; a channel is subscribed to at most once; never more
than `max_calls` RPCs run at a time.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import msgspec

from interact import channels, commands
from interact.channels import ANY_ROOM, KEPT, parse_channel
from interact.commands import BadCommand, Command, decode_command, error_reply, reply
from interact.engine import HistoryPage, Position
from interact.protocol import BusError, Disconnect, Reason, Refused, is_room_name
from interact.recovery import Joined
from interact.rooms import Caller

VERSION: Final = "livehouse"
SUBSCRIPTION_LOST: Final = 2500
"""Unsubscribe code "insufficient state": SDKs subscribe again and recover."""

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
    max_calls: int = 16
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


@dataclass(frozen=True, slots=True)
class Access:
    """A checked token. `expires_at` is Unix time in seconds; a `caller.room` of "*" is every
    room, of which an administrator names one in the connect command's data."""

    caller: Caller
    expires_at: float


# --- effects: what the shell must do, in order ---------------------------------------


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send one reply or push (JSON); several in a row may share a frame."""

    message: bytes


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Check a token; answer with `admit` or `turn_away` (or the refresh pair)."""

    command_id: int
    token: str
    is_refresh: bool


@dataclass(frozen=True, slots=True)
class Join:
    """Enter channels, reading history after `since` where it is given.

    Answer with `joined` (or `join_failed`). `command_id` is the connect's or subscribe's.
    """

    command_id: int
    channels: tuple[tuple[str, Position | None], ...]


@dataclass(frozen=True, slots=True)
class Enter:
    """Deliver from now on; for a kept channel (`joined`) the follow-up first.

    Comes after the Transmit of the reply that says so, and must be run after it.
    """

    channel: str
    joined: Joined | None = None


@dataclass(frozen=True, slots=True)
class Leave:
    channel: str


@dataclass(frozen=True, slots=True)
class ReadHistory:
    """Answer with `history_read` or `query_failed`."""

    command_id: int
    channel: str
    since: Position | None
    limit: int
    reverse: bool


@dataclass(frozen=True, slots=True)
class ReadPresence:
    """Answer with `presence_read`."""

    command_id: int
    channel: str
    is_count: bool


@dataclass(frozen=True, slots=True)
class CallRpc:
    """Answer with `rpc_answered`, `rpc_refused` or `query_failed`; they may overtake each other."""

    command_id: int
    caller: Caller
    method: str
    params: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Send a close frame, then drop everything of this connection."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Abort:
    """The peer did not finish the closing handshake: cut."""


Effect = (
    Transmit
    | Authenticate
    | Join
    | Enter
    | Leave
    | ReadHistory
    | ReadPresence
    | CallRpc
    | Close
    | Abort
)


class Source(Enum):
    """Who made a subscription; it decides what happens when its position is lost."""

    SERVER = auto()
    CLIENT = auto()


class _ConnectData(msgspec.Struct):
    """`data` of a connect command, as far as we look into it."""

    room: str = ""


class Connection:
    """One connection's protocol state. `now` is monotonic seconds everywhere."""

    __slots__ = (
        "_access",
        "_calls",
        "_connect_request",
        "_deadline",
        "_expires_at",
        "_limits",
        "_pong_by",
        "_subscriptions",
        "_tokens",
        "_tokens_at",
        "_upgrade_token",
        "_waiting",
        "caller",
        "client",
        "counted_refusals",
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
        self.counted_refusals: list[str] = []  # reasons; the shell takes and clears them
        self._limits = limits
        self._upgrade_token = upgrade_token
        # While JOINING only, to keep an open connection small.
        self._connect_request: commands.Connect | None = None
        self._access: Access | None = None
        # A number is the id of the subscribe command under way.
        self._subscriptions: dict[str, Source | int] = {}
        self._waiting: list[Command] = []
        self._calls = 0
        self._tokens = limits.command_burst
        self._tokens_at = now
        self._expires_at = float("inf")
        self._pong_by = float("inf")
        self._deadline = now + limits.connect_timeout_s

    # --- input: the wire -------------------------------------------------------------

    def receive(self, frame: bytes, now: float) -> list[Effect]:
        """One text message from the client. Never raises, whatever the bytes."""
        effects: list[Effect] = []
        for line in frame.split(b"\n"):
            if self.phase is Phase.CLOSED:
                break
            line = line.strip()
            if not line:
                continue
            if not self._spend(now):
                self._over_limit(line, effects, now)
            elif line == commands.PING:
                self._pong_by = float("inf")
            else:
                self._take_line(line, effects, now)
        return effects

    def receive_binary(self, now: float) -> list[Effect]:
        """A binary message: some other protocol; there is no answer to give in it."""
        self.counted_refusals.append("binary")
        return self.close(Disconnect.BAD_REQUEST, now)

    def receive_control(self, now: float) -> list[Effect]:
        """A WebSocket ping or pong: counted like a command."""
        if self.phase is Phase.CLOSED or self._spend(now):
            return []
        effects: list[Effect] = []
        self._over_limit(b"", effects, now)
        return effects

    def lost(self) -> None:
        """The socket is gone."""
        self._enter_closed(float("inf"))

    def close(self, code: Disconnect, now: float, reason: str | None = None) -> list[Effect]:
        """End the connection from our side."""
        if self.phase is Phase.CLOSED:
            return []
        self._enter_closed(now + self._limits.close_timeout_s)
        return [Close(int(code), reason or CLOSE_REASONS[code])]

    def break_frame(self, code: int, reason: str, now: float) -> list[Effect]:
        """The peer broke RFC 6455: close with that standard's own code."""
        if self.phase is Phase.CLOSED:
            return []
        self.counted_refusals.append("bad_frame")
        self._enter_closed(now + self._limits.close_timeout_s)
        return [Close(code, reason)]

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
                self._deadline = float("inf")
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

    # --- input: outcomes of effects --------------------------------------------------

    def admit(self, command_id: int, access: Access, now: float, unix_now: float) -> list[Effect]:
        """The connect command's token is good."""
        request = self._connect_request
        if self.phase is not Phase.JOINING or request is None:
            return []
        caller = access.caller
        if caller.room == ANY_ROOM:
            caller = _in_room(caller, request.data)
        self.caller = caller
        self._access = access
        self._expires_at = now + access.expires_at - unix_now + self._limits.expiry_grace_s
        asked = request.subs or {}
        wanted = tuple(
            (str(channel), asked[channel].since() if channel in asked else None)
            for channel in channels.channels_at_connect(caller)
        )
        for channel, _ in wanted:
            self._subscriptions[channel] = Source.SERVER
        return [Join(command_id, wanted)]

    def turn_away(self, command_id: int, refused: Refused, now: float) -> list[Effect]:
        """The connect command's token is not good."""
        if self.phase is not Phase.JOINING:
            return []
        self.counted_refusals.append(refused.reason.value)
        match refused.reason:
            case Reason.EXPIRED_TOKEN:
                # An error, not a close code: it tells SDKs to fetch a fresh token.
                error = BusError.TOKEN_EXPIRED
            case Reason.UNAVAILABLE | Reason.BUSY | Reason.INTERNAL:
                error = BusError.INTERNAL
            case _:
                return self.close(Disconnect.INVALID_TOKEN, now)
        self._back_to_new(now)
        return [Transmit(error_reply(command_id, error))]

    def admit_refresh(
        self, command_id: int, access: Access, now: float, unix_now: float
    ) -> list[Effect]:
        """A fresh token for the same person in the same role goes on; another does not."""
        if self.phase is not Phase.OPEN or self.caller is None:
            return []
        fresh, caller = access.caller, self.caller
        same = (fresh.identity, fresh.role) == (caller.identity, caller.role)
        if not same or fresh.room not in (caller.room, ANY_ROOM):
            return self.close(Disconnect.INVALID_TOKEN, now)
        self._expires_at = now + access.expires_at - unix_now + self._limits.expiry_grace_s
        result = {"client": self.client, "version": VERSION, **_lifetime(access, unix_now)}
        return [Transmit(reply(command_id, b"refresh", commands.encode_object(result)))]

    def refuse_refresh(self, command_id: int, refused: Refused, now: float) -> list[Effect]:
        """The refresh command's token is not good."""
        if self.phase is not Phase.OPEN:
            return []
        self.counted_refusals.append(refused.reason.value)
        match refused.reason:
            case Reason.EXPIRED_TOKEN:
                return self.close(Disconnect.EXPIRED, now)
            case Reason.UNAVAILABLE | Reason.BUSY | Reason.INTERNAL:
                return [Transmit(error_reply(command_id, BusError.INTERNAL))]
            case _:
                return self.close(Disconnect.INVALID_TOKEN, now)

    def awaits(self, join: Join) -> bool:
        """Whether a Join under way is still wanted."""
        if self.phase is Phase.JOINING:
            return True
        return all(self._subscriptions.get(c) == join.command_id for c, _ in join.channels)

    def joined(
        self, join: Join, joined: dict[str, Joined], now: float, unix_now: float, node: str
    ) -> list[Effect]:
        """History of every channel of `join` is read: answer its connect or subscribe."""
        if self.phase is Phase.JOINING:
            return self._connected(join.command_id, joined, now, unix_now, node)
        if self.phase is not Phase.OPEN or not self.awaits(join):
            return []  # unsubscribed meanwhile, and told so
        ((channel, result),) = joined.items()
        self._subscriptions[channel] = Source.CLIENT
        message = reply(join.command_id, b"subscribe", commands.subscription(result))
        return [Transmit(message), Enter(channel, result)]

    def join_failed(self, join: Join, now: float) -> list[Effect]:
        """History could not be read; the SDK tries again."""
        effects: list[Effect] = []
        if self.phase is Phase.JOINING:
            self._back_to_new(now)
        elif self.phase is not Phase.OPEN or not self.awaits(join):
            return []
        for channel, _ in join.channels:
            self._subscriptions.pop(channel, None)
            effects.append(Leave(channel))
        return [*effects, Transmit(error_reply(join.command_id, BusError.INTERNAL))]

    def history_read(self, command_id: int, asked: ReadHistory, page: HistoryPage) -> list[Effect]:
        """Answer a history command."""
        if self.phase is not Phase.OPEN:
            return []
        if asked.since is not None and not page.recovered:
            return [Transmit(error_reply(command_id, BusError.UNRECOVERABLE_POSITION))]
        result = commands.history_result(page.position, page.publications)
        return [Transmit(reply(command_id, b"history", result))]

    def presence_read(self, command_id: int, is_count: bool, result: bytes) -> list[Effect]:
        """Answer presence or presence_stats; `result` is the encoded result object."""
        if self.phase is not Phase.OPEN:
            return []
        return [Transmit(reply(command_id, b"presence_stats" if is_count else b"presence", result))]

    def query_failed(self, command_id: int) -> list[Effect]:
        """History or presence could not be read: ours, so no detail."""
        if self.phase is not Phase.OPEN:
            return []
        return [Transmit(error_reply(command_id, BusError.INTERNAL))]

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
        self.counted_refusals.append(refused.reason.value)
        return [Transmit(commands.refusal_reply(command_id, refused))]

    def rpc_failed(self, command_id: int) -> list[Effect]:
        """An RPC ended in an exception of ours."""
        self._calls -= 1
        return self.query_failed(command_id)

    def position_lost(self, channel: str, now: float) -> list[Effect]:
        """The feed of `channel` has a hole: make the SDK recover.

        SDKs forget a server-side subscription when it is taken away, so those need a
        reconnect; a client-side one is subscribed to again on its own.
        """
        if self.phase is Phase.CLOSED or channel not in self._subscriptions:
            return []
        if self._subscriptions[channel] is Source.SERVER:
            return self.close(Disconnect.INSUFFICIENT_STATE, now)
        del self._subscriptions[channel]
        push = commands.unsubscribe_push(channel, SUBSCRIPTION_LOST, "insufficient state")
        return [Leave(channel), Transmit(push)]

    def debug_info(self) -> dict[str, object]:
        """For a person."""
        return {
            "client": self.client,
            "phase": self.phase.name,
            "caller": dataclasses.asdict(self.caller) if self.caller else None,
            "subscriptions": {c: str(s) for c, s in self._subscriptions.items()},
            "calls": self._calls,
        }

    # --- commands --------------------------------------------------------------------

    def _take_line(self, line: bytes, effects: list[Effect], now: float) -> None:
        try:
            command = decode_command(line)
        except BadCommand:
            self.counted_refusals.append("malformed")
            effects += self.close(Disconnect.BAD_REQUEST, now)
            return
        if self.phase is Phase.JOINING and command.request() is not None:
            if len(self._waiting) >= self._limits.max_waiting:
                self.counted_refusals.append("too_many_requests")
                effects += self.close(Disconnect.TOO_MANY_REQUESTS, now)
            else:
                self._waiting.append(command)
            return
        self._take(command, effects, now)

    def _take(self, command: Command, effects: list[Effect], now: float) -> None:
        request = command.request()
        if request is None:  # `{}` with unknown members: a pong, or a method we lack
            if command.id:
                effects.append(self._error(command.id, BusError.METHOD_NOT_FOUND))
            else:
                self._pong_by = float("inf")
            return
        is_connect = isinstance(request, commands.Connect)
        if is_connect != (self.phase is Phase.NEW) or (
            command.id == 0 and not isinstance(request, commands.Send)
        ):
            self.counted_refusals.append("out_of_order")
            effects += self.close(Disconnect.BAD_REQUEST, now)
            return
        match request:
            case commands.Connect():
                effects.append(self._connect(command.id, request, now))
            case commands.Rpc():
                effects.append(self._rpc(command.id, request))
            case commands.Subscribe():
                effects += self._subscribe(command.id, request)
            case commands.Unsubscribe():
                effects += self._unsubscribe(command.id, request.channel)
            case commands.Publish():
                effects.append(self._error(command.id, BusError.PERMISSION_DENIED))
            case commands.History():
                effects.append(self._history(command.id, request))
            case commands.Presence():
                effects.append(self._presence(command.id, request.channel, is_count=False))
            case commands.PresenceStats():
                effects.append(self._presence(command.id, request.channel, is_count=True))
            case commands.Ping():
                effects.append(Transmit(reply(command.id, b"ping")))
            case commands.Send():
                pass  # nobody listens, and the protocol has no answer to it
            case commands.Refresh():
                effects.append(Authenticate(command.id, request.token or "", is_refresh=True))
            case commands.SubRefresh():
                # Subscriptions live as long as the connection; they have no token.
                effects.append(self._error(command.id, BusError.NOT_AVAILABLE))

    def _connect(self, command_id: int, request: commands.Connect, now: float) -> Effect:
        self.phase = Phase.JOINING
        self._connect_request = request
        self._deadline = now + self._limits.join_timeout_s
        token = request.token or self._upgrade_token or ""
        return Authenticate(command_id, token, is_refresh=False)

    def _connected(
        self,
        command_id: int,
        joined: dict[str, Joined],
        now: float,
        unix_now: float,
        node: str,
    ) -> list[Effect]:
        caller, access = self.caller, self._access
        if caller is None or access is None:
            return []
        self.phase = Phase.OPEN
        self._access = None
        self._connect_request = None
        self._upgrade_token = None
        self._deadline = now + self._limits.ping_interval_s
        head = {
            "client": self.client,
            "version": VERSION,
            **_lifetime(access, unix_now),
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
        waiting, self._waiting = self._waiting, []
        for command in waiting:
            if self.phase is not Phase.OPEN:
                break
            self._take(command, effects, now)
        return effects

    def _rpc(self, command_id: int, request: commands.Rpc) -> Effect:
        caller = self._opened()
        if not request.method:
            return self._error(command_id, BusError.BAD_REQUEST)
        if self._calls >= self._limits.max_calls:
            self.counted_refusals.append(Reason.BUSY.value)
            return Transmit(error_reply(command_id, BusError.TOO_MANY_REQUESTS, Reason.BUSY.value))
        if caller.room == ANY_ROOM:
            self.counted_refusals.append(Reason.BAD_REQUEST.value)
            refused = Refused(Reason.BAD_REQUEST, detail="name a room in the connect data")
            return Transmit(commands.refusal_reply(command_id, refused))
        self._calls += 1
        return CallRpc(command_id, caller, request.method, bytes(request.data) or b"{}")

    def _subscribe(self, command_id: int, request: commands.Subscribe) -> list[Effect]:
        parsed = parse_channel(request.channel)
        if parsed is None or not channels.may_read(self._opened(), parsed):
            return [self._error(command_id, BusError.PERMISSION_DENIED)]
        if request.channel in self._subscriptions:
            return [self._error(command_id, BusError.ALREADY_SUBSCRIBED)]
        if len(self._subscriptions) >= self._limits.max_subscriptions:
            return [self._error(command_id, BusError.LIMIT_EXCEEDED)]
        if parsed.namespace not in KEPT:
            self._subscriptions[request.channel] = Source.CLIENT
            message = reply(command_id, b"subscribe", commands.subscription(None))
            return [Transmit(message), Enter(request.channel)]
        self._subscriptions[request.channel] = command_id
        return [Join(command_id, ((request.channel, request.since()),))]

    def _unsubscribe(self, command_id: int, channel: str) -> list[Effect]:
        source = self._subscriptions.get(channel)
        done = Transmit(reply(command_id, b"unsubscribe"))
        if source is None:
            return [done]
        if source is Source.SERVER:
            return [self._error(command_id, BusError.PERMISSION_DENIED)]
        # A subscribe still under way stays unanswered: SDKs forget it with the unsubscribe.
        del self._subscriptions[channel]
        return [Leave(channel), done]

    def _history(self, command_id: int, request: commands.History) -> Effect:
        parsed = parse_channel(request.channel)
        if parsed is None or not channels.may_read(self._opened(), parsed):
            return self._error(command_id, BusError.PERMISSION_DENIED)
        if parsed.namespace not in KEPT:
            return self._error(command_id, BusError.NOT_AVAILABLE)
        limit = request.limit if request.limit >= 0 else self._limits.max_history
        since = request.since
        return ReadHistory(
            command_id,
            request.channel,
            Position(since.epoch, since.offset) if since is not None else None,
            min(limit, self._limits.max_history),
            request.reverse,
        )

    def _presence(self, command_id: int, channel: str, *, is_count: bool) -> Effect:
        parsed = parse_channel(channel)
        caller = self._opened()
        if parsed is None or not channels.may_read(caller, parsed):
            return self._error(command_id, BusError.PERMISSION_DENIED)
        if parsed.namespace is not channels.Namespace.ROOM:
            return self._error(command_id, BusError.NOT_AVAILABLE)
        if not is_count and caller.role not in channels.PRESENCE_READERS:
            return self._error(command_id, BusError.PERMISSION_DENIED)
        return ReadPresence(command_id, channel, is_count)

    # --- helpers ---------------------------------------------------------------------

    def _opened(self) -> Caller:
        if self.caller is None:
            raise AssertionError("an open connection has a caller")
        return self.caller

    def _error(self, command_id: int, error: BusError) -> Transmit:
        self.counted_refusals.append(error.name.lower())
        return Transmit(error_reply(command_id, error))

    def _back_to_new(self, now: float) -> None:
        self.phase = Phase.NEW
        self._connect_request = None
        self._access = None
        self.caller = None
        self._subscriptions.clear()
        self._waiting.clear()
        self._expires_at = float("inf")
        self._deadline = now + self._limits.connect_timeout_s

    def _enter_closed(self, deadline: float) -> None:
        self.phase = Phase.CLOSED
        self._connect_request = None
        self._access = None
        self._waiting.clear()
        self._subscriptions.clear()
        self._expires_at = self._pong_by = float("inf")
        self._deadline = deadline

    def _spend(self, now: float) -> bool:
        """Take one token from the bucket; below zero the command is refused."""
        limits = self._limits
        filled = self._tokens + (now - self._tokens_at) * limits.commands_per_s
        self._tokens = min(filled, limits.command_burst) - 1
        self._tokens_at = now
        return self._tokens >= 0

    def _over_limit(self, line: bytes, effects: list[Effect], now: float) -> None:
        """Too fast: answer "too many requests", and close on who does not listen."""
        self.counted_refusals.append("too_many_requests")
        if self._tokens < -self._limits.command_debt:
            effects += self.close(Disconnect.TOO_MANY_REQUESTS, now)
            return
        if not line or line == commands.PING:
            return
        try:
            command_id = decode_command(line).id
        except BadCommand:
            effects += self.close(Disconnect.BAD_REQUEST, now)
            return
        if command_id:
            effects.append(Transmit(error_reply(command_id, BusError.TOO_MANY_REQUESTS)))


def _in_room(caller: Caller, data: msgspec.Raw) -> Caller:
    """An administrator's caller, moved into the room that the connect data names, if any."""
    if not bytes(data):
        return caller
    try:
        room = msgspec.json.decode(data, type=_ConnectData).room
    except msgspec.MsgspecError:
        return caller
    return dataclasses.replace(caller, room=room) if is_room_name(room) else caller


def _lifetime(access: Access, unix_now: float) -> dict[str, object]:
    """`expires` and `ttl` (whole seconds, at least 1) of a connect or refresh result."""
    return {"expires": True, "ttl": max(1, int(access.expires_at - unix_now))}
