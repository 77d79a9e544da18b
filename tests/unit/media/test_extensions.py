"""Extension blocks for viewers, and their way through protection."""

from __future__ import annotations

import os

import pytest

from media.extensions import PLAYOUT_MAX_MS, WRITTEN, ExtensionIds, ids_of, write_block
from media.rtp.packet import (
    ExtensionUri,
    abs_send_time,
    extension_u24,
    parse_header,
    read_extensions,
)
from media.rtp.rtcp import unix_from_ntp
from media.srtp import PROFILES, OutPacket, SrtpKeys, SrtpProfile, make_sender

IDS = ExtensionIds(2, 5, 9)


def values(block: bytes) -> dict[int, bytes]:
    packet = b"\x90" + bytes(11) + block
    found = read_extensions(packet, 12, len(packet))
    return {number: packet[at : at + length] for number, (at, length) in found.items()}


def test_send_time_is_in_every_block_and_the_rest_only_when_due() -> None:
    plain = write_block(IDS, 100.5, with_playout=False, captured_unix_s=None)
    assert values(plain) == {2: abs_send_time(100.5).to_bytes(3, "big")}
    assert len(plain) == 8
    key = values(write_block(IDS, 100.5, with_playout=True, captured_unix_s=1_700_000_000.25))
    assert set(key) == {2, 5, 9}
    minimum, maximum = key[5][0] << 4 | key[5][1] >> 4, (key[5][1] & 15) << 8 | key[5][2]
    assert (minimum, maximum * 10) == (0, PLAYOUT_MAX_MS)
    assert unix_from_ntp(int.from_bytes(key[9], "big")) == pytest.approx(1_700_000_000.25)


def test_chromium_is_kept_off_its_path_without_smoothing() -> None:
    assert PLAYOUT_MAX_MS > 500


def test_what_was_not_agreed_is_not_written() -> None:
    assert ids_of({}) is None
    assert ids_of({ExtensionUri.MID: 4}) is None
    assert ids_of({ExtensionUri.PLAYOUT_DELAY: 6}) == ExtensionIds(0, 6, 0)
    only = ExtensionIds(0, 6, 0)
    assert write_block(only, 1.0, with_playout=False, captured_unix_s=5.0) == b""
    assert set(values(write_block(only, 1.0, with_playout=True, captured_unix_s=5.0))) == {6}
    assert len(WRITTEN) == len(IDS)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
def test_libsrtp_opens_packets_with_a_block(profile: SrtpProfile) -> None:
    keys = SrtpKeys(profile, os.urandom(profile.key_bytes), os.urandom(profile.salt_bytes))
    block = write_block(IDS, 7.25, with_playout=True, captured_unix_s=1e9)
    packets: list[OutPacket] = [(i, 90 * i, 0x80, os.urandom(100 + i)) for i in range(3)]
    out = memoryview(bytearray(4096))
    end = make_sender(keys).protect(out, 0, packets, 65_535, 5, 96, 0xCAFE, block)
    opener = keys.session(inbound=True)
    at = 0
    for i, rtp_ts, _, payload in packets:
        size = 12 + len(block) + len(payload) + profile.tag_bytes
        plain = opener.unprotect(bytes(out[at : at + size]))
        header = parse_header(plain, len(plain))
        assert header is not None
        assert header[:5] == (96, True, (65_535 + i) & 0xFFFF, rtp_ts + 5, 0xCAFE)
        assert extension_u24(plain, header[5], header[6], 2) == abs_send_time(7.25)
        assert plain[header[6] : header[7]] == payload
        at += size
    assert at == end
