"""A stream of exact size without an encoder: what a relay sees of a camera at a given bit rate.

Pictures are random bytes in H.264 NAL units behind a real parameter set, so a relay finds key
frames where they are; no decoder will show them. For measuring, not for watching.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from loadtest.packetize import nal_units
from media.stage.encode import VideoEncoder
from media.stage.feed import Kind, Unit
from media.stage.planes import Picture

_KEY_SHARE: Final = 4
"""A key frame is this many times as large as another picture."""


class PatternFeed:
    """Pictures of even size on the loop's own timer, key frames every two seconds."""

    def __init__(self, camera: str, bitrate_bps: int, fps: int = 30, seed: int = 1) -> None:
        self._camera = camera
        self._fps = fps
        encoder = VideoEncoder(640, 360, fps, 1_000_000)
        first = encoder.encode(Picture(640, 360).data, 0)
        self._parameters = b"".join(
            b"\0\0\0\1" + unit for unit in nal_units(first) if unit[0] & 31 in (7, 8)
        )
        rng = np.random.default_rng(seed)
        group = 2 * fps
        size = bitrate_bps / 8 * 2 / (group + _KEY_SHARE - 1)
        # No zero bytes: nothing in the payload can look like a start code.
        self._noise = rng.integers(1, 256, int(size * _KEY_SHARE) + 1).astype(np.uint8).tobytes()
        self._size = int(size)
        self._group = group
        self._wants_key = False

    def request_key(self) -> None:
        """Make the next picture a key frame."""
        self._wants_key = True

    def unit(self, number: int, at_s: float) -> Unit:
        """Picture `number`, shown at `at_s`."""
        is_key = self._wants_key or number % self._group == 0
        self._wants_key = False
        if is_key:
            body = b"\0\0\0\1\x65" + self._noise[: self._size * _KEY_SHARE]
            return Unit(self._camera, Kind.VIDEO, self._parameters + body, at_s, True)
        body = b"\0\0\0\1\x41" + self._noise[: self._size]
        return Unit(self._camera, Kind.VIDEO, body, at_s, False)

    async def run(self, take: Callable[[Unit], None]) -> None:
        """Give pictures to `take` on schedule until cancelled."""
        start = time.monotonic()
        number = 0
        while True:
            wait = start + number / self._fps - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            take(self.unit(number, time.time()))
            number += 1
