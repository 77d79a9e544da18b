"""Ids, names, roles, reasons and codes that every part of Livehouse shares.

The only module that `media` and `interact` have in common. Standard library and
msgspec only; no logic beyond building and checking names. `docs/protocol.md` is
the prose form and a test holds the two together.
"""

from __future__ import annotations

import re
from enum import IntEnum, StrEnum
from typing import Final, NewType

RoomId = NewType("RoomId", str)
CameraId = NewType("CameraId", str)
Identity = NewType("Identity", str)
LotId = NewType("LotId", str)
SessionId = NewType("SessionId", str)
Channel = NewType("Channel", str)

PROGRAM: Final = "program"
"""The reserved camera name: whatever the director has on air."""

MAX_NAME_LENGTH: Final = 64
MAX_IDENTITY_LENGTH: Final = 128
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_IDENTITY = re.compile(r"[^\s\x00-\x1f\x7f]{1,128}\Z")


def is_room_name(name: str) -> bool:
    """Whether `name` can name a room: 1-64 of A-Z a-z 0-9 . _ -, a letter or digit first."""
    return _NAME.match(name) is not None


def is_camera_name(name: str) -> bool:
    """Whether `name` can name a camera: like a room, and not the reserved `program`."""
    return name != PROGRAM and _NAME.match(name) is not None


def is_identity(identity: str) -> bool:
    """Whether `identity` can stand in a token's `sub`: 1-128 characters, no white space."""
    return _IDENTITY.match(identity) is not None


class Role(StrEnum):
    """What a token lets its bearer do (contract §3)."""

    VIEWER = "viewer"
    CAMERA = "camera"
    HOST = "host"
    DIRECTOR = "director"
    SCREEN = "screen"
    MODERATOR = "moderator"
    ADMIN = "admin"


class Reason(StrEnum):
    """Why something was refused. The words are part of the public contract."""

    # Bids and lots.
    NOT_OPEN = "not_open"
    TOO_LOW = "too_low"
    OWN_LEAD = "own_lead"
    OWN_LOT = "own_lot"
    RATE_LIMITED = "rate_limited"
    BAD_KEY = "bad_key"
    NOT_ALLOWED = "not_allowed"
    BUSY = "busy"
    NO_LOT = "no_lot"
    BAD_STATE = "bad_state"
    # Requests.
    BAD_REQUEST = "bad_request"
    BAD_SDP = "bad_sdp"
    BAD_NAME = "bad_name"
    NO_CODEC = "no_codec"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_FOUND = "not_found"
    UNKNOWN_METHOD = "unknown_method"
    # Access.
    NO_TOKEN = "no_token"
    BAD_TOKEN = "bad_token"
    EXPIRED_TOKEN = "expired_token"
    WRONG_ROOM = "wrong_room"
    # Media sessions.
    NOT_LIVE = "not_live"
    NO_SESSION = "no_session"
    NO_CAMERA = "no_camera"
    ETAG_MISMATCH = "etag_mismatch"
    ETAG_MISSING = "etag_missing"
    FULL = "full"
    # Ours.
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


REFUSAL_CODES: Final[dict[Reason, int]] = {
    Reason.NOT_OPEN: 1000,
    Reason.TOO_LOW: 1001,
    Reason.OWN_LEAD: 1002,
    Reason.OWN_LOT: 1003,
    Reason.RATE_LIMITED: 1004,
    Reason.BAD_KEY: 1005,
    Reason.NOT_ALLOWED: 1006,
    Reason.BUSY: 1007,
    Reason.NO_LOT: 1008,
    Reason.BAD_STATE: 1009,
    Reason.BAD_REQUEST: 1010,
    Reason.NO_CAMERA: 1011,
    Reason.NOT_FOUND: 1012,
    Reason.UNAVAILABLE: 1013,
}
"""Bus error code of each reason an RPC can be refused with.

Centrifugo keeps 100-399 for itself and leaves 400-1999 to applications.
"""

TEMPORARY: Final = frozenset({Reason.RATE_LIMITED, Reason.BUSY, Reason.UNAVAILABLE})
"""Reasons after which the same request may succeed later (`temporary: true` on the bus)."""


class Refused(Exception):
    """A legal wish turned down: answered with its reason, never logged as an error.

    `detail` holds extra members for the answer, for instance `minimum`.
    """

    def __init__(self, reason: Reason, message: str = "", **detail: object) -> None:
        super().__init__(message or reason.value)
        self.reason = reason
        self.detail = detail


class BusError(IntEnum):
    """Centrifugo's own error codes, where they say what we mean."""

    INTERNAL = 100
    UNAUTHORIZED = 101
    UNKNOWN_CHANNEL = 102
    PERMISSION_DENIED = 103
    METHOD_NOT_FOUND = 104
    ALREADY_SUBSCRIBED = 105
    LIMIT_EXCEEDED = 106
    BAD_REQUEST = 107
    NOT_AVAILABLE = 108
    TOKEN_EXPIRED = 109
    EXPIRED = 110
    TOO_MANY_REQUESTS = 111
    UNRECOVERABLE_POSITION = 112


class Disconnect(IntEnum):
    """WebSocket close codes. SDKs reconnect after 3000-3499 and stop after 3500-3999."""

    CONNECTION_CLOSED = 3000
    SHUTDOWN = 3001
    SERVER_ERROR = 3004
    EXPIRED = 3005
    SLOW = 3008
    INSUFFICIENT_STATE = 3010
    NO_PONG = 3012
    TOO_MANY_REQUESTS = 3013
    INVALID_TOKEN = 3500
    BAD_REQUEST = 3501
    STALE = 3502
    FORCED = 3503
    CONNECTION_LIMIT = 3504
    PERMISSION_DENIED = 3507


class Event(StrEnum):
    """`type` of every event that a channel carries."""

    LOT_CREATED = "lot.created"
    LOT_OPENED = "lot.opened"
    LOT_EXTENDED = "lot.extended"
    LOT_SOLD = "lot.sold"
    LOT_UNSOLD = "lot.unsold"
    LOT_CANCELLED = "lot.cancelled"
    BID_ACCEPTED = "bid.accepted"
    BID_RECEIPT = "bid.receipt"
    BID_OUTBID = "bid.outbid"
    LOT_WON = "lot.won"
    CAMERA_LIVE = "camera.live"
    CAMERA_OFFLINE = "camera.offline"
    PROGRAM_CHANGED = "program.changed"
    CAMERA_LAYERS = "camera.layers"
    TICK = "tick"


def room_channel(room: str) -> Channel:
    """Every event of the room that a late-comer must not miss; kept and recoverable."""
    return Channel(f"room:{room}")


def tick_channel(room: str) -> Channel:
    """Aggregated counters, latest wins; not kept."""
    return Channel(f"tick:{room}")


def user_channel(room: str, identity: str) -> Channel:
    """What only this person may see; kept and recoverable."""
    return Channel(f"user:{room}:{identity}")


def screen_channel(room: str) -> Channel:
    """What big screens show; kept."""
    return Channel(f"screen:{room}")


def stage_channel(room: str) -> Channel:
    """For hosts, directors and moderators; kept."""
    return Channel(f"stage:{room}")
