"""RESP3, the protocol of Redis and Valkey, as far as an engine needs it. Pure.

One connection carries replies in the order of the commands, and pushes between them; the
order of the two on the wire is the order in which the server did things, and everything
in the shared engine leans on that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

Reply: TypeAlias = "bool | int | float | bytes | ReplyError | list[Reply] | Push | None"
Argument: TypeAlias = "bytes | str | int"

MAX_REPLY_BYTES: Final = 256 * 1024 * 1024


class ReplyError(Exception):
    """The server's answer was an error; the first word is its kind."""

    @property
    def kind(self) -> str:
        """`MOVED`, `NOSCRIPT`, `READONLY`, `ERR`, …"""
        return str(self).partition(" ")[0]


class BrokenReply(Exception):
    """What came is not RESP3: whatever is on the other end, it is no Redis."""


class Push:
    """Something the server says unasked, for instance a message of a subscription."""

    __slots__ = ("items",)

    def __init__(self, items: list[Reply]) -> None:
        self.items = items


class _Incomplete(Exception):
    """More bytes are needed."""


def encode(command: Sequence[Argument]) -> bytes:
    """One command as an array of bulk strings."""
    parts = [b"*%d\r\n" % len(command)]
    for argument in command:
        if isinstance(argument, str):
            argument = argument.encode()
        elif isinstance(argument, int):
            argument = b"%d" % argument
        parts.append(b"$%d\r\n%b\r\n" % (len(argument), argument))
    return b"".join(parts)


class Parser:
    """Takes bytes as they come, gives whole replies and pushes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Reply]:
        """Everything that `data` completes. Raises BrokenReply."""
        self._buffer += data
        if len(self._buffer) > MAX_REPLY_BYTES:
            raise BrokenReply("a reply is too long")
        buffer, position = bytes(self._buffer), 0
        try:
            while position < len(buffer):
                reply, position = _parse(buffer, position)
                yield reply
        except _Incomplete:
            pass
        except RecursionError:
            raise BrokenReply("replies within replies without end") from None
        finally:
            del self._buffer[:position]


def _parse(buffer: bytes, start: int) -> tuple[Reply, int]:
    end = buffer.find(b"\r\n", start)
    if end < 0:
        raise _Incomplete
    kind, line, after = buffer[start : start + 1], buffer[start + 1 : end], end + 2
    try:
        match kind:
            case b"+":
                return line, after
            case b":":
                return int(line), after
            case b"$" | b"=" | b"!":
                size = int(line)
                if size < 0:
                    return None, after
                stop = after + size
                if len(buffer) < stop + 2:
                    raise _Incomplete
                text = buffer[after:stop]
                if kind == b"!":
                    return ReplyError(text.decode(errors="replace")), stop + 2
                return (text[4:] if kind == b"=" else text), stop + 2
            case b"*" | b"~" | b">" | b"%":
                return _parse_many(buffer, after, int(line), kind)
            case b"-":
                return ReplyError(line.decode(errors="replace")), after
            case b"_":
                return None, after
            case b"#":
                return line == b"t", after
            case b",":
                return float(line), after
            case b"(":
                return int(line), after
            case b"|":  # attributes say nothing that we asked for
                _, after = _parse_many(buffer, after, int(line), b"%")
                return _parse(buffer, after)
            case _:
                raise BrokenReply(f"unknown reply type {kind!r}")
    except ValueError as error:
        raise BrokenReply(str(error)) from None


def _parse_many(buffer: bytes, position: int, count: int, kind: bytes) -> tuple[Reply, int]:
    """An aggregate; a map comes as a flat list of keys and values."""
    if count < 0:
        return None, position
    items: list[Reply] = []
    for _ in range(count * 2 if kind == b"%" else count):
        item, position = _parse(buffer, position)
        items.append(item)
    return (Push(items) if kind == b">" else items), position
