"""Access tokens: who somebody is, in which room, and what the role lets them do.

A token is a JWT signed with HS256 by the secret in the data directory; any program
that holds the secret may issue one (contract §3). Nothing here logs or repeats a token.
Every refusal is `AccessDenied` with a reason: `no_token`, `bad_token` and
`expired_token` mean "come with another token", `wrong_room` and `not_allowed` mean
"this one will never do". None of them tells whether a room or camera exists.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import jwt
import msgspec

from interact.protocol import (
    CameraId,
    Identity,
    Reason,
    Role,
    RoomId,
    is_camera_name,
    is_identity,
    is_room_name,
)
from server.config import ConfigError

ALGORITHM: Final = "HS256"
MIN_SECRET_BYTES: Final = 32
MAX_TOKEN_CHARS: Final = 4096
MAX_NAME_CHARS: Final = 64
ANY_ROOM: Final = RoomId("*")
"""`room` of a token for every room; only an admin's may say so."""
DEFAULT_TTL_S: Final = 86_400
MAX_TTL_S: Final = 10 * 365 * 86_400
SECRET_FILE: Final = "secret"


class Action(StrEnum):
    """What a role may or may not do over HTTP; bus commands have their own table."""

    WATCH = "watch"
    PUBLISH = "publish"
    RUN_LOTS = "run_lots"
    CREATE_ROOM = "create_room"
    ISSUE_TOKENS = "issue_tokens"
    CUT = "cut"
    INSPECT = "inspect"


_EVERYBODY: Final = frozenset(Role)
ALLOWED: Final[dict[Action, frozenset[Role]]] = {
    Action.WATCH: _EVERYBODY,
    Action.PUBLISH: frozenset({Role.CAMERA, Role.HOST, Role.ADMIN}),
    Action.RUN_LOTS: frozenset({Role.HOST, Role.ADMIN}),
    Action.CREATE_ROOM: frozenset({Role.HOST, Role.ADMIN}),
    Action.ISSUE_TOKENS: frozenset({Role.HOST, Role.ADMIN}),
    Action.CUT: frozenset({Role.HOST, Role.DIRECTOR, Role.ADMIN}),
    Action.INSPECT: frozenset({Role.ADMIN}),
}

ISSUABLE: Final[dict[Role, frozenset[Role]]] = {
    Role.ADMIN: frozenset(Role),
    Role.HOST: frozenset({Role.VIEWER, Role.CAMERA, Role.DIRECTOR, Role.SCREEN, Role.MODERATOR}),
}
"""Which roles a bearer may issue tokens for; everybody else none."""

OPENS_ROOM: Final = frozenset({Role.CAMERA, Role.HOST, Role.ADMIN})
"""The first valid use of such a token makes its room exist."""


class AccessDenied(Exception):
    """A request without the right to be made; `reason` is all the peer learns."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Grant:
    """A checked token. `expires_at` is Unix time in seconds."""

    identity: Identity
    room: RoomId
    role: Role
    expires_at: int
    name: str | None = None
    camera: CameraId | None = None

    def covers(self, room: str) -> bool:
        """Whether the token is for `room`."""
        return self.room in (room, ANY_ROOM)


class _Claims(msgspec.Struct):
    """The claims as they must be on the wire; other claims are ignored."""

    sub: str
    room: str
    role: Role
    exp: float
    name: str | None = None
    camera: str | None = None
    nbf: float | None = None


class Tokens:
    """Issues and checks tokens with one secret. Pure: time comes in as `now`, Unix seconds."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"the secret needs {MIN_SECRET_BYTES} bytes, not {len(secret)}")
        self._secret = secret

    def __repr__(self) -> str:
        return "Tokens(…)"

    def issue(
        self,
        *,
        room: str,
        role: Role,
        identity: str,
        now: float,
        ttl_s: int = DEFAULT_TTL_S,
        name: str | None = None,
        camera: str | None = None,
    ) -> str:
        """Sign a token. Raises ValueError for claims that `verify` would not accept."""
        grant = _grant(_Claims(identity, room, role, int(now) + ttl_s, name, camera))
        if grant is None or not 0 < ttl_s <= MAX_TTL_S:
            raise ValueError("no token can say that")
        claims: dict[str, object] = {
            "sub": identity,
            "room": room,
            "role": role.value,
            "exp": grant.expires_at,
        }
        if name is not None:
            claims["name"] = name
        if camera is not None:
            claims["camera"] = camera
        return jwt.encode(claims, self._secret, algorithm=ALGORITHM)

    def verify(self, token: str | None, now: float) -> Grant:
        """Check signature, form and time. Raises AccessDenied; never anything else."""
        if not token:
            raise AccessDenied(Reason.NO_TOKEN)
        if len(token) > MAX_TOKEN_CHARS or not token.isascii():
            raise AccessDenied(Reason.BAD_TOKEN)
        try:
            # Time is checked below by our own clock; the audience is nobody's business.
            payload = jwt.decode_complete(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False,
                         "verify_aud": False, "verify_iss": False, "verify_sub": False,
                         "verify_jti": False},
            )["payload"]  # fmt: skip
            claims = msgspec.convert(payload, _Claims)
            grant = _grant(claims)
        except (jwt.PyJWTError, msgspec.ValidationError, OverflowError, ValueError):
            raise AccessDenied(Reason.BAD_TOKEN) from None
        if grant is None or (claims.nbf is not None and now < claims.nbf):
            raise AccessDenied(Reason.BAD_TOKEN)
        if now >= claims.exp:
            raise AccessDenied(Reason.EXPIRED_TOKEN)
        return grant

    def authorize(self, token: str | None, room: str, action: Action, now: float) -> Grant:
        """`verify`, then check that the token is for `room` and its role may do `action`."""
        grant = self.verify(token, now)
        require(grant, room, action)
        return grant


def require(grant: Grant, room: str, action: Action) -> None:
    """Raise AccessDenied unless the grant is for `room` and its role may do `action`."""
    if not grant.covers(room):
        raise AccessDenied(Reason.WRONG_ROOM)
    if grant.role not in ALLOWED[action]:
        raise AccessDenied(Reason.NOT_ALLOWED)


def require_camera(grant: Grant, camera: str) -> None:
    """Raise AccessDenied if the token names a camera and it is not this one."""
    if grant.camera is not None and grant.camera != camera:
        raise AccessDenied(Reason.NOT_ALLOWED)


def _grant(claims: _Claims) -> Grant | None:
    """The grant that the claims amount to, or None if they break a rule."""
    any_room = claims.room == ANY_ROOM and claims.role is Role.ADMIN
    if not any_room and not is_room_name(claims.room):
        return None
    # A lone surrogate passes the name rule and then breaks every encoder behind it.
    if not is_identity(claims.sub) or not claims.sub.isprintable():
        return None
    if claims.camera is not None and not is_camera_name(claims.camera):
        return None
    name = claims.name
    if name is not None and (len(name) > MAX_NAME_CHARS or not name.isprintable()):
        return None
    return Grant(
        identity=Identity(claims.sub),
        room=RoomId(claims.room),
        role=claims.role,
        expires_at=int(claims.exp),
        name=name,
        camera=CameraId(claims.camera) if claims.camera is not None else None,
    )


def bearer_of(header: str | None) -> str | None:
    """The token of an `Authorization` header, None when it is absent or of another scheme."""
    if header is None:
        return None
    scheme, _, token = header.strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def new_guest_identity() -> Identity:
    """An identity nobody else has; 80 random bits."""
    return Identity("guest-" + base64.b32encode(secrets.token_bytes(10)).decode().lower())


def load_or_create_secret(data: Path) -> bytes:
    """The key that signs tokens, made on first use. Raises ConfigError.

    The file's text, without surrounding white space, is the key. Safe when a server
    and a `livehouse token` start together: whoever links the file first wins, and
    nobody ever reads half a secret.
    """
    path = data / SECRET_FILE
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _create_secret(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            path.chmod(0o600)
        secret = path.read_bytes().strip()
    except OSError as error:
        allowed = f"a directory that can be written; {error.strerror}: {error.filename or path}"
        raise ConfigError("data", str(data), allowed) from error
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigError(
            "data",
            str(data),
            f"{path} must hold at least {MIN_SECRET_BYTES} bytes; delete it to get a new one",
        )
    return secret


def _create_secret(path: Path) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(binascii.hexlify(secrets.token_bytes(MIN_SECRET_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        draft.unlink()
