"""The Centrifugo client protocol in JSON: commands in, replies and pushes out, as bytes.

Several commands may share one text frame, a line each; replies likewise. A line that is
`{}` is the answer to our ping. Payloads (`data`) stay raw JSON: they are copied between
client and rooms, never decoded here. Unknown members are ignored, so newer SDKs work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import msgspec

from interact.engine import Position, Publication
from interact.protocol import REFUSAL_CODES, TEMPORARY, BusError, Reason, Refused
from interact.recovery import Joined

PING: Final = b"{}"
"""A server's ping and a client's pong, both."""

Offset = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_EMPTY_DATA: Final = msgspec.Raw(b"")


class BadCommand(Exception):
    """A line that is no command: the peer broke the protocol."""


class StreamPosition(msgspec.Struct):
    """`since` of a history command."""

    offset: Offset = 0
    epoch: str = ""


class Subscribe(msgspec.Struct):
    """Also the members of a connect command's `subs`, there without `channel`."""

    channel: str = ""
    recover: bool = False
    epoch: str = ""
    offset: Offset = 0

    def since(self) -> Position | None:
        """Where to recover from, if asked."""
        return Position(self.epoch, self.offset) if self.recover else None


class Connect(msgspec.Struct):
    token: str | None = None
    data: msgspec.Raw = _EMPTY_DATA
    subs: dict[str, Subscribe] | None = None


class Unsubscribe(msgspec.Struct):
    channel: str = ""


class Publish(msgspec.Struct):
    channel: str = ""


class Presence(msgspec.Struct):
    channel: str = ""


class PresenceStats(msgspec.Struct):
    channel: str = ""


class History(msgspec.Struct):
    channel: str = ""
    limit: int = 0
    since: StreamPosition | None = None
    reverse: bool = False


class Ping(msgspec.Struct):
    pass


class Send(msgspec.Struct):
    pass


class Rpc(msgspec.Struct):
    method: str = ""
    data: msgspec.Raw = _EMPTY_DATA


class Refresh(msgspec.Struct):
    token: str | None = None


class SubRefresh(msgspec.Struct):
    channel: str = ""


Request = (
    Connect
    | Subscribe
    | Unsubscribe
    | Publish
    | Presence
    | PresenceStats
    | History
    | Ping
    | Send
    | Rpc
    | Refresh
    | SubRefresh
)


class Command(msgspec.Struct):
    """One command; the first member that is set counts, as in Centrifugo."""

    id: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] = 0
    connect: Connect | None = None
    subscribe: Subscribe | None = None
    unsubscribe: Unsubscribe | None = None
    publish: Publish | None = None
    presence: Presence | None = None
    presence_stats: PresenceStats | None = None
    history: History | None = None
    ping: Ping | None = None
    send: Send | None = None
    rpc: Rpc | None = None
    refresh: Refresh | None = None
    sub_refresh: SubRefresh | None = None

    def request(self) -> Request | None:
        """What is asked; None for the empty command, a pong."""
        if self.rpc is not None:  # by far the most frequent
            return self.rpc
        return (
            self.connect
            or self.subscribe
            or self.unsubscribe
            or self.publish
            or self.presence
            or self.presence_stats
            or self.history
            or self.ping
            or self.send
            or self.refresh
            or self.sub_refresh
        )


_decoder: Final = msgspec.json.Decoder(Command)
_encode: Final = msgspec.json.encode


def decode_command(line: bytes) -> Command:
    """One line of a frame. Raises BadCommand, and nothing else, whatever the bytes."""
    try:
        if not line.isascii():
            line.decode()  # raw payloads are not checked by the decoder
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadCommand(str(error)) from None


# --- replies -------------------------------------------------------------------------


def reply(command_id: int, kind: bytes, result: bytes = b"{}") -> bytes:
    """`result` is a JSON object; `kind` the reply's member, for instance b"rpc"."""
    return b'{"id":%d,"%b":%b}' % (command_id, kind, result)


def rpc_reply(command_id: int, data: bytes) -> bytes:
    return b'{"id":%d,"rpc":{"data":%b}}' % (command_id, data)


ERROR_MESSAGES: Final[dict[BusError, str]] = {
    BusError.INTERNAL: "internal server error",
    BusError.UNAUTHORIZED: "unauthorized",
    BusError.UNKNOWN_CHANNEL: "unknown channel",
    BusError.PERMISSION_DENIED: "permission denied",
    BusError.METHOD_NOT_FOUND: "method not found",
    BusError.ALREADY_SUBSCRIBED: "already subscribed",
    BusError.LIMIT_EXCEEDED: "limit exceeded",
    BusError.BAD_REQUEST: "bad request",
    BusError.NOT_AVAILABLE: "not available",
    BusError.TOKEN_EXPIRED: "token expired",
    BusError.EXPIRED: "expired",
    BusError.TOO_MANY_REQUESTS: "too many requests",
    BusError.UNRECOVERABLE_POSITION: "unrecoverable position",
}
_TEMPORARY_ERRORS: Final = frozenset({BusError.INTERNAL, BusError.TOO_MANY_REQUESTS})


def error_reply(command_id: int, error: BusError, message: str | None = None) -> bytes:
    """One of Centrifugo's own errors."""
    body: dict[str, object] = {"code": int(error), "message": message or ERROR_MESSAGES[error]}
    if error in _TEMPORARY_ERRORS:
        body["temporary"] = True
    return b'{"id":%d,"error":%b}' % (command_id, _encode(body))


def refusal_reply(command_id: int, refused: Refused) -> bytes:
    """A refused RPC: code and word of its reason, details such as `minimum` flat beside them."""
    if refused.reason is Reason.UNKNOWN_METHOD:
        return error_reply(command_id, BusError.METHOD_NOT_FOUND)
    if refused.reason is Reason.INTERNAL:
        return error_reply(command_id, BusError.INTERNAL)
    code = REFUSAL_CODES.get(refused.reason, REFUSAL_CODES[Reason.BAD_REQUEST])
    body: dict[str, object] = {
        **({} if str(refused) == refused.reason.value else {"detail": str(refused)}),
        **refused.detail,
        "code": code,
        "message": refused.reason.value,
        "temporary": refused.reason in TEMPORARY,
    }
    return b'{"id":%d,"error":%b}' % (command_id, _encode(body))


def encode_publications(publications: Iterable[Publication]) -> bytes:
    """A JSON array of publications as history and recovery carry them."""
    return b"[%b]" % b",".join(
        b'{"data":%b,"offset":%d}' % (p.data, p.offset) for p in publications
    )


def subscription(joined: Joined | None) -> bytes:
    """A SubscribeResult; None for a channel that is not kept."""
    if joined is None:
        return b"{}"
    flags = b""
    if joined.was_recovering:
        flags = b',"was_recovering":true,"recovered":' + (b"true" if joined.recovered else b"false")
    if joined.publications:
        flags += b',"publications":' + encode_publications(joined.publications)
    return b'{"recoverable":true,"positioned":true,"epoch":%b,"offset":%d%b}' % (
        _encode(joined.epoch),
        joined.offset,
        flags,
    )


def connect_result(head: Mapping[str, object], subs: Mapping[str, bytes]) -> bytes:
    """A ConnectResult: `head` plus already encoded subscriptions by channel."""
    body = _encode(head)
    members = b",".join(b"%b:%b" % (_encode(channel), sub) for channel, sub in subs.items())
    return b'%b,"subs":{%b}}' % (body[:-1], members)


def history_result(position: Position, publications: Iterable[Publication]) -> bytes:
    return b'{"publications":%b,"epoch":%b,"offset":%d}' % (
        encode_publications(publications),
        _encode(position.epoch),
        position.offset,
    )


def encode_object(value: Mapping[str, object]) -> bytes:
    """Any small result object."""
    return _encode(value)


# --- pushes --------------------------------------------------------------------------


def publication_push(channel: str, data: bytes, offset: int) -> bytes:
    """A publication of a kept channel."""
    return b'{"push":{"channel":%b,"pub":{"data":%b,"offset":%d}}}' % (
        _encode(channel),
        data,
        offset,
    )


def tick_push(channel: str, data: bytes) -> bytes:
    """A publication of a channel that is not kept: no offset."""
    return b'{"push":{"channel":%b,"pub":{"data":%b}}}' % (_encode(channel), data)


def unsubscribe_push(channel: str, code: int, reason: str) -> bytes:
    """The server ended a client-side subscription; at 2500 and above the SDK subscribes again."""
    body = _encode({"code": code, "reason": reason})
    return b'{"push":{"channel":%b,"unsubscribe":%b}}' % (_encode(channel), body)


def join_push(channel: str, info: bytes) -> bytes:
    return b'{"push":{"channel":%b,"join":{"info":%b}}}' % (_encode(channel), info)


def leave_push(channel: str, info: bytes) -> bytes:
    return b'{"push":{"channel":%b,"leave":{"info":%b}}}' % (_encode(channel), info)
