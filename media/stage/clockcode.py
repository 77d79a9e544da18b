"""A clock that a program can read off the picture: 48 black and white blocks.

41 bits of Unix milliseconds, most significant first, then 7 bits of CRC, as blocks of equal
width over the whole lower edge of the picture. Reading is one row mean and 48 comparisons
(about 0.02 ms), so every frame can carry one and a test can tell the age of what is shown,
the skew between cameras and the same moment after a cut from the pixels alone. Grey levels
instead of full black and white keep the encoder's and the eye's burden small.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from media.stage.planes import U8

BITS: Final = 48
TIME_BITS: Final = 41
CHECK_BITS: Final = BITS - TIME_BITS
HEIGHT_PX: Final = 8
"""Height of the strip in a picture of 540 rows; readers find it in any size."""
REFERENCE_HEIGHT_PX: Final = 540
LOW: Final = 28
HIGH: Final = 148
_MIN_CONTRAST: Final = 40
_POLYNOMIAL: Final = 0x09  # CRC-7 of ITU-T and MMC: x^7 + x^3 + 1


def crc7(value: int) -> int:
    """CRC-7 over the 41 bits of `value`, most significant first."""
    crc = 0x55
    for shift in range(TIME_BITS - 1, -1, -1):
        top = (crc >> 6) & 1
        crc = (crc << 1) & 0x7F
        if top ^ (value >> shift & 1):
            crc ^= _POLYNOMIAL
    return crc


def encode(at_ms: int) -> U8:
    """48 luma values for the moment `at_ms` (Unix milliseconds, 0 to 2**41 - 1)."""
    if not 0 <= at_ms < 1 << TIME_BITS:
        raise ValueError(f"{at_ms} does not fit {TIME_BITS} bits")
    word = at_ms << CHECK_BITS | crc7(at_ms)
    raw = np.frombuffer(word.to_bytes(BITS // 8, "big"), np.uint8)
    return np.where(np.unpackbits(raw), HIGH, LOW).astype(np.uint8)


def decode(levels: U8) -> int | None:
    """The moment that 48 luma values stand for, or None if they are no clock."""
    low, high = int(levels.min()), int(levels.max())
    if high - low < _MIN_CONTRAST:
        return None
    bits = levels > (low + high) // 2
    word = int.from_bytes(np.packbits(bits).tobytes(), "big")
    at_ms, check = word >> CHECK_BITS, word & (1 << CHECK_BITS) - 1
    return at_ms if check == crc7(at_ms) else None


def draw(luma: U8, at_ms: int) -> None:
    """Write the clock over the lower edge of a luma plane; chroma there should be neutral."""
    height, width = luma.shape
    strip = strip_px(height)
    columns = (np.arange(width) * BITS) // width
    luma[height - strip :] = encode(at_ms)[columns]


def read(luma: U8) -> int | None:
    """The clock of a luma plane of any size that shows the whole picture, or None."""
    height, width = luma.shape
    strip = strip_px(height)
    # The middle half of the strip and of each block: scaling and coding blur the edges.
    rows = luma[height - max(strip * 3 // 4, 1) : height - strip // 4]
    row = rows.mean(axis=0)
    centres = (np.arange(BITS) * 2 + 1) * width // (2 * BITS)
    reach = max(width // (BITS * 4), 1)
    levels = np.stack([row[np.clip(centres + d, 0, width - 1)] for d in range(-reach, reach + 1)])
    return decode(levels.mean(axis=0).astype(np.uint8))


def strip_px(height: int) -> int:
    """Height of the strip in a picture of `height` rows, in pixels (even, at least 2)."""
    return max(height * HEIGHT_PX // REFERENCE_HEIGHT_PX & ~1, 2)
