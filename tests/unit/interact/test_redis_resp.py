"""RESP3: every reply type, cut anywhere; anything else is BrokenReply and nothing worse."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interact.redis_resp import BrokenReply, Parser, Push, Reply, ReplyError, encode


def plain(reply: Reply) -> object:
    """Comparable: errors and pushes as tuples."""
    if isinstance(reply, ReplyError):
        return ("error", str(reply))
    if isinstance(reply, Push):
        return ("push", [plain(item) for item in reply.items])
    if isinstance(reply, list):
        return [plain(item) for item in reply]
    return reply


CASES: list[tuple[bytes, object]] = [
    (b"+OK\r\n", b"OK"),
    (b"-MOVED 1 h:2\r\n", ("error", "MOVED 1 h:2")),
    (b":-12\r\n", -12),
    (b"$3\r\na\r\n\r\n", b"a\r\n"),
    (b"$0\r\n\r\n", b""),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"_\r\n", None),
    (b"#t\r\n", True),
    (b"#f\r\n", False),
    (b",1.5\r\n", 1.5),
    (b"(12345678901234567890\r\n", 12345678901234567890),
    (b"!9\r\nERR wrong\r\n", ("error", "ERR wrong")),
    (b"=7\r\ntxt:abc\r\n", b"abc"),
    (b"*2\r\n:1\r\n*1\r\n$1\r\nx\r\n", [1, [b"x"]]),
    (b"~1\r\n:1\r\n", [1]),
    (b"%1\r\n+k\r\n:1\r\n", [b"k", 1]),
    (b">3\r\n+smessage\r\n+c\r\n+d\r\n", ("push", [b"smessage", b"c", b"d"])),
    (b"|1\r\n+ttl\r\n:3\r\n:7\r\n", 7),
]


@pytest.mark.parametrize(("wire", "value"), CASES)
def test_each_type_is_read(wire: bytes, value: object) -> None:
    assert [plain(reply) for reply in Parser().feed(wire)] == [value]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1_000])
def test_replies_cut_anywhere_come_out_whole_and_in_order(step: int) -> None:
    wire = b"".join(wire for wire, _ in CASES)
    parser = Parser()
    found: list[object] = []
    for start in range(0, len(wire), step):
        found += [plain(reply) for reply in parser.feed(wire[start : start + step])]
    assert found == [value for _, value in CASES]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_reply_or_broken(wire: bytes) -> None:
    with contextlib.suppress(BrokenReply):
        list(Parser().feed(wire))


def test_endless_nesting_is_broken() -> None:
    with pytest.raises(BrokenReply, match="without end"):
        list(Parser().feed(b"*1\r\n" * 5_000))


def test_what_is_no_redis_is_broken() -> None:
    with pytest.raises(BrokenReply):
        list(Parser().feed(b"HTTP/1.1 400 Bad Request\r\n"))


def test_commands_are_arrays_of_bulk_strings() -> None:
    assert encode(["SET", b"\x00\xff", 12]) == b"*3\r\n$3\r\nSET\r\n$2\r\n\x00\xff\r\n$2\r\n12\r\n"


def test_kind_of_an_error_is_its_first_word() -> None:
    assert ReplyError("NOSCRIPT No matching script").kind == "NOSCRIPT"
