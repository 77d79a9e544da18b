"""WebSocket frames of the server's side (RFC 6455), and nothing else.

A broadcast is framed once: server frames carry no mask, so the same bytes serve every
socket. `FrameReader` takes whatever the network delivers, in any slicing, and gives back
whole messages and control frames. It keeps a buffer only while a frame is incomplete, so
an idle connection costs it four empty slots. No extensions (permessage-deflate would
mean one compression a viewer), no sockets, no clock.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

MAX_MESSAGE_BYTES: Final = 65_536
"""Longest message taken from a client; a bid is about 100 bytes, a connect about 600."""

_FIN: Final = 0x80
_MASKED: Final = 0x80
_MAX_CONTROL_BYTES: Final = 125
_MAX_REASON_BYTES: Final = 123
_EMPTY: Final = b""


class Opcode(IntEnum):
    """RFC 6455 §5.2."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class Message(NamedTuple):
    """A whole text or binary message, or one control frame, unmasked."""

    opcode: Opcode
    payload: bytes


class FrameError(Exception):
    """The peer broke RFC 6455; `code` is the close code to answer with."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


PROTOCOL_ERROR: Final = 1002
TOO_BIG: Final = 1009


def encode_frame(opcode: Opcode, payload: bytes) -> bytes:
    """One whole unmasked frame; the same bytes may be written to any number of sockets."""
    size = len(payload)
    if size < 126:
        return bytes((_FIN | opcode, size)) + payload
    if size < 65_536:
        return bytes((_FIN | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((_FIN | opcode, 127)) + size.to_bytes(8, "big") + payload


def encode_text(payload: bytes) -> bytes:
    """A text message in one frame; `payload` must be UTF-8."""
    return encode_frame(Opcode.TEXT, payload)


def encode_close(code: int, reason: str) -> bytes:
    """A close frame; a reason over 123 bytes is cut at a character."""
    text = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()
    return encode_frame(Opcode.CLOSE, code.to_bytes(2, "big") + text)


def unmask(payload: bytes, mask: bytes) -> bytes:
    """XOR with the client's four-byte mask (RFC 6455 §5.3)."""
    size = len(payload)
    if not size:
        return payload
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


class FrameReader:
    """Cuts a client's byte stream into messages. One a connection, owned by its socket."""

    __slots__ = ("_buffer", "_max_bytes", "_opcode", "_parts")

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._buffer = _EMPTY
        self._opcode: Opcode | None = None  # of the fragmented message under way
        self._parts = _EMPTY

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes, give the messages they complete, in order.

        Raises FrameError, and nothing else, whatever the bytes; the reader is then spent.
        The messages that came before the error in the same call are lost with it.
        """
        buffer = self._buffer + data if self._buffer else data
        messages: list[Message] = []
        at = 0
        size = len(buffer)
        while size - at >= 2:
            end, payload_at, length = self._header(buffer, at, size)
            if end > size:
                break
            payload = unmask(
                buffer[payload_at : payload_at + length], buffer[payload_at - 4 : payload_at]
            )
            self._take(buffer[at], payload, messages)
            at = end
        self._buffer = bytes(buffer[at:]) if at < size else _EMPTY
        return messages

    def _header(self, buffer: bytes, at: int, size: int) -> tuple[int, int, int]:
        """End of the frame, start and length of its payload; an end past `size`: incomplete."""
        first, second = buffer[at], buffer[at + 1]
        if first & 0x70:
            raise FrameError(PROTOCOL_ERROR, "reserved bits set")
        if not second & _MASKED:
            raise FrameError(PROTOCOL_ERROR, "frame not masked")
        length = second & 0x7F
        payload_at = at + 6
        if length > _MAX_CONTROL_BYTES:
            if first & 0x08:
                raise FrameError(PROTOCOL_ERROR, "control frame too long")
            width = 2 if length == 126 else 8
            if size < at + 2 + width:
                return size + 1, 0, 0
            length = int.from_bytes(buffer[at + 2 : at + 2 + width], "big")
            payload_at += width
        if length + len(self._parts) > self._max_bytes:
            raise FrameError(TOO_BIG, "message too big")
        return payload_at + length, payload_at, length

    def _take(self, first: int, payload: bytes, messages: list[Message]) -> None:
        is_final = bool(first & _FIN)
        try:
            opcode = Opcode(first & 0x0F)
        except ValueError:
            raise FrameError(PROTOCOL_ERROR, "unknown opcode") from None
        if opcode >= Opcode.CLOSE:
            if not is_final:
                raise FrameError(PROTOCOL_ERROR, "fragmented control frame")
            messages.append(Message(opcode, payload))
        elif opcode is not Opcode.CONTINUATION:
            if self._opcode is not None:
                raise FrameError(PROTOCOL_ERROR, "message inside a message")
            if is_final:
                messages.append(Message(opcode, payload))
            else:
                self._opcode, self._parts = opcode, payload
        else:
            if self._opcode is None:
                raise FrameError(PROTOCOL_ERROR, "continuation of nothing")
            self._parts += payload
            if is_final:
                messages.append(Message(self._opcode, self._parts))
                self._opcode, self._parts = None, _EMPTY
