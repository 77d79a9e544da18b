"""RFC 6455 frames of the server's side."""

from __future__ import annotations

import pytest
from websockets.frames import Frame
from websockets.frames import Opcode as TheirOpcode

from interact.frames import (
    MAX_MESSAGE_BYTES,
    FrameError,
    FrameReader,
    Message,
    Opcode,
    encode_close,
    encode_text,
    unmask,
)


def client_frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A masked frame as the `websockets` library writes it."""
    return Frame(TheirOpcode(opcode), payload, fin).serialize(mask=True)


@pytest.mark.parametrize("size", [0, 1, 124, 125, 126, 127, 65_535, 65_536, 70_000])
def test_text_frame_equals_the_library_s(size: int) -> None:
    payload = b"x" * size
    assert encode_text(payload) == Frame(TheirOpcode.TEXT, payload).serialize(mask=False)


def test_close_frame_cuts_a_long_reason_at_a_character() -> None:
    frame = encode_close(3008, "ä" * 100)
    assert len(frame) - 2 <= 125
    assert frame[2:4] == (3008).to_bytes(2, "big")
    assert frame[4:].decode() == "ä" * 61


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 1_000])
def test_unmask_is_its_own_inverse(size: int) -> None:
    payload = bytes(n % 251 for n in range(size))
    mask = b"\x01\x80\xff\x00"
    assert unmask(unmask(payload, mask), mask) == payload


@pytest.mark.parametrize("size", [0, 2, 125, 126, 65_535, MAX_MESSAGE_BYTES])
def test_reader_takes_what_the_library_writes(size: int) -> None:
    payload = b"y" * size
    assert FrameReader().feed(client_frame(1, payload)) == [Message(Opcode.TEXT, payload)]


def test_messages_in_one_read_come_in_order_and_byte_by_byte_alike() -> None:
    data = b"".join(
        [
            client_frame(1, b"one"),
            client_frame(9, b"ping"),
            client_frame(2, b"two"),
            client_frame(8, b"\x0b\xb8"),
        ]
    )
    expected = [
        Message(Opcode.TEXT, b"one"),
        Message(Opcode.PING, b"ping"),
        Message(Opcode.BINARY, b"two"),
        Message(Opcode.CLOSE, b"\x0b\xb8"),
    ]
    assert FrameReader().feed(data) == expected
    reader = FrameReader()
    assert [m for n in range(len(data)) for m in reader.feed(data[n : n + 1])] == expected


def test_fragments_are_joined_around_a_control_frame() -> None:
    reader = FrameReader()
    assert reader.feed(client_frame(1, b"he", fin=False)) == []
    assert reader.feed(client_frame(10, b"")) == [Message(Opcode.PONG, b"")]
    assert reader.feed(client_frame(0, b"ll", fin=False)) == []
    assert reader.feed(client_frame(0, b"o")) == [Message(Opcode.TEXT, b"hello")]
    assert reader.feed(client_frame(1, b"again")) == [Message(Opcode.TEXT, b"again")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x00", 1002),  # no mask
        (b"\xc1\x80\0\0\0\0", 1002),  # compressed, which was not agreed
        (b"\x83\x80\0\0\0\0", 1002),  # reserved opcode
        (b"\x09\x80\0\0\0\0", 1002),  # ping in fragments
        (b"\x89\xfe\x00\x80", 1002),  # ping over 125 bytes
        (b"\x80\x80\0\0\0\0", 1002),  # continuation of nothing
        (client_frame(1, b"a", fin=False) + client_frame(1, b"b"), 1002),
        (b"\x81\xff" + (2**63).to_bytes(8, "big"), 1009),
        (b"\x81\xff" + (MAX_MESSAGE_BYTES + 1).to_bytes(8, "big"), 1009),
        (
            client_frame(1, b"a" * 40_000, fin=False) + client_frame(0, b"b" * 40_000),
            1009,
        ),
    ],
    ids=[
        "no mask",
        "compressed",
        "reserved opcode",
        "ping in fragments",
        "long ping",
        "continuation of nothing",
        "two beginnings",
        "2**63 bytes",
        "too long",
        "too long together",
    ],
)
def test_broken_frames_name_their_close_code(data: bytes, code: int) -> None:
    with pytest.raises(FrameError) as caught:
        FrameReader().feed(data)
    assert caught.value.code == code
