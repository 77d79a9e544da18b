"""One frozen settings object, read once: flag beats environment beats file.

Each option is a field of `Settings` with an `Option` in its metadata: how a text
or a TOML value becomes a value, what is allowed, and what `--help` and
`docs/operations.md` say about it. The command line, the environment, the file and
the documentation test all walk the same fields, so no option can miss one of them.

Relative paths are taken from the working directory, wherever they were written.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from interact.protocol import is_room_name

ENV_PREFIX: Final = "LIVEHOUSE_"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
MAX_WORKERS: Final = 64
MAX_BOTS: Final = 500
MAX_GUEST_TTL_S: Final = 30 * 86_400

_ICE_SERVER = re.compile(
    r"(?P<scheme>stuns?|turns?):(?:(?P<user>[^:@\s]+):(?P<password>[^@\s]+)@)?"
    r"(?P<host>\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+)(?P<port>:\d{1,5})?(?:\?(?P<query>[!-~]+))?\Z"
)
_REDIS_SCHEMES: Final = frozenset({"redis", "rediss", "unix"})


class ConfigError(Exception):
    """A setting that cannot be used. Its text is one line: key, value, what is allowed."""

    def __init__(self, key: str, value: object, allowed: str) -> None:
        shown = value if isinstance(value, str) else repr(value)
        self.key = key
        super().__init__(f"{key}: {_one_line(str(shown))!r} cannot be used; {allowed}")


def _one_line(text: str, limit: int = 120) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server for peers that cannot reach the media port directly."""

    url: str
    username: str | None = None
    credential: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    """Shared with the TURN server: credentials are made for each session, and end."""


# ---------------------------------------------------------------- value parsers
# Each takes the text of a flag or environment variable, or a TOML value, and
# raises ValueError; what is allowed stands in the option.

Parser = Callable[[object], object]


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\x00" in value:
        raise ValueError
    return value.strip()


def _whole(low: int, high: int) -> Parser:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError
        if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,12}", value.strip()):
            raise ValueError
        number = int(value)
        if not low <= number <= high:
            raise ValueError
        return number

    return parse


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    match str(value).strip().lower() if isinstance(value, str) else value:
        case "1" | "true" | "yes" | "on":
            return True
        case "0" | "false" | "no" | "off" | "":
            return False
        case _:
            raise ValueError


def _path(value: object) -> Path:
    return Path(_text(value)).expanduser()


def _host(value: object) -> str:
    host = _text(value)
    if not re.fullmatch(r"[A-Za-z0-9.:%_-]{1,253}", host):
        raise ValueError
    return host


def _ip(value: object) -> str:
    address = ipaddress.ip_address(_text(value))
    if address.is_unspecified or address.is_multicast:
        raise ValueError
    return str(address)


def _one_of(*allowed: str) -> Parser:
    def parse(value: object) -> str:
        word = _text(value).lower()
        if word not in allowed:
            raise ValueError
        return word

    return parse


def _room(value: object) -> str:
    name = _text(value)
    if not is_room_name(name):
        raise ValueError
    return name


def _redis(value: object) -> str:
    url = _text(value)
    parts = urlsplit(url)
    if parts.scheme not in _REDIS_SCHEMES or not (parts.netloc or parts.path):
        raise ValueError
    return url


def _origin(value: object) -> str:
    origin = _text(value)
    if origin == "*":
        return origin
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
        raise ValueError
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _base_url(value: object) -> str:
    parts = urlsplit(_text(value))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError
    return f"{parts.scheme}://{parts.netloc}"


def _address(value: object) -> str:
    host, colon, port = _text(value).rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ValueError
    return f"{_host(host.removeprefix('[').removesuffix(']'))}:{int(port)}"


def _secret(value: object) -> str:
    secret = _text(value)
    if not re.fullmatch(r"[!-~]{16,128}", secret):
        raise ValueError
    return secret


def parse_ice_server(value: object) -> IceServer:
    """Read one of three forms; `?transport=udp` or `tcp` may follow each TURN form.

    `stun:HOST[:PORT]`, `turn:USER:PASSWORD@HOST[:PORT]`, `turn:HOST[:PORT]?secret=SECRET`.
    Raises ValueError.
    """
    match = _ICE_SERVER.match(_text(value))
    if match is None:
        raise ValueError
    query: dict[str, str] = {}
    for part in (match["query"] or "").split("&") if match["query"] else ():
        name, _, text = part.partition("=")
        if name not in ("transport", "secret") or name in query or not text:
            raise ValueError
        query[name] = text
    is_turn = match["scheme"].startswith("turn")
    ways_in = (match["user"] is not None) + ("secret" in query)
    if ways_in != is_turn or (query and not is_turn):
        raise ValueError
    url = f"{match['scheme']}:{match['host']}{match['port'] or ''}"
    if "transport" in query:
        if query["transport"] not in ("udp", "tcp"):
            raise ValueError
        url += f"?transport={query['transport']}"
    return IceServer(url, match["user"], match["password"], query.get("secret"))


def _list_of(parse_one: Parser) -> Parser:
    """A TOML array, or text with commas; a repeated flag comes as a list of texts."""

    def parse(value: object) -> tuple[object, ...]:
        items: list[object] = []
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, str):
                items += [piece for piece in part.split(",") if piece.strip()]
            else:
                items.append(part)
        return tuple(dict.fromkeys(parse_one(item) for item in items))

    return parse


# ---------------------------------------------------------------------- options


@dataclass(frozen=True, slots=True)
class Option:
    """How one setting is read and explained."""

    parse: Parser
    allowed: str
    help: str
    metavar: str = ""
    """Empty: a switch, given as `--name` or `--no-name`."""
    is_list: bool = False
    commands: frozenset[str] = frozenset({"serve", "demo"})


def _option(default: Any, option: Option) -> Any:
    return field(default=default, metadata={"option": option})


_DEMO_ONLY: Final = frozenset({"demo"})
_WITH_DATA: Final = frozenset({"serve", "demo", "token", "verify", "doctor"})
_WITH_NETWORK: Final = frozenset({"serve", "demo", "doctor"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set, validated whole. Passed on as small typed parts."""

    host: str = _option(
        "::",
        Option(_host, "an address or a host name",
               "address to listen on (default: every one, IPv6 and IPv4)", "HOST",
               commands=_WITH_NETWORK),
    )  # fmt: skip
    http_port: int = _option(
        8080,
        Option(_whole(0, 65_535), "a port, 0 to 65535; 0 takes a free one",
               "TCP port of pages, REST, WHIP/WHEP and the bus", "PORT", commands=_WITH_NETWORK),
    )  # fmt: skip
    media_port: int = _option(
        8189,
        Option(_whole(0, 65_535), "a port, 0 to 65535; 0 takes free ones",
               "UDP port of the first media worker; worker i uses PORT+i", "PORT",
               commands=_WITH_NETWORK),
    )  # fmt: skip
    data: Path = _option(  # noqa: RUF009  (a frozen path, safe to share)
        Path("data"),
        Option(_path, "a directory that can be written", "where ledger and secret are kept", "DIR",
               commands=_WITH_DATA),
    )  # fmt: skip
    redis: str | None = _option(
        None,
        Option(_redis, "redis://HOST:PORT/DB, rediss://… or unix://PATH",
               "ledger and channels in Redis 7 or Valkey, for several web workers", "URL",
               commands=_WITH_NETWORK | {"verify"}),
    )  # fmt: skip
    allow_weak_durability: bool = _option(
        False,
        Option(_switch, "true or false",
               "accept a Redis that may lose acknowledged bids when it dies",
               commands=_WITH_NETWORK),
    )  # fmt: skip
    web_workers: int = _option(
        1,
        Option(_whole(1, MAX_WORKERS), f"a whole number, 1 to {MAX_WORKERS}",
               "processes for pages, REST and the bus; more than one needs --redis", "N"),
    )  # fmt: skip
    media_workers: int = _option(
        1,
        Option(_whole(1, MAX_WORKERS), f"a whole number, 1 to {MAX_WORKERS}",
               "processes that relay media, each with its own UDP port", "N",
               commands=_WITH_NETWORK),
    )  # fmt: skip
    media_control: str = _option(
        "127.0.0.1:0",
        Option(_address, "HOST:PORT; port 0 takes free ones",
               "where media workers listen for servers and for each other; worker i uses PORT+i",
               "HOST:PORT"),
    )  # fmt: skip
    media_peer: tuple[str, ...] = _option(
        (),
        Option(_list_of(_base_url), "http://HOST:PORT",
               "media worker of another machine whose cameras can be watched here; repeatable",
               "URL", is_list=True),
    )  # fmt: skip
    media_secret: str | None = field(
        default=None,
        repr=False,
        metadata={"option": Option(_secret, "16 to 128 printable characters",
               "what media workers of several machines know each other by (default: a new one "
               "at each start)", "SECRET")},
    )  # fmt: skip
    public_ip: tuple[str, ...] = _option(
        (),
        Option(_list_of(_ip), "an IPv4 or IPv6 address that peers can reach",
               "address offered to peers for media; repeatable (default: found by itself)", "IP",
               is_list=True, commands=_WITH_NETWORK),
    )  # fmt: skip
    public_url: str | None = _option(
        None,
        Option(_base_url, "http://HOST[:PORT] or https://HOST[:PORT]",
               "address that people open, when a proxy stands in front", "URL"),
    )  # fmt: skip
    tls: bool = _option(
        False,
        Option(_switch, "true or false",
               "serve https and wss; without --cert and --key by a self-signed certificate"),
    )  # fmt: skip
    cert: Path | None = _option(  # noqa: RUF009
        None, Option(_path, "a PEM file", "certificate chain for --tls", "FILE")
    )
    key: Path | None = _option(  # noqa: RUF009
        None, Option(_path, "a PEM file", "private key for --tls", "FILE")
    )  # fmt: skip
    allow_origin: tuple[str, ...] = _option(
        ("*",),
        Option(_list_of(_origin), "* or an origin such as https://shop.example",
               "origins whose pages may call this server; repeatable", "ORIGIN", is_list=True),
    )  # fmt: skip
    ice_server: tuple[IceServer, ...] = _option(
        (),
        Option(_list_of(parse_ice_server),
               "stun:HOST[:PORT], turn:HOST[:PORT]?secret=SECRET[&transport=tcp] or "
               "turn:USER:PASSWORD@HOST[:PORT][?transport=tcp]",
               "STUN or TURN server announced to WHIP and WHEP clients; repeatable", "URL",
               is_list=True),
    )  # fmt: skip
    guest_ttl: int = _option(
        43_200,
        Option(_whole(60, MAX_GUEST_TTL_S), f"seconds, 60 to {MAX_GUEST_TTL_S}",
               "how long a guest's token from join lasts, in seconds", "SECONDS"),
    )  # fmt: skip
    open_rooms: bool = _option(
        True,
        Option(_switch, "true or false", "let guests join rooms that were not closed"),
    )
    max_connections: int = _option(
        20_000,
        Option(_whole(1, 1_000_000), "a whole number, 1 to 1000000",
               "TCP connections a web worker holds; more get 503", "N"),
    )  # fmt: skip
    log_level: str = _option(
        "info",
        Option(_one_of(*LOG_LEVELS), "one of " + ", ".join(LOG_LEVELS),
               "how much is logged", "LEVEL"),
    )  # fmt: skip
    print_json: bool = _option(
        False,
        Option(_switch, "true or false",
               "print one JSON line with the addresses on standard output when ready"),
    )  # fmt: skip
    demo_room: str = _option(
        "demo",
        Option(_room, "1-64 of A-Z a-z 0-9 . _ -, a letter or digit first",
               "room of the demo", "ROOM", commands=_DEMO_ONLY),
    )  # fmt: skip
    source: tuple[Path, ...] = _option(
        (),
        Option(_list_of(_path), "a video file", "video file to use as a demo camera; repeatable",
               "FILE", is_list=True, commands=_DEMO_ONLY),
    )  # fmt: skip
    bots: int = _option(
        8,
        Option(_whole(0, MAX_BOTS), f"a whole number, 0 to {MAX_BOTS}",
               "how many demo bots bid and cheer", "N", commands=_DEMO_ONLY),
    )  # fmt: skip


def split_address(address: str) -> tuple[str, int]:
    """`HOST:PORT` that was checked already, as its parts."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def option_of(item: Field[Any]) -> Option:
    """The `Option` of one field of `Settings`."""
    option = item.metadata["option"]
    assert isinstance(option, Option)
    return option


def options_for(command: str) -> list[tuple[Field[Any], Option]]:
    """The settings that `command` knows, in the order of `--help`."""
    pairs = [(item, option_of(item)) for item in fields(Settings)]
    return [(item, option) for item, option in pairs if command in option.commands]


def flag_of(name: str) -> str:
    """`http_port` → `--http-port`."""
    return "--" + name.replace("_", "-")


def env_of(name: str) -> str:
    """`http_port` → `LIVEHOUSE_HTTP_PORT`."""
    return ENV_PREFIX + name.upper()


def toml_key_of(name: str) -> str:
    """`http_port` → `http-port`; the file may also say `http_port`."""
    return name.replace("_", "-")


def read_file(path: Path) -> dict[str, object]:
    """The settings of one TOML file, by field name. Raises ConfigError."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("config", str(path), f"it cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError("config", str(path), f"it is not TOML: {_one_line(str(error))}") from None
    known = {item.name for item in fields(Settings)}
    values: dict[str, object] = {}
    for key, value in document.items():
        name = key.replace("-", "_")
        if name not in known:
            allowed = ", ".join(sorted(toml_key_of(item) for item in known))
            raise ConfigError(key, value, f"{path} may have only: {allowed}")
        values[name] = value
    return values


def load_settings(
    flags: Mapping[str, object], environment: Mapping[str, str], command: str = "serve"
) -> Settings:
    """Merge flags, environment and file into checked settings.

    `flags` holds what the command line gave, by field name (`config` names the file);
    None means not given. Raises ConfigError. A file may hold keys that only other
    commands use, so one file serves them all; they are checked just the same.
    """
    config = flags.get("config") or environment.get(env_of("config"))
    from_file = read_file(Path(str(config)).expanduser()) if config else {}
    values: dict[str, Any] = {}
    for item in fields(Settings):
        option, name = option_of(item), item.name
        given: object
        if flags.get(name) is not None:
            given, key = flags[name], flag_of(name)
        elif environment.get(env_of(name), "").strip():
            given, key = environment[env_of(name)], env_of(name)
        elif name in from_file:
            given, key = from_file[name], toml_key_of(name)
        else:
            continue
        try:
            values[name] = option.parse(given)
        except ValueError:
            raise ConfigError(key, _hide_secret(name, given), option.allowed) from None
    settings = Settings(**values)
    if command in ("serve", "demo"):
        _check_together(settings)
    return settings


def _hide_secret(name: str, given: object) -> object:
    """A mistyped TURN or Redis address still holds its password: show only its shape."""
    if name == "media_secret":
        return "…"
    if name not in ("ice_server", "redis"):
        return given
    items = given if isinstance(given, list) else [given]
    return ", ".join(hide_password(str(item)) for item in items)


def hide_password(url: str) -> str:
    """An address fit for a log or an error."""
    return re.sub(r"secret=[^&\s]*", "secret=…", re.sub(r":[^:@/]*@", ":…@", url))


def _check_together(settings: Settings) -> None:
    if settings.web_workers > 1 and settings.redis is None:
        raise ConfigError(
            "web-workers",
            str(settings.web_workers),
            "more than one needs --redis; with the embedded engine it must be 1",
        )
    if settings.media_port and settings.media_port + settings.media_workers - 1 > 65_535:
        raise ConfigError(
            "media-port",
            str(settings.media_port),
            f"with {settings.media_workers} media workers at most "
            f"{65_536 - settings.media_workers}",
        )
    host, port = split_address(settings.media_control)
    if port and port + settings.media_workers - 1 > 65_535:
        raise ConfigError(
            "media-control",
            settings.media_control,
            f"with {settings.media_workers} media workers the port is at most "
            f"{65_536 - settings.media_workers}",
        )
    if settings.media_secret is None and (settings.media_peer or not _is_loopback(host)):
        raise ConfigError(
            "media-secret", "", "--media-peer, and --media-control off this machine, need one"
        )
    if (settings.cert is None) != (settings.key is None):
        given = "cert" if settings.cert is not None else "key"
        raise ConfigError(given, str(settings.cert or settings.key), "give both --cert and --key")
    for name in ("cert", "key"):
        path = getattr(settings, name)
        if path is not None and not path.is_file():
            raise ConfigError(name, str(path), "there is no such file")
        if path is not None and not settings.tls:
            raise ConfigError(name, str(path), "it is used only with --tls")
    for path in settings.source:
        if not path.is_file():
            raise ConfigError("source", str(path), "there is no such file")
