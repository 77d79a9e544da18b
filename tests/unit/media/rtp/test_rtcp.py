import pytest
from aiortc import rtp as theirs
from hypothesis import example, given
from hypothesis import strategies as st

from media.rtp import rtcp
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
    TransportFeedback,
    build_bye,
    build_fir,
    build_nack,
    build_pli,
    build_remb,
    build_rr,
    build_sdes,
    build_sr,
    build_twcc,
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


arrival_steps = st.lists(
    st.none() | st.integers(0, 255) | st.integers(-3000, 3000), min_size=0, max_size=120
)


@given(st.integers(0, 65535), st.integers(0, 2**20), arrival_steps)
@example(0, 0, [None] * 40 + [3] * 8 + [300] + [0] * 6 + [None, 1] * 9 + [5] * 20)
@example(65535, 7, [300] * 9)
def test_transport_feedback_survives_a_round_trip(
    base: int, start: int, steps: list[int | None]
) -> None:
    ticks = 1_000_000 + start
    arrivals: list[float | None] = [ticks * rtcp.TWCC_TICK_S]
    for step in steps:
        if step is not None:
            ticks += step
        arrivals.append(None if step is None else ticks * rtcp.TWCC_TICK_S)
    [item] = parse_compound(build_twcc(1, 2, base, 300, arrivals))
    assert isinstance(item, TransportFeedback)
    assert (item.sender_ssrc, item.media_ssrc, item.base_seq) == (1, 2, base)
    assert item.feedback_count == 300 & 0xFF
    assert len(item.arrivals) == len(arrivals)
    for ours, original in zip(item.arrivals, arrivals, strict=True):
        assert (ours is None) == (original is None)
        if ours is not None and original is not None:
            assert ours == pytest.approx(original, abs=1e-6)


def test_transport_feedback_is_laid_out_as_the_draft_says() -> None:
    # Reference 15 x 64 ms; then 160 and 40 ticks of 250 us; one vector of one-bit symbols.
    expected = "8fcd0005 00000001 00000002 00000003 00000f09 a800 a0 28"
    assert build_twcc(1, 2, 0, 9, [1.0, None, 1.01]) == bytes.fromhex(expected)


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
