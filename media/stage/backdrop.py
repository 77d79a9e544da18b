"""The LED wall behind the stage: a moon over misty mountains that drift past.

Drawn at the soft layer's size. Each ridge is a strip that joins at its ends; the nearer the
ridge, the faster it moves.
"""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np

from media.stage.light import add_glow, glow
from media.stage.planes import F32, U8, u8
from media.stage.scene import SceneState

_RIDGES: Final = (
    # base height 0-1 from the top, roughness, pixels a second, colour BGR, haze at the foot
    (0.56, 0.15, 0.5, (112, 84, 76), (150, 118, 104)),
    (0.68, 0.17, 0.9, (88, 56, 44), (128, 92, 70)),
    (0.82, 0.17, 1.5, (58, 32, 24), (92, 58, 40)),
)


class Backdrop:
    """The wall's picture at width x height of the soft layer."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        heights = np.linspace(0, 1, height)
        stops = [0.0, 0.45, 0.75, 1.0]
        colours = [(96, 44, 26), (140, 84, 62), (150, 138, 214), (120, 170, 244)]
        column = np.stack(
            [np.interp(heights, stops, [c[i] for c in colours]) for i in range(3)], axis=1
        )
        self._sky: U8 = u8(np.repeat(column[:, None, :], width, axis=1))
        rng = np.random.default_rng(4)
        for _ in range(width // 2):
            x, y = int(rng.uniform(0, width)), int(rng.uniform(0, height * 0.5))
            self._sky[y, x] = u8(self._sky[y, x] + rng.uniform(20, 90))
        radius = max(height // 5, 4)
        self._moon: U8 = np.zeros((2 * radius + 3, 2 * radius + 3), np.uint8)
        cv2.circle(self._moon, (radius + 1, radius + 1), radius, 255, -1, cv2.LINE_AA)
        self._halo = glow(radius * 3, 2.6)
        self._strips = [self._ridge(rng, *ridge) for ridge in _RIDGES]

    def _ridge(
        self,
        rng: np.random.Generator,
        base: float,
        rough: float,
        speed: float,
        colour: tuple[int, int, int],
        haze: tuple[int, int, int],
    ) -> tuple[F32, F32, float]:
        """A strip twice the wall's width, its opacity, and its speed in pixels a second."""
        length = self._width * 2
        x = np.arange(length) / length * 2 * math.pi
        line = np.zeros(length)
        for octave in range(1, 26):
            line += np.sin(x * octave + rng.uniform(0, 2 * math.pi)) / octave**1.15
        line = base - rough * np.abs(line) / np.abs(line).max() * 1.1
        rows = (np.arange(self._height) + 0.5)[:, None] / self._height
        opacity = np.clip((rows - line[None, :]) * self._height, 0, 1).astype(np.float32)
        depth = np.clip((rows - line[None, :]) / (1.04 - base + rough), 0, 1)[..., None]
        strip = np.array(colour) * (1 - depth) + np.array(haze) * depth
        tripled = [np.hstack([a, a[:, : self._width]]) for a in (strip, opacity)]
        return tripled[0].astype(np.float32), tripled[1][..., None], speed

    def draw(self, state: SceneState) -> U8:
        """The wall at this moment, a new array of height x width x 3."""
        wall = self._sky.copy()
        x = self._width * 0.5
        y = self._height * (0.36 + 0.03 * math.sin(state.at_s * 0.05))
        add_glow(wall, self._halo, x, y, (44, 66, 96))
        add_glow(wall, self._moon, x, y, (62, 104, 138))
        canvas = wall.astype(np.float32)
        for strip, opacity, speed in self._strips:
            shift = math.fmod(state.at_s * speed, strip.shape[1] - self._width)
            at = np.s_[:, int(shift) : int(shift) + self._width]
            canvas += (strip[at] - canvas) * opacity[at]
        return u8(canvas * (0.86 + 0.06 * state.pulse))
