"""Channel names and who may read them."""

from __future__ import annotations

import pytest

from interact.channels import ParsedChannel, channels_at_connect, may_read, parse_channel
from interact.protocol import Role
from interact.rooms import Caller


@pytest.mark.parametrize(
    "name",
    ["", "room", "room:", ":shop", "room:a b", "room:*", "user:shop", "user:shop:", "user::ann",
     "bus:shop", "Room:shop", "room:shop:x", "user:shop:a b", "room:" + "x" * 65],
)  # fmt: skip
def test_nonsense_is_no_channel(name: str) -> None:
    assert parse_channel(name) is None


def test_identity_may_contain_colons() -> None:
    parsed = parse_channel("user:shop:oidc:ann")
    assert parsed == ParsedChannel(parsed.namespace, "shop", "oidc:ann") if parsed else False


TABLE: list[tuple[Role, str]] = [
    (Role.VIEWER, "room tick"),
    (Role.CAMERA, "room tick"),
    (Role.SCREEN, "room tick screen"),
    (Role.MODERATOR, "room tick screen stage"),
    (Role.HOST, "room tick screen stage"),
    (Role.DIRECTOR, "room tick screen stage"),
    (Role.ADMIN, "room tick screen stage"),
]


@pytest.mark.parametrize(("role", "words"), TABLE)
def test_role_reads_its_room_s_channels_and_no_other_s(role: Role, words: str) -> None:
    caller = Caller("shop", "ann", role)
    for word in ("room", "tick", "screen", "stage"):
        own = parse_channel(f"{word}:shop")
        other = parse_channel(f"{word}:mall")
        assert own is not None
        assert other is not None
        assert may_read(caller, own) is (word in words.split())
        assert not may_read(caller, other)


def test_own_person_s_channel_only_even_for_an_admin() -> None:
    for room in ("shop", "*"):
        admin = Caller(room, "boss", Role.ADMIN)
        own = parse_channel("user:shop:boss")
        other = parse_channel("user:shop:ann")
        assert own is not None
        assert other is not None
        assert may_read(admin, own)
        assert not may_read(admin, other)


def test_admin_of_every_room_reads_any_but_joins_none_at_connect() -> None:
    admin = Caller("*", "boss", Role.ADMIN)
    stage = parse_channel("stage:mall")
    assert stage is not None
    assert may_read(admin, stage)
    assert channels_at_connect(admin) == ()
