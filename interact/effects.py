"""What a `Connection` wants done: the shell runs these in order.

Reading history, checking a token or calling a room takes time; each such effect names the
method of `Connection` that takes its outcome.
"""

from __future__ import annotations

from dataclasses import dataclass

from interact.commands import error_reply
from interact.engine import Position
from interact.protocol import BusError
from interact.recovery import Joined
from interact.rooms import Caller


@dataclass(frozen=True, slots=True)
class Access:
    """A checked token. `expires_at` is Unix time in seconds.

    A `caller.room` of "*" is every room; such an administrator names one in the connect
    command's data.
    """

    caller: Caller
    expires_at: float


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send one reply or push (JSON); several in a row may share a frame.

    `refusal` is the word to count, where the message refuses something.
    """

    message: bytes
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """Something was refused without an answer."""

    refusal: str


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Check a token: `admit` or `turn_away`, for a refresh `admit_refresh` or `refuse_refresh`."""

    command_id: int
    token: str
    is_refresh: bool


@dataclass(frozen=True, slots=True)
class Join:
    """Enter kept channels, reading history after the position where one is given.

    `command_id` is the connect's or subscribe's. Outcome: `joined` or `join_failed`.
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
    """Deliver no more."""

    channel: str


@dataclass(frozen=True, slots=True)
class ReadHistory:
    """Outcome: `history_read` or `query_failed`."""

    command_id: int
    channel: str
    since: Position | None
    limit: int
    reverse: bool


@dataclass(frozen=True, slots=True)
class ReadPresence:
    """Outcome: `presence_read`."""

    command_id: int
    channel: str
    is_count: bool


@dataclass(frozen=True, slots=True)
class CallRpc:
    """Outcome: `rpc_answered`, `rpc_refused` or `rpc_failed`; calls may overtake each other."""

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
    | Count
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


def refuse(command_id: int, error: BusError, message: str | None = None) -> Transmit:
    """An error reply that is counted under its own name, or under `message`."""
    refusal = message or error.name.lower()
    return Transmit(error_reply(command_id, error, message), refusal)
