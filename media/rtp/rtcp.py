"""RTCP: compound packets to items, and items to bytes.

Items are frozen dataclasses of what matters to a relay. A compound packet is read as far
as it is sound: an unknown or malformed part is skipped and the rest still counts, for a
lost PLI costs a viewer more than a strange XR block.

RFC 3550 §6 (SR, RR, SDES, BYE), RFC 4585 §6 (NACK, PLI), RFC 5104 §4.3.1 (FIR),
draft-alvestrand-rmcat-remb. Transport-wide feedback has a module of its own (twcc.py).
Readers never raise; writers raise only on a programming mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final, TypeAlias

from media.rtp.packet import Buffer
from media.rtp.twcc import TransportFeedback, read_twcc

SR: Final = 200
RR: Final = 201
SDES: Final = 202
BYE: Final = 203
RTPFB: Final = 205
PSFB: Final = 206

_FMT_NACK: Final = 1
_FMT_TWCC: Final = 15
_FMT_PLI: Final = 1
_FMT_FIR: Final = 4
_FMT_AFB: Final = 15
_SDES_CNAME: Final = 1

NTP_UNIX_OFFSET_S: Final = 2_208_988_800
"""Seconds between 1900 (NTP) and 1970 (Unix)."""

MAX_REPORTS: Final = 31
_HEADER = Struct(">BBH")
_SENDER_INFO = Struct(">IQIII")
_REPORT = Struct(">IIIIII")
_U32 = Struct(">I")
_PAIR = Struct(">HH")
_FEEDBACK = Struct(">II")


@dataclass(frozen=True, slots=True)
class ReceptionReport:
    """One report block: how `ssrc` arrives (RFC 3550 §6.4.1)."""

    ssrc: int
    fraction_lost: int
    """Of 256, since the last report."""
    packets_lost: int
    """Altogether, signed 24 bits."""
    highest_seq: int
    """Extended highest sequence number received, 32 bits."""
    jitter: int
    """In RTP ticks."""
    last_sr: int
    """Middle 32 bits of the NTP time of the last SR; 0 before one came."""
    delay_since_sr: int
    """In 1/65536 s."""


@dataclass(frozen=True, slots=True)
class SenderReport:
    """An SR: this RTP timestamp was that moment. `ntp` is 64 bits, seconds since 1900 << 32."""

    ssrc: int
    ntp: int
    rtp_ts: int
    packets: int
    octets: int
    reports: tuple[ReceptionReport, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """An RR by `ssrc`."""

    ssrc: int
    reports: tuple[ReceptionReport, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """The CNAME of one SSRC."""

    ssrc: int
    cname: str


@dataclass(frozen=True, slots=True)
class Bye:
    """These streams end."""

    ssrcs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Nack:
    """Please resend these 16-bit sequence numbers of `media_ssrc`."""

    sender_ssrc: int
    media_ssrc: int
    seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pli:
    """The picture of `media_ssrc` is lost: a key frame, please."""

    sender_ssrc: int
    media_ssrc: int


@dataclass(frozen=True, slots=True)
class Fir:
    """A key frame for each (SSRC, command number), please."""

    sender_ssrc: int
    entries: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Remb:
    """The receiver estimates that it can take this much."""

    sender_ssrc: int
    bitrate_bps: int
    ssrcs: tuple[int, ...]


Item: TypeAlias = (
    SenderReport
    | ReceiverReport
    | SourceDescription
    | Bye
    | Nack
    | Pli
    | Fir
    | Remb
    | TransportFeedback
)


# Reading.


def parse_compound(data: Buffer) -> list[Item]:
    """Every item that can be read from one RTCP datagram, in order. Never raises."""
    items: list[Item] = []
    size = len(data)
    at = 0
    while at + 4 <= size:
        first, kind, words = _HEADER.unpack_from(data, at)
        end = at + 4 + 4 * words
        if first & 0xC0 != 0x80 or end > size:
            break
        body_end = end
        if first & 0x20:
            padding = data[end - 1]
            if not 0 < padding <= end - at - 4:
                break
            body_end -= padding
        count = first & 0x1F
        start = at + 4
        at = end
        if kind in (RTPFB, PSFB):
            if body_end - start < 8:
                continue
            item = _read_feedback(kind, count, data, start, body_end)
            if item is not None:
                items.append(item)
        elif kind == SR:
            if body_end - start >= 24:
                ssrc, ntp, rtp_ts, packets, octets = _SENDER_INFO.unpack_from(data, start)
                reports = _read_reports(data, start + 24, body_end, count)
                items.append(SenderReport(ssrc, ntp, rtp_ts, packets, octets, reports))
        elif kind == RR:
            if body_end - start >= 4:
                (ssrc,) = _U32.unpack_from(data, start)
                items.append(ReceiverReport(ssrc, _read_reports(data, start + 4, body_end, count)))
        elif kind == SDES:
            items += _read_descriptions(data, start, body_end, count)
        elif kind == BYE and body_end - start >= 4 * count:
            items.append(Bye(tuple(_U32.unpack_from(data, start + 4 * i)[0] for i in range(count))))
    return items


def _read_reports(data: Buffer, at: int, end: int, count: int) -> tuple[ReceptionReport, ...]:
    reports = []
    for _ in range(count):
        if at + 24 > end:
            break
        ssrc, lost, highest, jitter, last_sr, delay = _REPORT.unpack_from(data, at)
        at += 24
        total = lost & 0xFFFFFF
        if total & 0x800000:
            total -= 1 << 24
        reports.append(ReceptionReport(ssrc, lost >> 24, total, highest, jitter, last_sr, delay))
    return tuple(reports)


def _read_descriptions(data: Buffer, at: int, end: int, count: int) -> list[SourceDescription]:
    found: list[SourceDescription] = []
    for _ in range(count):
        if at + 4 > end:
            break
        (ssrc,) = _U32.unpack_from(data, at)
        start = at
        at += 4
        while at < end and data[at]:
            if at + 2 > end:
                return found
            length = data[at + 1]
            if at + 2 + length > end:
                return found
            if data[at] == _SDES_CNAME:
                text = bytes(data[at + 2 : at + 2 + length]).decode("utf-8", "replace")
                found.append(SourceDescription(ssrc, text))
            at += 2 + length
        # A chunk ends with one to four zero bytes, on a word's boundary.
        at = start + ((at - start) // 4 + 1) * 4
    return found


def _read_feedback(kind: int, fmt: int, data: Buffer, start: int, end: int) -> Item | None:
    sender, media = _FEEDBACK.unpack_from(data, start)
    at = start + 8
    if kind == RTPFB:
        if fmt == _FMT_NACK:
            return Nack(sender, media, _read_nack(data, at, end))
        if fmt == _FMT_TWCC:
            return read_twcc(data, at, end, sender, media)
        return None
    if fmt == _FMT_PLI:
        return Pli(sender, media)
    if fmt == _FMT_FIR:
        return Fir(
            sender,
            tuple(
                (_U32.unpack_from(data, entry)[0], data[entry + 4])
                for entry in range(at, end - 7, 8)
            ),
        )
    if fmt == _FMT_AFB and end - at >= 8 and bytes(data[at : at + 4]) == b"REMB":
        count, packed = data[at + 4], _U32.unpack_from(data, at + 4)[0] & 0xFFFFFF
        ssrcs = tuple(
            _U32.unpack_from(data, entry)[0]
            for entry in range(at + 8, min(end - 3, at + 8 + 4 * count), 4)
        )
        return Remb(sender, (packed & 0x3FFFF) << (packed >> 18), ssrcs)
    return None


def _read_nack(data: Buffer, at: int, end: int) -> tuple[int, ...]:
    seqs = []
    for entry in range(at, end - 3, 4):
        seq, mask = _PAIR.unpack_from(data, entry)
        seqs.append(seq)
        while mask:
            low = mask & -mask
            seqs.append(seq + low.bit_length() & 0xFFFF)
            mask ^= low
    return tuple(seqs)


# Writing.


def ntp_from_unix(unix_s: float) -> int:
    """A Unix time in seconds as 64-bit NTP."""
    return int((unix_s + NTP_UNIX_OFFSET_S) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF


def unix_from_ntp(ntp: int) -> float:
    """A 64-bit NTP time as Unix seconds."""
    return ntp / (1 << 32) - NTP_UNIX_OFFSET_S


def middle_ntp(ntp: int) -> int:
    """The middle 32 bits, as reports carry them (1/65536 s)."""
    return ntp >> 16 & 0xFFFFFFFF


def _packet(kind: int, count: int, body: bytes) -> bytes:
    return _HEADER.pack(0x80 | count, kind, len(body) // 4) + body


def _pack_reports(reports: Sequence[ReceptionReport]) -> bytes:
    return b"".join(
        _REPORT.pack(
            report.ssrc,
            min(report.fraction_lost, 255) << 24
            | max(-0x800000, min(report.packets_lost, 0x7FFFFF)) & 0xFFFFFF,
            report.highest_seq & 0xFFFFFFFF,
            min(report.jitter, 0xFFFFFFFF),
            report.last_sr,
            min(report.delay_since_sr, 0xFFFFFFFF),
        )
        for report in reports[:MAX_REPORTS]
    )


def build_sr(
    ssrc: int,
    ntp: int,
    rtp_ts: int,
    packets: int,
    octets: int,
    reports: Sequence[ReceptionReport] = (),
) -> bytes:
    """A sender report; counts and timestamp may be longer than 32 bits (low bits are sent)."""
    info = _SENDER_INFO.pack(
        ssrc, ntp, rtp_ts & 0xFFFFFFFF, packets & 0xFFFFFFFF, octets & 0xFFFFFFFF
    )
    return _packet(SR, min(len(reports), MAX_REPORTS), info + _pack_reports(reports))


def build_rr(ssrc: int, reports: Sequence[ReceptionReport] = ()) -> bytes:
    """A receiver report with at most 31 blocks."""
    return _packet(RR, min(len(reports), MAX_REPORTS), _U32.pack(ssrc) + _pack_reports(reports))


def build_sdes(ssrc: int, cname: str) -> bytes:
    """A source description with the CNAME alone."""
    name = cname.encode()[:255]
    chunk = _U32.pack(ssrc) + bytes((_SDES_CNAME, len(name))) + name + b"\0"
    return _packet(SDES, 1, chunk + bytes(-len(chunk) % 4))


def build_bye(ssrcs: Sequence[int]) -> bytes:
    """A goodbye for at most 31 streams."""
    return _packet(BYE, len(ssrcs), b"".join(map(_U32.pack, ssrcs)))


def build_nack(sender_ssrc: int, media_ssrc: int, seqs: Iterable[int]) -> bytes:
    """A request for packets by (extended or 16-bit) number, given in rising order."""
    pairs: list[list[int]] = []
    for seq in seqs:
        distance = seq - pairs[-1][0] & 0xFFFF if pairs else 0
        if pairs and 1 <= distance <= 16:
            pairs[-1][1] |= 1 << distance - 1
        elif not pairs or distance:
            pairs.append([seq & 0xFFFF, 0])
    body = b"".join(_PAIR.pack(*pair) for pair in pairs)
    return _packet(RTPFB, _FMT_NACK, _FEEDBACK.pack(sender_ssrc, media_ssrc) + body)


def build_pli(sender_ssrc: int, media_ssrc: int) -> bytes:
    """A picture loss indication."""
    return _packet(PSFB, _FMT_PLI, _FEEDBACK.pack(sender_ssrc, media_ssrc))


def build_fir(sender_ssrc: int, media_ssrc: int, command: int) -> bytes:
    """A full intra request; `command` must differ from the one before (mod 256)."""
    entry = _U32.pack(media_ssrc) + bytes((command & 0xFF, 0, 0, 0))
    return _packet(PSFB, _FMT_FIR, _FEEDBACK.pack(sender_ssrc, 0) + entry)


def build_remb(sender_ssrc: int, bitrate_bps: int, ssrcs: Sequence[int]) -> bytes:
    """A receiver's estimate, rounded down to 18 bits of mantissa."""
    exponent = max(0, bitrate_bps.bit_length() - 18)
    packed = len(ssrcs) << 24 | exponent << 18 | bitrate_bps >> exponent
    body = b"REMB" + _U32.pack(packed) + b"".join(map(_U32.pack, ssrcs))
    return _packet(PSFB, _FMT_AFB, _FEEDBACK.pack(sender_ssrc, 0) + body)
