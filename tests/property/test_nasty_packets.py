"""Readers of network input return or raise only their own error, whatever the bytes.

Each reader gets the corpus as it is and as hypothesis has damaged it. The readers' own
tests feed them bytes from nowhere; these begin where trouble is likely.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.rtp.keyframe import picture_ids, picture_size, shift_picture_ids, starts_frame
from media.rtp.packet import extension_text, extension_u16, parse_header, unwrap_rtx
from media.rtp.rtcp import parse_compound
from media.stun import IceLite, StunError
from tests.support.nasty import Nasty, corpus, mutated

CODECS = ("VP8", "VP9", "H264", "AV1", "opus")
ICE = IceLite(b"secret")


def read_rtp(data: bytes) -> None:
    header = parse_header(data, len(data))
    if header is None:
        return
    _, _, _, _, _, extensions, start, end = header
    assert 12 <= start <= end <= len(data)
    for number in (1, 4, 15):
        extension_text(data, extensions, start, number)
        extension_u16(data, extensions, start, number)
    rtx = unwrap_rtx(data, header, 96, 7)
    assert rtx is None or len(rtx) <= len(data)
    for codec in CODECS:
        size = picture_size(codec, data, start, end)
        assert size is None or all(0 < side <= 65_536 for side in size)
        starts_frame(codec, data, start, end)
        picture_ids(codec, data, start, end)
        payload = data[start:end]
        assert len(shift_picture_ids(codec, payload, 5, 3)) == len(payload)


def read_rtcp(data: bytes) -> None:
    assert len(parse_compound(data)) <= len(data)


def read_stun(data: bytes) -> None:
    with contextlib.suppress(StunError):
        ICE.receive(data, ("192.0.2.1", 9), lambda ours, theirs: True)


READERS: dict[str, Callable[[bytes], None]] = {
    "rtp": read_rtp,
    "rtcp": read_rtcp,
    "stun": read_stun,
}


def test_corpus_has_every_protocol_and_names_each_case_once() -> None:
    packets = corpus()
    assert {packet.protocol for packet in packets} == set(READERS)
    names = [(packet.protocol, packet.why) for packet in packets]
    assert len(set(names)) == len(names) >= 70


@pytest.mark.parametrize("packet", corpus(), ids=lambda packet: f"{packet.protocol}: {packet.why}")
def test_nasty_packet_is_read_or_turned_down(packet: Nasty) -> None:
    for end in range(len(packet.data) + 1):
        READERS[packet.protocol](packet.data[:end])


@given(st.sampled_from(corpus()), st.integers(0, 2**32))
def test_any_damage_to_a_nasty_packet_is_read_or_turned_down(packet: Nasty, seed: int) -> None:
    data = mutated(packet.data, random.Random(seed))
    for read in READERS.values():
        read(data)
