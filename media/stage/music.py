"""The sound of the stage: a soft bed in four chords, plucks, and a tick on every second.

The bed is LOOP_S long, is worked out once (0.5 s of CPU), and is placed by the wall clock, so
music, movement and every camera keep one pulse. The tick marks the second for the ear as the
burnt-in clock does for the eye: who hears it can judge lip sync.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.stage.scene import BEAT_S

RATE: Final = 48_000
FRAME: Final = 960
"""Samples of one Opus frame of 20 ms."""
BARS: Final = 16
LOOP_S: Final = BARS * 4 * BEAT_S
_CHORDS: Final = (
    (57, 60, 64, 67, 71),
    (53, 57, 60, 64, 67),
    (48, 55, 60, 64, 71),
    (55, 59, 62, 66, 69),
)
_SCALE: Final = (69, 72, 74, 76, 79, 81, 84)
_TICK_HZ: Final = 1760.0
_TICK_S: Final = 0.035

F64 = NDArray[np.float64]
I16 = NDArray[np.int16]


def _hz(note: int) -> float:
    return 440.0 * 2 ** ((note - 69) / 12)


class Music:
    """Stereo samples for any moment."""

    def __init__(self) -> None:
        self._bed = _bed()
        t = np.arange(int(_TICK_S * RATE)) / RATE
        tick = np.sin(2 * math.pi * _TICK_HZ * t) * np.exp(-t * 150) * 0.20
        self._tick: I16 = np.rint(np.stack([tick, tick], axis=1) * 32767).astype(np.int16)

    def samples(self, first: int, count: int = FRAME) -> I16:
        """`count` samples (count x 2) from sample number `first` since the Unix epoch."""
        at = (first + np.arange(count)) % len(self._bed)
        out = self._bed[at].astype(np.int32)
        into = first % RATE
        if into + count > RATE:  # a second begins in this frame
            start = RATE - into
            n = min(count - start, len(self._tick))
            out[start : start + n] += self._tick[:n]
        elif into < len(self._tick):
            n = min(count, len(self._tick) - into)
            out[:n] += self._tick[into : into + n]
        return np.clip(out, -32768, 32767).astype(np.int16)


def _bed() -> I16:
    length = int(LOOP_S * RATE)
    out = np.zeros((length, 2))
    bar = int(4 * BEAT_S * RATE)
    t = np.arange(2 * bar) / RATE
    swell = np.sin(math.pi * np.arange(2 * bar) / (2 * bar)) ** 1.2
    for index in range(BARS // 2):
        start = index * 2 * bar
        for voice, note in enumerate(_CHORDS[index % 4]):
            hz = _hz(note)
            for side, detune in ((0, 0.9988), (1, 1.0012)):
                tone = np.sin(2 * math.pi * hz * detune * t + voice)
                tone += 0.35 * np.sin(4 * math.pi * hz * detune * t) + 0.12 * np.sin(
                    6 * math.pi * hz * t
                )
                _add(out, start - bar // 4, tone * swell * 0.022, side)
        bass = np.sin(2 * math.pi * _hz(_CHORDS[index % 4][0] - 24) * t) * swell * 0.06
        for side in (0, 1):
            _add(out, start - bar // 4, bass, side)
    rng = np.random.default_rng(19)
    beat = BEAT_S * RATE
    decay = np.arange(int(2.2 * RATE)) / RATE
    previous = 3
    for step in range(BARS * 8):
        if rng.random() < (0.62 if step % 2 == 0 else 0.3):
            previous = int(np.clip(previous + rng.integers(-2, 3), 0, len(_SCALE) - 1))
            _pluck(
                out,
                int(step * beat / 2),
                _hz(_SCALE[previous]),
                decay,
                float(rng.uniform(0.2, 0.8)),
            )
    noise = rng.normal(0, 1, int(0.05 * RATE))
    brush = np.convolve(noise, [1, -1], mode="same") * np.exp(-np.arange(len(noise)) / 500) * 0.008
    for step in range(BARS * 8):
        for side in (0, 1):
            _add(out, int(step * beat / 2), brush * (1.0 if step % 4 == 2 else 0.5), side)
    return np.rint(np.tanh(out * 1.5) * 32767 * 0.62).astype(np.int16)


def _pluck(out: F64, start: int, hz: float, t: F64, pan: float) -> None:
    tone = np.sin(2 * math.pi * hz * t) * np.exp(-t * 3.2)
    tone += 0.4 * np.sin(4 * math.pi * hz * t) * np.exp(-t * 6.5)
    tone *= np.minimum(t * 400, 1) * 0.055
    for echo in range(3):
        at = start + int(echo * 0.75 * BEAT_S * RATE)
        gain = 0.42**echo
        side_pan = pan if echo % 2 == 0 else 1 - pan
        _add(out, at, tone * gain * (1 - side_pan), 0)
        _add(out, at, tone * gain * side_pan, 1)


def _add(out: F64, start: int, tone: F64, side: int) -> None:
    """Add `tone` at `start`, going on at the loop's beginning where it reaches over the end."""
    length = len(out)
    start %= length
    first = min(len(tone), length - start)
    out[start : start + first, side] += tone[:first]
    if first < len(tone):
        out[: len(tone) - first, side] += tone[first:]
