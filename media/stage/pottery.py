"""The things for sale: glazed pots on a turntable, lit once, turned by moving their texture.

Theory: a surface of revolution looks the same from every side but for what is painted on it,
so silhouette, shading, highlights and the place of every surface point on the screen are
worked out once (`Pot`). Turning it is a shift along the texture, which is one `cv2.remap` a
plane: 0.3 ms for a pot of 300 x 400 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from media.stage.planes import F32, U8, Picture, bgr_to_planes, blend, halve, u8

TEXTURE_WIDTH: Final = 1440
TEXTURE_HEIGHT: Final = 512
Mask: TypeAlias = NDArray[np.bool_]

TILT_DEG: Final = 13.0
"""How far above the pot the camera stands."""


@dataclass(frozen=True, slots=True)
class Product:
    """What is on sale: outline (height from the top 0-1, radius in heights) and glaze."""

    name: str
    outline: tuple[tuple[float, float], ...]
    paint: Callable[[], U8]
    gloss: float


def _smooth(points: tuple[tuple[float, float], ...]) -> F32:
    """Radius at TEXTURE_HEIGHT heights, through the points without corners."""
    heights = np.linspace(0, 1, TEXTURE_HEIGHT)
    radii = np.interp(heights, [h for h, _ in points], [r for _, r in points])
    padded = np.pad(radii, 40, mode="edge")
    kernel = cv2.getGaussianKernel(49, 13.0).ravel()
    return np.convolve(padded, kernel, mode="same")[40:-40].astype(np.float32)


class Pot:
    """One product at one size, ready to be drawn at any angle."""

    def __init__(self, product: Product, height_px: int) -> None:
        """`height_px` is the height of the pot's axis on the screen."""
        radii = _smooth(product.outline)
        tilt = math.radians(TILT_DEG)
        sin_tilt = math.sin(tilt)
        scale = float(height_px)
        half_width = math.ceil(float(radii.max()) * scale) + 2 & ~1
        half_width += half_width % 2
        top = math.ceil(float(radii[0]) * scale * sin_tilt) + 4
        bottom = math.ceil(float(radii.max()) * scale * sin_tilt) + 2
        width, height = 2 * half_width, (top + height_px + bottom + 1) & ~1
        self.width, self.height = width, height
        self.foot = (half_width, top + height_px)
        """Where the axis meets the table, in pixels from the upper left corner."""
        ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
        x = (xs + 0.5 - half_width) / scale
        y = (ys + 0.5 - top) / scale
        h = np.clip(y, 0, 1)
        cos_t = np.ones_like(x)
        for _ in range(24):  # the height whose front point is seen here, by iteration
            r = _at(radii, h)
            cos_t = np.sqrt(np.clip(1 - (x / np.maximum(r, 1e-3)) ** 2, 0, 1))
            h = 0.5 * h + 0.5 * np.clip(y - r * cos_t * sin_tilt, 0, 1)
        r = _at(radii, h)
        residual = np.abs(y - r * cos_t * sin_tilt - h)
        inside = (np.abs(x) <= r) & (residual < 3.0 / scale)
        r0 = float(radii[0])
        mouth = (x / r0) ** 2 + (y / (r0 * sin_tilt)) ** 2
        lip = (x / (r0 * 0.86)) ** 2 + ((y - 0.004) / (r0 * 0.82 * sin_tilt)) ** 2
        solid = inside | (mouth <= 1)
        alpha = _antialias(solid)
        theta = np.arctan2(x / np.maximum(r, 1e-3), np.maximum(cos_t, 1e-3))
        self._map_x = (theta / (2 * math.pi) * TEXTURE_WIDTH + TEXTURE_WIDTH / 4).astype(np.float32)
        self._map_y = (h * (TEXTURE_HEIGHT - 1)).astype(np.float32)
        slope = np.gradient(radii) * TEXTURE_HEIGHT
        n_x, n_z = np.sin(theta), np.cos(theta)
        n_y = -_at(slope.astype(np.float32), h)
        norm = np.sqrt(n_x**2 + n_y**2 + n_z**2)
        n_x, n_y, n_z = n_x / norm, -n_y / norm * -1, n_z / norm
        on_mouth = (mouth <= 1) & (y <= 0.5)
        self._light(product, (n_x, n_y, n_z), on_mouth & (lip < 1), on_mouth & (lip >= 1), h)
        self._keep = (255 - alpha).astype(np.uint8)
        self._keep_half = 255 - halve(alpha)
        self._alpha = alpha
        self._alpha_half = halve(alpha)
        y_tex, u_tex, v_tex = bgr_to_planes(product.paint())
        self._textures = tuple(np.hstack([t, t]) for t in (y_tex, u_tex, v_tex))
        self._maps = cv2.convertMaps(self._map_x, self._map_y, cv2.CV_16SC2)
        self._maps_half = cv2.convertMaps(
            np.ascontiguousarray(self._map_x[::2, ::2]),
            np.ascontiguousarray(self._map_y[::2, ::2]),
            cv2.CV_16SC2,
        )

    def _light(
        self, product: Product, normal: tuple[F32, F32, F32], hole: Mask, lip: Mask, h: F32
    ) -> None:
        """Shading from a warm key above left, a cool rim from the right, and a soft fill."""
        n_x, n_y, n_z = normal

        def lamp(lx: float, ly: float, lz: float) -> F32:
            length = math.sqrt(lx * lx + ly * ly + lz * lz)
            facing: F32 = np.clip((n_x * lx + n_y * ly + n_z * lz) / length, 0, 1)
            return facing

        key = lamp(-0.55, -0.62, 0.65)
        fill = lamp(0.45, -0.1, 0.8)
        shade = 0.10 + 0.86 * key + 0.20 * fill
        shade *= 1 - 0.45 * np.clip((h - 0.82) / 0.18, 0, 1) ** 2  # contact with the table
        gleam = lamp(-0.34, -0.36, 0.95) ** 60 * 150 + lamp(-0.34, -0.36, 0.95) ** 9 * 22
        window = lamp(0.50, -0.28, 0.80) ** 90 * 70
        rim = np.clip(1 - n_z, 0, 1) ** 3.2 * np.clip(n_x * 1.4 + 0.1, 0, 1) * 150
        rim_left = np.clip(1 - n_z, 0, 1) ** 4 * np.clip(-n_x * 1.2, 0, 1) * 60
        shine = product.gloss * (gleam + window)
        shade = np.where(hole, 0.05, np.where(lip, 0.95, shade))
        shine = np.where(hole | lip, np.where(lip, 14.0, 0.0), shine)
        rim = np.where(hole, 0.0, rim + rim_left)
        self._shade = u8(np.clip(shade, 0, 1.2) * 200)  # 200 stands for 1
        self._shine = u8(shine)
        self._rim = u8(rim)
        self._hole_half = halve(u8(hole.astype(np.float32) * 255))
        self._rim_half = halve(u8(rim))

    def draw(
        self,
        picture: Picture,
        foot_x: int,
        foot_y: int,
        turn_deg: float,
        light: float,
        warmth: float,
    ) -> None:
        """Draw with its foot at (foot_x, foot_y), wholly inside the picture.

        `light` 0-1 is the spotlight on it, `warmth` 0-1 the colour of the rim light.
        """
        x0, y0 = (foot_x - self.foot[0]) & ~1, (foot_y - self.foot[1]) & ~1
        shift = int(turn_deg / 360 * TEXTURE_WIDTH) % TEXTURE_WIDTH
        window = np.s_[:, shift : shift + TEXTURE_WIDTH]
        y = cv2.remap(self._textures[0][window], self._maps[0], self._maps[1], cv2.INTER_LINEAR)
        y = cv2.multiply(y, self._shade, scale=(0.12 + 0.88 * light) / 200)
        y = cv2.addWeighted(y, 1.0, self._shine, light, 0)
        y = cv2.addWeighted(y, 1.0, self._rim, 0.35 + 0.45 * light, 8 * (1 - light))
        at = np.s_[y0 : y0 + self.height, x0 : x0 + self.width]
        blend(picture.y[at], cv2.multiply(y, self._alpha, scale=1 / 255), self._keep)
        half = np.s_[y0 // 2 : (y0 + self.height) // 2, x0 // 2 : (x0 + self.width) // 2]
        # Dim light takes colour away with brightness; the rim lends its own colour.
        colour = 0.25 + 0.75 * light
        tints = (-0.22 * (warmth * 2 - 1), 0.20 * (warmth * 2 - 1))
        for plane, texture, tint in zip(
            (picture.u, picture.v), self._textures[1:], tints, strict=True
        ):
            c = cv2.remap(texture[window], self._maps_half[0], self._maps_half[1], cv2.INTER_LINEAR)
            c = cv2.addWeighted(c, colour, self._rim_half, tint, 128 * (1 - colour))
            blend(plane[half], cv2.multiply(c, self._alpha_half, scale=1 / 255), self._keep_half)


def _at(values: F32, h: F32) -> F32:
    """`values` (one a texture row) at the heights `h`, linear between rows."""
    position = np.clip(h, 0, 1) * (len(values) - 1)
    low = position.astype(np.int32)
    high = np.minimum(low + 1, len(values) - 1)
    part = position - low
    return (values[low] * (1 - part) + values[high] * part).astype(np.float32)


def _antialias(solid: Mask) -> U8:
    """Coverage of a shape known as yes or no a pixel: a soft edge one pixel wide."""
    mask = cv2.morphologyEx(solid.astype(np.float32), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    blurred = cv2.GaussianBlur(mask, (0, 0), 0.9)
    return u8(np.clip((blurred - 0.38) / 0.5, 0, 1) * 255)
