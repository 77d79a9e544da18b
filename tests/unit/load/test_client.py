"""The load client's pure parts: packets cut and put together, counts, answers."""

from __future__ import annotations

import random

import pytest
from aiortc.codecs.h264 import H264PayloadDescriptor
from aiortc.codecs.vpx import VpxPayloadDescriptor
from hypothesis import given
from hypothesis import strategies as st

from loadtest.counting import StreamCount
from loadtest.offers import BadAnswer, Credentials, offer, read_answer
from loadtest.packetize import MAX_PAYLOAD_BYTES, h264_payloads, nal_units, vp8_payloads
from media.sdp import parse_offer

NAL = st.builds(
    lambda kind, body: bytes([0x60 | kind]) + bytes(b or 1 for b in body) + b"\x80",
    st.sampled_from([1, 5, 6, 7, 8]),
    st.binary(max_size=4000),
)


@given(st.lists(NAL, min_size=1, max_size=6))
def test_h264_survives_cutting_and_joining(units: list[bytes]) -> None:
    """A foreign depayloader (aiortc's) gives back every NAL unit in order."""
    stream = b"".join(b"\0\0\0\1" + unit for unit in units)
    payloads = h264_payloads(stream)
    assert all(len(p) <= MAX_PAYLOAD_BYTES for p in payloads)
    joined = b"".join(H264PayloadDescriptor.parse(p)[1] for p in payloads)
    assert list(nal_units(joined)) == units


@given(st.binary(min_size=1, max_size=5000), st.integers(0, 0x7FFF))
def test_vp8_survives_cutting_and_joining(frame: bytes, picture_id: int) -> None:
    payloads = vp8_payloads(frame, picture_id)
    parsed = [VpxPayloadDescriptor.parse(p) for p in payloads]
    assert b"".join(rest for _, rest in parsed) == frame
    assert [d.partition_start for d, _ in parsed] == [1] + [0] * (len(parsed) - 1)
    assert {d.picture_id for d, _ in parsed} == {picture_id}


@pytest.mark.parametrize("start", [0, 1, 127, 128, 32767, 32768, 65534, 65535])
def test_loss_is_counted_over_wrap_around(start: int) -> None:
    count = StreamCount(90_000)
    sent = [(start + n) & 0xFFFF for n in range(100)]
    gone = {start + 10 & 0xFFFF, start + 11 & 0xFFFF, start + 50 & 0xFFFF}
    for n, seq in enumerate(sent):
        if seq not in gone:
            count.count(seq, n * 3600, 7, 1000, n * 0.04)
    assert count.lost == 3
    assert count.packets == 97
    count.count(start + 50 & 0xFFFF, 50 * 3600, 7, 1000, 4.1)
    assert (count.lost, count.late, count.duplicates) == (2, 1, 0)
    count.count(start + 50 & 0xFFFF, 50 * 3600, 7, 1000, 4.2)
    assert (count.lost, count.late, count.duplicates) == (2, 1, 1)


@given(st.integers(0, 65535), st.integers(0, 2**31))
def test_reordering_alone_is_no_loss(start: int, seed: int) -> None:
    order = list(range(60))
    rng = random.Random(seed)
    for at in range(0, 56, 4):
        part = order[at + 1 : at + 4]
        rng.shuffle(part)
        order[at + 1 : at + 4] = part
    count = StreamCount(48_000)
    for n in order:
        count.count(start + n & 0xFFFF, n * 960, 1, 100, n * 0.02)
    assert (count.lost, count.duplicates, count.packets) == (0, 0, 60)


def test_even_arrival_has_no_jitter() -> None:
    count = StreamCount(90_000)
    for n in range(50):
        count.count(n, n * 3600, 1, 100, 5 + n * 0.04)
    assert count.jitter_ms < 0.01
    assert count.longest_gap_s == pytest.approx(0.04)


@pytest.mark.parametrize("sending", [None, (11, 12)])
def test_servers_reader_accepts_our_offer(sending: tuple[int, int] | None) -> None:
    text = offer(
        Credentials("abcd", "x" * 24),
        ":".join(["AB"] * 32),
        video=["H264", "VP8"],
        audio=True,
        sending=sending,
    )
    parsed = parse_offer(text)
    assert [s.kind for s in parsed.sections] == ["audio", "video"]
    assert {c.name for c in parsed.sections[1].codecs} == {"H264", "VP8"}
    assert parsed.bundle == ("0", "1")


ANSWER = """v=0
m=video 9 UDP/TLS/RTP/SAVPF 102
a=ice-ufrag:srv
a=ice-pwd:secretsecretsecretsecret
a=fingerprint:sha-256 AA:BB
a=setup:passive
a=sendonly
a=rtpmap:102 H264/90000
a=ssrc:99 cname:x
a=candidate:1 1 udp 100 10.0.0.1 8189 typ host
a=candidate:2 1 udp 200 127.0.0.1 8189 typ host
"""


def test_answer_is_read() -> None:
    answer = read_answer(ANSWER.replace("\n", "\r\n"))
    assert answer.remote == Credentials("srv", "secretsecretsecretsecret")
    assert answer.is_dtls_server
    assert answer.candidates == [("127.0.0.1", 8189), ("10.0.0.1", 8189)]
    assert answer.lines[0].payload_types == {102: "H264"}
    assert answer.lines[0].ssrcs == (99,)


@pytest.mark.parametrize("word", ["ice-ufrag", "ice-pwd", "fingerprint", "setup", "candidate"])
def test_answer_without_a_part_is_refused(word: str) -> None:
    lines = [line for line in ANSWER.splitlines() if word not in line]
    with pytest.raises(BadAnswer):
        read_answer("\r\n".join(lines))
