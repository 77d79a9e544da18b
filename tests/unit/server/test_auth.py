"""Tokens: what is accepted, what is refused and by which word."""

from __future__ import annotations

import base64
import json
import os
import stat
import threading
from pathlib import Path

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interact.protocol import Reason, Role
from server.auth import (
    ALLOWED,
    ISSUABLE,
    AccessDenied,
    Action,
    Tokens,
    bearer_of,
    load_or_create_secret,
    new_guest_identity,
    require_camera,
)
from server.config import ConfigError

SECRET = b"0123456789abcdef0123456789abcdef"
NOW = 1_700_000_000.0
TOKENS = Tokens(SECRET)


def signed(**changes: object) -> str:
    claims: dict[str, object] = {"sub": "ann", "room": "shop", "role": "viewer", "exp": NOW + 60}
    claims.update(changes)
    claims = {key: value for key, value in claims.items() if value is not None}
    return jwt.encode(claims, SECRET, algorithm="HS256")


def reason_of(token: str | None, now: float = NOW) -> Reason:
    with pytest.raises(AccessDenied) as caught:
        TOKENS.verify(token, now)
    return caught.value.reason


def unsigned(header: dict[str, object], payload: dict[str, object]) -> str:
    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part(header)}.{part(payload)}."


@given(
    identity=st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=128),
    role=st.sampled_from(Role),
    name=st.none() | st.text(st.characters(categories=["L", "N"]), max_size=64),
    camera=st.none() | st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    ttl_s=st.integers(1, 10_000),
)
def test_issued_token_comes_back_as_its_grant(
    identity: str, role: Role, name: str | None, camera: str | None, ttl_s: int
) -> None:
    if camera == "program":
        camera = None
    token = TOKENS.issue(
        room="shop", role=role, identity=identity, now=NOW, ttl_s=ttl_s, name=name, camera=camera
    )
    grant = TOKENS.verify(token, NOW)
    assert (grant.identity, grant.role, grant.name, grant.camera) == (identity, role, name, camera)
    assert grant.expires_at == int(NOW) + ttl_s


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_any_text_at_all_is_refused_as_a_bad_token(text: str) -> None:
    assert reason_of(text) is (Reason.BAD_TOKEN if text else Reason.NO_TOKEN)


@given(st.data())
def test_one_changed_character_is_refused(data: st.DataObject) -> None:
    token = signed()
    # The last character of a part carries unused bits that may change nothing.
    index = data.draw(st.sampled_from([i for i, c in enumerate(token[:-1]) if token[i + 1] != "."]))
    other = data.draw(st.sampled_from("ABCxyz019-_"))
    if token[index] in (other, "."):
        return
    assert reason_of(token[:index] + other + token[index + 1 :]) is Reason.BAD_TOKEN


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": None},
        {"sub": ""},
        {"sub": "two words"},
        {"sub": "x" * 129},
        {"sub": "\ud800"},
        {"room": None},
        {"room": "../etc"},
        {"room": "*"},
        {"room": "*", "role": "host"},
        {"role": None},
        {"role": "king"},
        {"role": ["admin"]},
        {"exp": None},
        {"exp": "soon"},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"name": "x" * 65},
        {"name": "a\nb"},
        {"camera": "program"},
        {"camera": "a/b"},
        {"camera": ""},
        {"nbf": NOW + 5},
    ],
)
def test_claim_that_breaks_a_rule_is_a_bad_token(changes: dict[str, object]) -> None:
    assert reason_of(signed(**changes)) is Reason.BAD_TOKEN


def test_other_algorithms_and_keys_are_refused() -> None:
    claims: dict[str, object] = {"sub": "a", "room": "shop", "role": "admin", "exp": NOW + 60}
    assert reason_of(unsigned({"alg": "none", "typ": "JWT"}, claims)) is Reason.BAD_TOKEN
    assert reason_of(jwt.encode(claims, SECRET * 2, algorithm="HS512")) is Reason.BAD_TOKEN
    assert reason_of(jwt.encode(claims, SECRET * 2, algorithm="HS256")) is Reason.BAD_TOKEN


def test_over_long_token_is_refused_before_any_work() -> None:
    assert reason_of("a" * 5000) is Reason.BAD_TOKEN


def test_token_ends_exactly_at_its_expiry() -> None:
    token = signed()
    assert TOKENS.verify(token, NOW + 59.9).identity == "ann"
    assert reason_of(token, NOW + 60) is Reason.EXPIRED_TOKEN


def test_admin_of_every_room_covers_any_room() -> None:
    token = TOKENS.issue(room="*", role=Role.ADMIN, identity="root", now=NOW)
    assert TOKENS.authorize(token, "shop", Action.PUBLISH, NOW).covers("anything")


def test_only_an_admin_gets_a_token_for_every_room() -> None:
    with pytest.raises(ValueError, match="no token"):
        TOKENS.issue(room="*", role=Role.HOST, identity="x", now=NOW)


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("role", list(Role))
def test_action_table_decides_by_role(action: Action, role: Role) -> None:
    token = signed(role=role.value)
    if role in ALLOWED[action]:
        assert TOKENS.authorize(token, "shop", action, NOW).role is role
        return
    with pytest.raises(AccessDenied) as caught:
        TOKENS.authorize(token, "shop", action, NOW)
    assert caught.value.reason is Reason.NOT_ALLOWED


def test_other_room_is_told_apart_from_a_missing_right() -> None:
    with pytest.raises(AccessDenied) as caught:
        TOKENS.authorize(signed(), "other", Action.PUBLISH, NOW)
    assert caught.value.reason is Reason.WRONG_ROOM


def test_everybody_may_watch_and_three_roles_publish() -> None:
    assert ALLOWED[Action.WATCH] == frozenset(Role)
    assert ALLOWED[Action.PUBLISH] == {Role.CAMERA, Role.HOST, Role.ADMIN}


def test_host_cannot_issue_host_or_admin() -> None:
    assert not ISSUABLE[Role.HOST] & {Role.HOST, Role.ADMIN}


def test_camera_claim_limits_to_that_camera() -> None:
    grant = TOKENS.verify(signed(role="camera", camera="left"), NOW)
    require_camera(grant, "left")
    with pytest.raises(AccessDenied):
        require_camera(grant, "right")
    require_camera(TOKENS.verify(signed(role="camera"), NOW), "right")


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", None),
    ],
)
def test_bearer_header(header: str | None, token: str | None) -> None:
    assert bearer_of(header) == token


def test_guests_do_not_share_an_identity() -> None:
    names = {new_guest_identity() for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith("guest-") for name in names)


def test_secret_is_made_once_private_and_long(tmp_path: Path) -> None:
    data = tmp_path / "deep" / "data"
    secret = load_or_create_secret(data)
    assert len(secret) >= 32
    assert load_or_create_secret(data) == secret
    assert stat.S_IMODE((data / "secret").stat().st_mode) == 0o600
    assert os.listdir(data) == ["secret"]


def test_secret_is_the_same_for_all_who_start_together(tmp_path: Path) -> None:
    results: list[bytes] = []
    start = threading.Barrier(8)

    def create() -> None:
        start.wait()
        results.append(load_or_create_secret(tmp_path))

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 and len(set(results)) == 1


def test_secret_with_open_permissions_is_closed(tmp_path: Path) -> None:
    load_or_create_secret(tmp_path)
    (tmp_path / "secret").chmod(0o644)
    load_or_create_secret(tmp_path)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_short_secret_and_unusable_directory_are_settings_errors(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("short")
    with pytest.raises(ConfigError, match="at least 32 bytes"):
        load_or_create_secret(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can be written"):
        load_or_create_secret(tmp_path / "file")


def test_neither_key_nor_token_shows_in_repr() -> None:
    assert SECRET.decode() not in repr(TOKENS)
    assert "expires_at" in repr(TOKENS.verify(signed(), NOW))
