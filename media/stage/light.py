"""Light, haze and everything out of focus: drawn at a quarter of the size, in BGR.

Nothing here has an edge sharper than four pixels of the picture, so a sixteenth of the
pixels is enough; `Picture.soften` enlarges it in 0.3 ms. Light adds, and saturates as a
sensor does.
"""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np

from media.stage.planes import SOFT, U8, u8
from media.stage.scene import Beam, SceneState

AMBER: Final = (92, 170, 255)
TEAL: Final = (196, 176, 74)
ROSE: Final = (140, 96, 240)
NIGHT: Final = (30, 15, 13)

Bgr = tuple[float, float, float]


def mix(a: Bgr, b: Bgr, part: float) -> Bgr:
    """`part` of `b` and the rest of `a`."""
    return (
        a[0] + (b[0] - a[0]) * part,
        a[1] + (b[1] - a[1]) * part,
        a[2] + (b[2] - a[2]) * part,
    )


def scaled(colour: Bgr, strength: float) -> Bgr:
    """`colour` made darker or brighter."""
    return (colour[0] * strength, colour[1] * strength, colour[2] * strength)


def beam_colour(beam: Beam) -> Bgr:
    """Colour of a moving head's light at its present warmth and strength."""
    return scaled(mix(TEAL, AMBER, beam.warmth), beam.strength)


def glow(radius: int, falloff: float = 2.2) -> U8:
    """A round glow of 2 * radius + 1 pixels: 255 in the middle, 0 at the edge."""
    span = np.arange(-radius, radius + 1) / radius
    distance = np.sqrt(span[:, None] ** 2 + span[None, :] ** 2)
    return u8(255 * np.clip(1 - distance, 0, 1) ** falloff)


def disc(radius: int) -> U8:
    """An out-of-focus lamp: nearly even, a little brighter at the rim."""
    size = 2 * radius + 1
    img = np.zeros((size, size), np.uint8)
    cv2.circle(img, (radius, radius), radius - 1, 170, -1, cv2.LINE_AA)
    cv2.circle(img, (radius, radius), radius - 1, 255, 1, cv2.LINE_AA)
    return u8(cv2.GaussianBlur(img, (0, 0), 0.8))


def add_glow(soft: U8, shape: U8, x: float, y: float, colour: Bgr) -> None:
    """Add `shape` in `colour` (BGR, 0-255 at its brightest) centred on (x, y) of the soft layer."""
    h, w = shape.shape
    left, top = int(x) - w // 2, int(y) - h // 2
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + w, soft.shape[1]), min(top + h, soft.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    part = shape[y0 - top : y1 - top, x0 - left : x1 - left]
    lit = cv2.merge([cv2.convertScaleAbs(part, alpha=max(c, 0) / 255) for c in colour])
    cv2.add(soft[y0:y1, x0:x1], lit, dst=soft[y0:y1, x0:x1])


class Beams:
    """Shafts of light through haze, from lamps on a bar, over the whole soft layer."""

    def __init__(
        self, width: int, height: int, lamps: list[tuple[float, float]], reach: float
    ) -> None:
        """Lamp places and reach in pixels of the soft layer."""
        self._lamps = lamps
        self._reach = reach
        self._layer: U8 = np.zeros((height, width, 3), np.uint8)
        top = min(y for _, y in lamps)
        rows = np.clip((np.arange(height) - top) / reach, 0, 1)
        fade = (1 - rows) ** 1.3
        self._fade = np.repeat((fade * 255).astype(np.uint8)[:, None], width, axis=1)
        self._fade = cv2.merge([self._fade] * 3)
        self._flare = glow(9, 1.6)

    def draw(
        self, soft: U8, state: SceneState, gain: float = 0.55, spread_deg: float = 4.0
    ) -> None:
        """Add the beams of this moment."""
        layer = self._layer
        layer[:] = 0
        for (x, y), beam in zip(self._lamps, state.beams, strict=False):
            colour = scaled(beam_colour(beam), gain)
            ends = []
            for side in (-1, 1):
                angle = math.radians(beam.lean_deg + side * spread_deg)
                ends.append((x + math.sin(angle) * self._reach, y + math.cos(angle) * self._reach))
            cone = np.array(
                [[(x - 1) * 16, y * 16], [(x + 1) * 16, y * 16]]
                + [[ex * 16, ey * 16] for ex, ey in reversed(ends)],
                np.int32,
            )
            shaft = np.zeros_like(layer)
            cv2.fillConvexPoly(shaft, cone, colour, cv2.LINE_AA, 4)
            cv2.add(layer, shaft, dst=layer)
        cv2.multiply(layer, self._fade, dst=layer, scale=1 / 255)
        cv2.GaussianBlur(layer, (0, 0), 1.6, dst=layer)
        cv2.add(soft, layer, dst=soft)
        for (x, y), beam in zip(self._lamps, state.beams, strict=False):
            add_glow(soft, self._flare, x, y, scaled(beam_colour(beam), 1.3))


def bloom(soft: U8, strength: float) -> None:
    """Let bright parts spill over, as a lens does."""
    small = cv2.resize(soft, (soft.shape[1] // 3, soft.shape[0] // 3), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 4)
    wide = cv2.resize(small, (soft.shape[1], soft.shape[0]))
    cv2.scaleAdd(wide, strength, soft, dst=soft)


def soft_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of the soft layer of a picture."""
    return width // SOFT, height // SOFT
