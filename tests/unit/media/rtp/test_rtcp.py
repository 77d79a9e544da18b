import pytest
from aiortc import rtp as theirs
from hypothesis import given
from hypothesis import strategies as st

from media.rtp.rtcp import (
    Bye,
    Fir,
    Nack,
    Pli,
    ReceiverReport,
    ReceptionReport,
    Remb,
    SenderReport,
    SourceDescription,
    build_bye,
    build_fir,
    build_nack,
    build_pli,
    build_remb,
    build_rr,
    build_sdes,
    build_sr,
    middle_ntp,
    ntp_from_unix,
    parse_compound,
    unix_from_ntp,
)

ssrcs = st.integers(0, 2**32 - 1)
reports = st.builds(
    ReceptionReport,
    ssrcs,
    st.integers(0, 255),
    st.integers(-0x800000, 0x7FFFFF),
    ssrcs,
    ssrcs,
    ssrcs,
    ssrcs,
)


@given(ssrcs, st.integers(0, 2**64 - 1), ssrcs, ssrcs, ssrcs, st.lists(reports, max_size=31))
def test_sender_report_survives_a_round_trip(
    ssrc: int, ntp: int, ts: int, packets: int, octets: int, blocks: list[ReceptionReport]
) -> None:
    data = build_sr(ssrc, ntp, ts, packets, octets, blocks)
    assert parse_compound(data) == [SenderReport(ssrc, ntp, ts, packets, octets, tuple(blocks))]


@given(ssrcs, st.lists(reports, max_size=31), st.text(max_size=60), st.lists(ssrcs, max_size=31))
def test_compound_of_report_name_and_goodbye_survives_a_round_trip(
    ssrc: int, blocks: list[ReceptionReport], cname: str, leaving: list[int]
) -> None:
    data = build_rr(ssrc, blocks) + build_sdes(ssrc, cname) + build_bye(leaving)
    assert parse_compound(data) == [
        ReceiverReport(ssrc, tuple(blocks)),
        SourceDescription(ssrc, cname),
        Bye(tuple(leaving)),
    ]


@given(ssrcs, ssrcs, st.integers(0, 65535), st.lists(st.integers(0, 30_000), min_size=1))
def test_nack_survives_a_round_trip(sender: int, media: int, start: int, gaps: list[int]) -> None:
    wanted = sorted({start + gap for gap in gaps})
    expected = tuple(seq & 0xFFFF for seq in wanted)
    assert parse_compound(build_nack(sender, media, wanted)) == [Nack(sender, media, expected)]


def test_neighbours_share_one_nack_entry_across_the_wrap() -> None:
    data = build_nack(1, 2, [65530, 65535, 65536, 65546])
    assert len(data) == 16
    assert parse_compound(data) == [Nack(1, 2, (65530, 65535, 0, 10))]


@given(ssrcs, st.integers(0, 10**12), st.lists(ssrcs, max_size=20))
def test_remb_is_rounded_down_by_less_than_a_permille(
    sender: int, bitrate: int, streams: list[int]
) -> None:
    [item] = parse_compound(build_remb(sender, bitrate, streams))
    assert isinstance(item, Remb)
    assert item.ssrcs == tuple(streams)
    assert item.bitrate_bps <= bitrate <= item.bitrate_bps * 1.001


def test_requests_for_a_key_frame_survive_a_round_trip() -> None:
    assert parse_compound(build_pli(1, 2) + build_fir(3, 4, 261)) == [
        Pli(1, 2),
        Fir(3, ((4, 5),)),
    ]


@given(st.binary(max_size=120))
def test_any_bytes_are_read_without_raising(data: bytes) -> None:
    parse_compound(data)


@given(
    st.integers(0, 31),
    st.sampled_from((200, 201, 202, 203, 204, 205, 206, 207)),
    st.binary(max_size=100),
    st.booleans(),
)
def test_any_body_is_read_without_raising(count: int, kind: int, body: bytes, padded: bool) -> None:
    body += bytes(-len(body) % 4)
    first = 0x80 | (0x20 if padded else 0) | count
    data = bytes((first, kind)) + (len(body) // 4).to_bytes(2, "big") + body
    parse_compound(data)
    assert parse_compound(build_pli(1, 2) + data)[0] == Pli(1, 2)


def test_a_strange_part_does_not_hide_the_rest() -> None:
    extended_report = bytes((0x80, 207, 0, 1)) + bytes(4)
    assert parse_compound(extended_report + build_pli(1, 2)) == [Pli(1, 2)]


def test_aiortc_reads_what_we_build() -> None:
    block = ReceptionReport(5, 6, -7, 8, 9, 10, 11)
    data = build_sr(1, 2 << 32, 3, 4, 5, [block]) + build_sdes(1, "name") + build_nack(1, 2, [7, 9])
    sr, sdes, nack = theirs.RtcpPacket.parse(data)
    assert isinstance(sr, theirs.RtcpSrPacket)
    assert sr.sender_info.rtp_timestamp == 3
    assert sr.reports[0].packets_lost == -7
    assert isinstance(sdes, theirs.RtcpSdesPacket)
    assert sdes.chunks[0].items == [(1, b"name")]
    assert isinstance(nack, theirs.RtcpRtpfbPacket)
    assert nack.lost == [7, 9]
    [pli] = theirs.RtcpPacket.parse(build_pli(1, 2))
    assert isinstance(pli, theirs.RtcpPsfbPacket)
    assert (pli.fmt, pli.media_ssrc) == (1, 2)


def test_clock_conversions_agree() -> None:
    assert unix_from_ntp(ntp_from_unix(1_700_000_000.25)) == pytest.approx(1_700_000_000.25)
    assert middle_ntp(0x0123456789ABCDEF) == 0x456789AB
