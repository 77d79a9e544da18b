"""ICE servers as `Link` headers, with credentials that end."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from server.config import IceServer, parse_ice_server
from server.ice import TURN_TTL_S, ice_links, turn_credentials

NOW = 1_800_000_000.9


def test_stun_has_no_credentials() -> None:
    assert ice_links([IceServer("stun:a.example:3478")], "ann", NOW) == [
        '<stun:a.example:3478>; rel="ice-server"'
    ]


def test_fixed_account_is_quoted() -> None:
    (link,) = ice_links([IceServer("turn:a.example", "u", 'p"\\w')], "ann", NOW)
    assert link == (
        '<turn:a.example>; rel="ice-server"; username="u"; '
        'credential="p\\"\\\\w"; credential-type="password"'
    )


def test_shared_secret_makes_credentials_that_name_their_end() -> None:
    username, password = turn_credentials("s3cret", "ann", NOW)
    assert username == f"{1_800_000_000 + TURN_TTL_S}:ann"
    digest = hmac.new(b"s3cret", username.encode(), hashlib.sha1).digest()
    assert password == base64.b64encode(digest).decode()
    (link,) = ice_links([parse_ice_server("turn:a.example?secret=s3cret")], "ann", NOW)
    assert f'username="{username}"; credential="{password}"' in link
    assert "s3cret" not in link


@pytest.mark.parametrize("identity", ["王小明", 'a"b', "x" * 128, "a\\b"])
def test_any_identity_gives_an_ascii_header(identity: str) -> None:
    (link,) = ice_links([IceServer("turn:a", secret="s")], identity, NOW)
    assert link.isascii() and link.count('"') == 8
    username, _ = turn_credentials("s", identity, NOW)
    assert username == turn_credentials("s", identity, NOW)[0]


@pytest.mark.parametrize(
    ("text", "url", "secret"),
    [
        ("turn:a.example?secret=x", "turn:a.example", "x"),
        ("turns:a:5349?transport=tcp&secret=x=y", "turns:a:5349?transport=tcp", "x=y"),
        ("turn:[2001:db8::1]?secret=x&transport=udp", "turn:[2001:db8::1]?transport=udp", "x"),
    ],
)
def test_forms_with_a_secret(text: str, url: str, secret: str) -> None:
    server = parse_ice_server(text)
    assert (server.url, server.secret, server.username) == (url, secret, None)
    assert repr(server).startswith("IceServer(url=") and "secret" not in repr(server)


@pytest.mark.parametrize(
    "text",
    [
        "turn:u:p@a?secret=x",
        "stun:a?secret=x",
        "stun:a?transport=udp",
        "turn:a?secret=",
        "turn:a?secret=x&secret=y",
        "turn:a?secret=x&transport=sctp",
        "turn:a?secret=x&colour=red",
        "turn:a?",
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_ice_server(text)
