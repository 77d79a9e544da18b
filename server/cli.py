"""The `livehouse` command. A bad option or setting is one line and exit status 2."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Final, NoReturn

from interact.protocol import PROGRAM, Role, is_camera_name, is_identity, is_room_name
from server.auth import ANY_ROOM, DEFAULT_TTL_S, MAX_TTL_S, Tokens, load_or_create_secret
from server.config import (
    ConfigError,
    Settings,
    flag_of,
    load_settings,
    options_for,
)

EXIT_USAGE: Final = 2

_SUMMARIES: Final = {
    "serve": "the server",
    "demo": "the server with a demo room: moving cameras, bots that bid and cheer",
    "token": "print one access token on standard output, nothing else",
    "verify": "replay the ledger independently of the server and check every invariant",
    "doctor": "check ports, UDP reachability, codecs, clock, disk, Redis; say what to do",
    "load": "drive load against any running server",
}


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        # `load` has its own options and help, so nothing here may touch them.
        if arguments[:1] == ["load"]:
            return _delegate("loadtest.cli", arguments[1:])
        return _run(_parser().parse_args(arguments))
    except ConfigError as error:
        print(f"livehouse: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return 130


def _parser() -> _Parser:
    parser = _Parser(prog="livehouse", description="Low-latency live video, bidding and crowds.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command, summary in _SUMMARIES.items():
        sub = commands.add_parser(command, help=summary, description=summary + ".")
        if command == "load":
            continue
        sub.add_argument("--config", metavar="FILE.toml", help="settings file")
        if command in ("token", "verify"):
            sub.add_argument("--room", metavar="ROOM", required=command == "token", help="room")
        if command == "token":
            _add_token_options(sub)
        defaults = Settings()
        for item, option in options_for(command):
            shown = getattr(defaults, item.name)
            note = f" (default: {shown})" if option.metavar and shown not in (None, (), "") else ""
            text = (option.help + note).replace("%", "%%")
            if option.metavar:
                sub.add_argument(
                    flag_of(item.name),
                    metavar=option.metavar,
                    action="append" if option.is_list else "store",
                    help=text,
                )
            else:
                sub.add_argument(
                    flag_of(item.name), action=argparse.BooleanOptionalAction, help=text
                )
    return parser


def _add_token_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--role", required=True, metavar="ROLE", help=", ".join(Role))
    sub.add_argument("--camera", metavar="CAMERA", help="the only camera the token may publish")
    sub.add_argument("--identity", metavar="ID", help="who the bearer is (default: the role)")
    sub.add_argument("--name", metavar="NAME", help="name that others see")
    sub.add_argument(
        "--ttl", metavar="SECONDS", default=str(DEFAULT_TTL_S), help="seconds it is good for"
    )


def _run(arguments: argparse.Namespace) -> int:
    command: str = arguments.command
    given = vars(arguments)
    settings = load_settings(
        {name: given.get(name) for name in ["config", *(item.name for item in fields(Settings))]},
        os.environ,
        command,
    )
    match command:
        case "serve" | "demo":
            from server.supervisor import serve

            if command == "demo" and settings.log_level == "info":
                # A newcomer's first screen is the start screen; warnings still show.
                settings = replace(settings, log_level="warning")
            return serve(settings, with_demo=command == "demo")
        case "token":
            print(_token(settings, arguments))
            return 0
        case "verify":
            from interact.verify import run_verify

            if settings.redis is not None:
                return _verify_redis(settings.redis, arguments.room)
            return run_verify(settings.data, arguments.room, print)
        case "doctor":
            from server.doctor import examine

            return examine(settings)
        case _:
            raise AssertionError(command)


def _verify_redis(url: str, room: str | None) -> int:
    """Copy the shared ledger into a file of its own and verify that."""
    from interact.redis_dump import dump_redis
    from interact.redis_link import RedisError
    from interact.verify import run_verify

    with tempfile.TemporaryDirectory(prefix="livehouse-verify-") as scratch:
        try:
            asyncio.run(dump_redis(url, room, Path(scratch)))
        except RedisError as error:
            print(f"livehouse verify: {error}")
            return EXIT_USAGE
        return run_verify(Path(scratch), room, print)


def _delegate(module: str, arguments: list[str]) -> int:
    """Run a command that lives elsewhere, loaded only when it is asked for."""
    if importlib.util.find_spec(module) is None:
        raise ConfigError("command", module, "it is not in this version yet")
    status = importlib.import_module(module).main(arguments)
    assert isinstance(status, int)
    return status


def _token(settings: Settings, arguments: argparse.Namespace) -> str:
    """The token asked for. Raises ConfigError that names what cannot be."""
    roles = ", ".join(Role)
    try:
        role = Role(arguments.role)
    except ValueError:
        raise ConfigError("--role", arguments.role, f"one of {roles}") from None
    room: str = arguments.room
    if not is_room_name(room) and not (room == ANY_ROOM and role is Role.ADMIN):
        allowed = "1-64 of A-Z a-z 0-9 . _ -, a letter or digit first; * for an admin"
        raise ConfigError("--room", room, allowed)
    camera: str | None = arguments.camera
    if camera is not None and not is_camera_name(camera):
        allowed = f"1-64 of A-Z a-z 0-9 . _ -, a letter or digit first; {PROGRAM} is reserved"
        raise ConfigError("--camera", camera, allowed)
    identity: str = arguments.identity or role.value
    if not is_identity(identity) or not identity.isprintable():
        raise ConfigError("--identity", identity, "1-128 characters, no white space")
    ttl: str = arguments.ttl
    if not (ttl.isascii() and ttl.isdecimal() and 0 < int(ttl[:12]) <= MAX_TTL_S):
        raise ConfigError("--ttl", ttl, f"whole seconds, 1 to {MAX_TTL_S}")
    tokens = Tokens(load_or_create_secret(settings.data))
    try:
        return tokens.issue(
            room=room,
            role=role,
            identity=identity,
            now=time.time(),
            ttl_s=int(ttl),
            name=arguments.name,
            camera=camera,
        )
    except ValueError:
        raise ConfigError("--name", str(arguments.name), "1-64 printable characters") from None


if __name__ == "__main__":
    sys.exit(main())
