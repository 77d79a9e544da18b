"""Camera `closeup`: the product on its turntable, filling the picture; the hall out of focus."""

from __future__ import annotations

import math
import random
from typing import Final

import cv2
import numpy as np

from media.stage.backdrop import Backdrop
from media.stage.glazes import PRODUCTS
from media.stage.light import AMBER, TEAL, add_glow, beam_colour, disc, glow, mix, scaled
from media.stage.planes import F32, SOFT, U8, Picture, Sprite, sprite, u8
from media.stage.pottery import TILT_DEG, Pot
from media.stage.props import Confetti, line, to_yuv
from media.stage.scene import SceneState

WIDTH: Final = 960
HEIGHT: Final = 540
_FOOT: Final = (480, 446)
_DISC_PX: Final = 236
_POT_PX: Final = 338
_SQUASH: Final = math.sin(math.radians(TILT_DEG))
_TICKS: Final = 60


class CloseupView:
    """Draws `SceneState` as the table camera sees it."""

    width = WIDTH
    height = HEIGHT

    def __init__(self) -> None:
        w, h = WIDTH // SOFT, HEIGHT // SOFT
        self._backdrop = Backdrop(w // 4 + 10, h // 4)
        rng = random.Random(8)
        self._lamps = [
            (rng.uniform(0, w), rng.uniform(4, h * 0.62), rng.randrange(3), rng.uniform(0, 6.28), i)
            for i in range(22)
        ]
        self._discs = [disc(r) for r in (7, 10, 14)]
        self._halo = glow(76, 1.6)
        self._motes = [
            (rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.5, 1.5)) for _ in range(26)
        ]
        self._mote = glow(2, 1.0)
        vignette = glow(150, 0.7)
        self._vignette = cv2.merge(
            [u8(90.0 + cv2.resize(vignette, (w, h)).astype(np.float32) * (165 / 255))] * 3
        )
        self._table = _table()
        self._table_y = HEIGHT - self._table.height
        self._disc = _turntable()
        self._tick_yuv = to_yuv((120, 178, 222))
        self._pots = [Pot(product, _POT_PX) for product in PRODUCTS]
        self._confetti = Confetti(WIDTH, HEIGHT, 70, 9.0, 22)

    def draw(self, state: SceneState, picture: Picture) -> None:
        """The whole picture but the overlay."""
        soft = self._background(state)
        picture.soften(soft)
        picture.put(self._table, 0, self._table_y)
        x, y = _FOOT
        picture.put(self._disc, x - self._disc.width // 2, y - int(_DISC_PX * _SQUASH) - 4)
        self._ticks(picture, state)
        pot = self._pots[state.product % len(self._pots)]
        pot.draw(picture, x, y, state.turn_deg, state.product_light, state.beams[1].warmth)
        self._confetti.draw(picture, state)

    def _background(self, state: SceneState) -> U8:
        w, h = WIDTH // SOFT, HEIGHT // SOFT
        small = self._backdrop.draw(state)[:, 5 : 5 + w // 4]
        soft = u8(cv2.resize(cv2.GaussianBlur(small, (0, 0), 2.2), (w, h)))
        soft = u8(cv2.convertScaleAbs(soft, alpha=0.42))
        for x, y, size, phase, index in self._lamps:
            beam = state.beams[index % len(state.beams)]
            strength = 0.34 + 0.16 * math.sin(state.at_s * 0.6 + phase) + 0.07 * state.pulse
            drift = 3 * math.sin(state.at_s * 0.13 + phase)
            add_glow(soft, self._discs[size], x + drift, y, scaled(beam_colour(beam), strength))
        warm = mix(TEAL, AMBER, 0.6)
        light = 0.25 + 0.75 * state.product_light
        add_glow(soft, self._halo, w / 2, h * 0.46, scaled(warm, 0.34 * light))
        for mx, my, speed in self._motes:
            x = (mx + 0.02 * math.sin(state.at_s * 0.4 * speed + my * 9)) * w
            y = math.fmod(my + 1 - state.at_s * 0.012 * speed % 1, 1.0) * h
            near = max(1 - abs(x / w - 0.5) * 2.4, 0)
            add_glow(soft, self._mote, x, y, scaled(AMBER, 0.5 * near * light))
        return u8(cv2.multiply(soft, self._vignette, scale=1 / 255))

    def _ticks(self, picture: Picture, state: SceneState) -> None:
        """Marks round the turntable's edge, which make its turning plain."""
        x, y = _FOOT
        for index in range(_TICKS):
            angle = math.radians(index * 360 / _TICKS) - math.radians(state.turn_deg)
            depth = math.cos(angle)
            if depth < 0.06:
                continue
            side = math.sin(angle)
            px, py = x + side * _DISC_PX, y + depth * _DISC_PX * _SQUASH
            long = 9 if index % 5 == 0 else 5
            facing = 0.35 + 0.65 * max(-0.5 * side + 0.75 * depth, 0)
            luma = int(16 + (self._tick_yuv[0] - 16) * facing * (0.4 + 0.6 * state.product_light))
            line(picture, (px, py + 4), (px, py + 4 + long), (luma, *self._tick_yuv[1:]), 2)


def _table() -> Sprite:
    """Dark walnut with a sheen, its far edge soft; the lower quarter of the picture."""
    h = 168
    rng = np.random.default_rng(14)
    rows = np.linspace(0, 1, h)[:, None]
    grain = cv2.resize(
        rng.normal(0, 1, (h // 3, 12)).astype(np.float32), (WIDTH, h), interpolation=cv2.INTER_CUBIC
    )
    fine = cv2.resize(
        rng.normal(0, 1, (h, 60)).astype(np.float32), (WIDTH, h), interpolation=cv2.INTER_CUBIC
    )
    tone = 1 + 0.10 * grain + 0.05 * fine
    bgr = np.array([34, 46, 74])[None, None, :] * tone[..., None] * (0.5 + 0.55 * rows[..., None])
    xs = (np.arange(WIDTH) - WIDTH / 2)[None, :] / 420
    pool = np.exp(-(xs**2) - ((rows - 0.42) / 0.5) ** 2)
    bgr += pool[..., None] * np.array([26, 52, 84]) * tone[..., None]
    bgr *= (1.0 - 0.45 * np.clip(np.abs(xs) - 0.4, 0, 1))[..., None]
    alpha = np.clip(rows * h / 26, 0, 1) * np.ones((1, WIDTH))
    return sprite(u8(bgr), u8(alpha**1.5 * 255))


def _turntable() -> Sprite:
    """A brass-edged disc with the product's shadow on it."""
    k = 2
    pad = 76
    w, h = 2 * (_DISC_PX + pad), int(2 * _DISC_PX * _SQUASH) + 8 + 56
    ys, xs = np.mgrid[0 : h * k, 0 : w * k].astype(np.float32)
    xs = (xs + 0.5) / k - w / 2
    ys = (ys + 0.5) / k - _DISC_PX * _SQUASH - 4
    radius = np.sqrt(xs**2 + (ys / _SQUASH) ** 2)

    def cover(distance: F32) -> F32:
        opacity: F32 = np.clip(distance * _SQUASH + 0.5, 0, 1)
        return opacity

    top = cover(_DISC_PX - radius)
    lower = np.sqrt(xs**2 + ((ys - 18) / _SQUASH) ** 2)
    side = np.maximum(cover(_DISC_PX - lower), (np.abs(xs) < _DISC_PX) & (ys > 0) & (ys < 18)) * (
        1 - top
    )
    shadow_radius = np.sqrt((xs * 0.94 - 10) ** 2 + ((ys - 26) / _SQUASH) ** 2)
    shadow = np.clip((_DISC_PX + 40 - shadow_radius) / 60, 0, 1) * 0.75 * (1 - top) * (1 - side)
    angle = np.arctan2(ys / _SQUASH, xs)
    # Brushed metal: light runs along two opposite directions.
    brushed = 0.55 + 0.45 * np.cos(2 * (angle + 0.9)) ** 2 * np.clip(radius / _DISC_PX, 0, 1)
    base = np.array([58, 66, 76])[None, None, :] * brushed[..., None]
    ring = np.exp(-(((radius - _DISC_PX + 9) / 3.5) ** 2)) + 0.5 * np.exp(
        -(((radius - 170) / 2.0) ** 2)
    )
    base += (
        ring[..., None] * np.array([60, 120, 168])[None, None, :] * (0.4 + 0.6 * brushed[..., None])
    )
    contact = (
        np.clip(1 - (np.sqrt((xs - 16) ** 2 + ((ys - 4) / _SQUASH) ** 2) - 60) / 95, 0, 1) ** 1.6
    )
    base *= 1 - 0.82 * contact[..., None]
    across = np.clip(
        -0.5 * xs / _DISC_PX + 0.75 * np.sqrt(np.clip(1 - (xs / _DISC_PX) ** 2, 0, 1)), 0.08, 1
    )
    edge = np.array([44, 78, 108])[None, None, :] * across[..., None]
    bgr = base * top[..., None] + edge * side[..., None]
    cover_all = np.clip(top + side, 0, 1)
    colour = bgr / np.maximum(cover_all, 1e-3)[..., None] * (cover_all > 0.01)[..., None]
    alpha = np.clip(cover_all + shadow, 0, 1)
    size = (w, h & ~1)
    return sprite(
        u8(
            cv2.resize(
                u8(colour * (cover_all / np.maximum(alpha, 1e-3))[..., None]),
                size,
                interpolation=cv2.INTER_AREA,
            )
        ),
        u8(cv2.resize(u8(alpha * 255), size, interpolation=cv2.INTER_AREA)),
    )
