"""Picture sizes out of sequence headers, bit by bit. Read once a key frame.

H.264 §7.3.2.1.1 (sequence parameter set), AV1 §5.5 (sequence header OBU).
Readers return None where the bits end early or say something impossible.
"""

from __future__ import annotations

from typing import Final

MAX_SIDE_PX: Final = 16384

_CHROMA_PROFILES: Final = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})


class _Bits:
    """Bits of an SPS, most significant first. Past the end it raises _CutOff."""

    __slots__ = ("_at", "_length", "_value")

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._length = len(data) * 8
        self._at = 0

    def read(self, count: int) -> int:
        self._at += count
        if self._at > self._length:
            raise _CutOff
        return self._value >> (self._length - self._at) & ((1 << count) - 1)

    def ue(self) -> int:
        """An unsigned Exp-Golomb number."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > 31:
                raise _CutOff
        return (1 << zeros) - 1 + self.read(zeros)

    def se(self) -> int:
        """A signed Exp-Golomb number."""
        value = self.ue()
        return (value + 1) // 2 if value & 1 else -(value // 2)


class _CutOff(Exception):
    """The SPS ends early or holds an impossible number."""


def sps_size(sps: bytes) -> tuple[int, int] | None:
    """(width, height) of an H.264 sequence parameter set without its NAL header byte.

    H.264 §7.3.2.1.1; emulation prevention bytes are taken out first.
    """
    bits = _Bits(sps[:256].replace(b"\x00\x00\x03", b"\x00\x00"))
    try:
        return _read_sps(bits)
    except _CutOff:
        return None


def _read_sps(bits: _Bits) -> tuple[int, int] | None:
    profile = bits.read(8)
    bits.read(16)  # constraint flags, level
    bits.ue()  # id
    chroma = 1
    if profile in _CHROMA_PROFILES:
        chroma = bits.ue()
        if chroma == 3:
            bits.read(1)
        bits.ue()
        bits.ue()
        bits.read(1)
        if bits.read(1):
            for index in range(8 if chroma != 3 else 12):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    bits.ue()  # frame number bits
    order = bits.ue()
    if order == 0:
        bits.ue()
    elif order == 1:
        bits.read(1)
        bits.se()
        bits.se()
        for _ in range(min(bits.ue(), 255)):
            bits.se()
    bits.ue()  # reference frames
    bits.read(1)
    width = (bits.ue() + 1) * 16
    height_units = bits.ue() + 1
    frames_only = bits.read(1)
    height = height_units * 16 * (2 - frames_only)
    if not frames_only:
        bits.read(1)
    bits.read(1)
    if bits.read(1):
        unit_x = 2 if chroma in (1, 2) else 1
        unit_y = (2 if chroma == 1 else 1) * (2 - frames_only)
        left, right, top, bottom = bits.ue(), bits.ue(), bits.ue(), bits.ue()
        width -= (left + right) * unit_x
        height -= (top + bottom) * unit_y
    return (width, height) if 0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX else None


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se() + 256) % 256
        last = following or last


def sequence_header_size(header: bytes) -> tuple[int, int] | None:
    """The largest (width, height) of an AV1 sequence header OBU without its OBU header."""
    bits = _Bits(header[:64])
    try:
        return _read_sequence_header(bits)
    except _CutOff:
        return None


def _read_sequence_header(bits: _Bits) -> tuple[int, int]:
    bits.read(4)  # profile, still picture
    if bits.read(1):  # reduced header
        bits.read(5)
    else:
        delay_bits = 0
        if bits.read(1):  # timing
            bits.read(64)
            if bits.read(1):
                bits.ue()  # uvlc is coded like Exp-Golomb
            if bits.read(1):  # decoder model
                delay_bits = bits.read(5) + 1
                bits.read(42)
        has_display_delay = bits.read(1)
        for _ in range(bits.read(5) + 1):  # operating points
            bits.read(12)
            if bits.read(5) > 7:
                bits.read(1)
            if delay_bits and bits.read(1):
                bits.read(2 * delay_bits + 1)
            if has_display_delay and bits.read(1):
                bits.read(4)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(width_bits) + 1, bits.read(height_bits) + 1
