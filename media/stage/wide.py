"""Camera `wide`: the whole stage from the middle of the hall."""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np

from media.stage.backdrop import Backdrop
from media.stage.glazes import PRODUCTS
from media.stage.light import AMBER, TEAL, Beams, add_glow, bloom, glow, mix, scaled
from media.stage.people import HOST_PHASES, crowd_row, host_phases
from media.stage.planes import SOFT, U8, Picture, Sprite, sprite, u8
from media.stage.pottery import Pot
from media.stage.props import Confetti, Sticks, lantern
from media.stage.scene import BEAM_COUNT, SceneState

WIDTH: Final = 960
HEIGHT: Final = 540
_WALL: Final = (152, 60, 808, 324)  # left, top, right, bottom in pixels
_FLOOR: Final = 352
_TABLE: Final = (520, 392)  # where the product's foot stands
_HOST_X: Final = 352
_POT_PX: Final = 112


class WideView:
    """Draws `SceneState` as the hall camera sees it."""

    width = WIDTH
    height = HEIGHT

    def __init__(self) -> None:
        left, top, right, bottom = (v // SOFT for v in _WALL)
        self._wall_at = (left, top)
        self._backdrop = Backdrop(right - left, bottom - top)
        w, h = WIDTH // SOFT, HEIGHT // SOFT
        rows = np.linspace(0, 1, h)[:, None, None]
        night = np.array([34, 17, 15]) * (1 - 0.5 * rows) + np.zeros((1, w, 1))
        floor = np.array([30, 24, 26]) * (0.55 + 0.9 * np.linspace(0, 1, h)[:, None, None])
        self._base: U8 = u8(np.where(np.arange(h)[:, None, None] * SOFT >= _FLOOR, floor, night))
        lamps = [(240 + 96 * i, 34) for i in range(BEAM_COUNT)]
        self._beams = Beams(w, h, [(x / SOFT, y / SOFT) for x, y in lamps], h * 0.92)
        ramp = np.clip(np.minimum(np.arange(w), np.arange(w)[::-1]) / 26 - 0.6, 0, 1)
        deep = np.linspace(1, 0.25, h - _FLOOR // SOFT)
        self._mirror_fade = cv2.merge([u8(np.outer(deep, ramp) * 255)] * 3)
        self._pool = u8(cv2.resize(glow(40, 1.5), (130, 34)))
        self._halo = glow(12, 1.8)
        self._set, self._front = _set(), _front()
        self._pots = [Pot(product, _POT_PX) for product in PRODUCTS]
        self._host = host_phases(196)
        self._confetti = Confetti(WIDTH, HEIGHT, 110, 5.0, 21)
        self._lanterns = [lantern(34, (60, 92, 250)), lantern(34, (64, 150, 252))]
        self._strings = [
            (x, y, (i * 7 + side) % 2, i * 1.7)
            for side in (0, 1)
            for i, (x, y) in enumerate(
                ((34, 92), (84, 134), (134, 70))
                if side == 0
                else ((926, 92), (876, 134), (826, 70))
            )
        ]
        self._rows = []
        for seed, (y, head, light, share) in enumerate(
            ((436, 10, 0.55, 0.35), (474, 14, 1.0, 0.3))
        ):
            row, hands = crowd_row(WIDTH + 48, 104, head, seed + 3, 0.22, (200, 152, 128), False)
            self._rows.append((row, y, Sticks(hands, head * 2.3, seed, share), light, seed))

    def draw(self, state: SceneState, picture: Picture) -> None:
        """The whole picture but the overlay."""
        soft = self._base.copy()
        wall = self._backdrop.draw(state)
        x, y = self._wall_at
        h, w = wall.shape[:2]
        soft[y : y + h, x : x + w] = wall
        floor = _FLOOR // SOFT
        mirror = cv2.resize(wall[::-1], (soft.shape[1], soft.shape[0] - floor))
        mirror = cv2.GaussianBlur(mirror, (0, 0), sigmaX=2.0, sigmaY=5.0)
        mirror = cv2.multiply(mirror, self._mirror_fade, scale=0.4 / 255)
        cv2.add(soft[floor:], mirror, dst=soft[floor:])
        self._beams.draw(soft, state)
        warm = mix(TEAL, AMBER, 0.85)
        spot = 0.35 + 0.65 * state.product_light
        add_glow(soft, self._pool, _TABLE[0] / SOFT, 438 / SOFT, scaled(warm, 0.5 * spot))
        add_glow(soft, self._pool, _HOST_X / SOFT, 446 / SOFT, scaled(warm, 0.28))
        for lx, ly, hue, phase in self._strings:
            sway = 2.2 * math.sin(state.at_s * 0.9 + phase)
            add_glow(soft, self._halo, (lx + sway) / SOFT, ly / SOFT, (26, 60 + 24 * hue, 120))
        bloom(soft, 0.3)
        picture.soften(soft)
        picture.put(self._set, 0, 0)
        for lx, ly, hue, phase in self._strings:
            sway = 2.2 * math.sin(state.at_s * 0.9 + phase)
            picture.put(self._lanterns[hue], int(lx - 17 + sway), ly - 24)
        phase = math.fmod(state.at_s / 9.0, 1.0)
        host = self._host[int(phase * HOST_PHASES)]
        picture.put(host, _HOST_X - 50, 446 - host.height)
        picture.put(self._front, _TABLE[0] - 60, _TABLE[1] - 14)
        pot = self._pots[state.product % len(self._pots)]
        pot.draw(picture, *_TABLE, state.turn_deg, state.product_light, state.beams[4].warmth)
        for row, y, sticks, light, seed in self._rows:
            dx = 7 * math.sin(math.pi * state.beat / 2 + seed * 1.3)
            dy = -3.5 * abs(math.sin(math.pi * state.beat + seed)) * (0.6 + state.cheer)
            picture.put(row, int(dx) - 24, int(y + dy))
            sticks.draw(picture, state, dx - 24, y + dy, light)
        self._confetti.draw(picture, state)


def _set() -> Sprite:
    """Truss, lamps, wall frame, stage edge: what stands behind the people."""
    k = 2
    bgr = np.zeros((HEIGHT * k, WIDTH * k, 3), np.uint8)
    alpha = np.zeros((HEIGHT * k, WIDTH * k), np.uint8)

    def box(
        x0: float, y0: float, x1: float, y1: float, colour: tuple[int, int, int], a: int = 255
    ) -> None:
        corners = (int(x0 * k), int(y0 * k)), (int(x1 * k) - 1, int(y1 * k) - 1)
        cv2.rectangle(bgr, *corners, colour, -1)
        cv2.rectangle(alpha, *corners, a, -1)

    def stroke(
        x0: float, y0: float, x1: float, y1: float, colour: tuple[int, int, int], px: int
    ) -> None:
        ends = (int(x0 * k), int(y0 * k)), (int(x1 * k), int(y1 * k))
        cv2.line(bgr, *ends, colour, px * k, cv2.LINE_AA)
        cv2.line(alpha, *ends, 255, px * k, cv2.LINE_AA)

    steel, edge = (40, 30, 28), (86, 68, 62)
    for x in range(160, 801, 20):  # truss
        stroke(x, 12, x + 10, 28, steel, 2)
        stroke(x + 10, 28, x + 20, 12, steel, 2)
    box(150, 10, 812, 14, edge)
    box(150, 27, 812, 31, steel)
    for i in range(BEAM_COUNT):
        x = 240 + 96 * i
        box(x - 9, 30, x + 9, 42, (34, 24, 22))
        box(x - 9, 30, x + 9, 32, edge)
    left, top, right, bottom = _WALL
    for x0, y0, x1, y1 in (
        (left - 6, top - 6, right + 6, top),
        (left - 6, bottom, right + 6, bottom + 6),
        (left - 6, top, left, bottom),
        (right, top, right + 6, bottom),
    ):
        box(x0, y0, x1, y1, (22, 14, 13))
    for x0, x1 in ((0, 60), (60, 118), (842, 900), (900, 960)):  # drapes
        for i in range(x0, x1, 2):
            shade = 0.5 + 0.5 * math.sin(i * 0.36)
            box(
                i,
                0,
                i + 2,
                _FLOOR + 2,
                (int(24 + 16 * shade), int(12 + 8 * shade), int(20 + 26 * shade)),
                225,
            )
    for x in (128, 832):  # loudspeaker stacks
        for y in range(196, 350, 38):
            box(x - 22, y, x + 22, y + 35, (30, 22, 22))
            box(x - 22, y, x + 22, y + 2, edge)
            cv2.circle(bgr, (x * k, (y + 19) * k), 12 * k, (18, 12, 12), -1, cv2.LINE_AA)
            cv2.circle(bgr, (x * k, (y + 19) * k), 12 * k, (58, 46, 42), k, cv2.LINE_AA)
    # A riser under the wall, with a strip of light on its edge.
    box(118, _FLOOR - 24, 842, _FLOOR, (26, 18, 18))
    box(118, _FLOOR - 25, 842, _FLOOR - 22, (120, 190, 250))
    size = (WIDTH, HEIGHT)
    return sprite(
        u8(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)),
        u8(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)),
    )


def _front() -> Sprite:
    """The plinth that the product turns on."""
    k = 3
    w, h = 120, 110
    bgr = np.zeros((h * k, w * k, 3), np.float32)
    alpha = np.zeros((h * k, w * k), np.uint8)
    cx = w * k // 2
    columns = (np.arange(w * k) - cx) / (44 * k)
    cos_t = np.sqrt(np.clip(1 - columns**2, 0, 1))
    light = (
        0.10
        + 0.75 * np.clip(-0.6 * columns + 0.75 * cos_t, 0, 1)
        + 0.25 * np.clip(columns - 0.7, 0, 1)
    )
    bgr[:] = np.array([70, 62, 66])[None, None, :] * light[None, :, None]
    bgr *= (1 - 0.55 * np.linspace(0, 1, h * k))[:, None, None]
    img = u8(bgr)
    cv2.rectangle(alpha, (cx - 44 * k, 14 * k), (cx + 44 * k, 92 * k), 255, -1)
    cv2.ellipse(alpha, (cx, 92 * k), (44 * k, 11 * k), 0, 0, 360, 255, -1, cv2.LINE_AA)
    cv2.ellipse(alpha, (cx, 14 * k), (50 * k, 13 * k), 0, 0, 360, 255, -1, cv2.LINE_AA)
    cv2.ellipse(img, (cx, 17 * k), (50 * k, 13 * k), 0, 0, 360, (52, 72, 96), -1, cv2.LINE_AA)
    cv2.ellipse(img, (cx, 14 * k), (50 * k, 13 * k), 0, 0, 360, (88, 128, 166), -1, cv2.LINE_AA)
    cv2.ellipse(img, (cx, 14 * k), (46 * k, 11 * k), 0, 0, 360, (62, 92, 124), -1, cv2.LINE_AA)
    cv2.ellipse(img, (cx, 14 * k), (30 * k, 7 * k), 0, 0, 360, (40, 62, 88), -1, cv2.LINE_AA)
    full = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    x0, y0 = _TABLE[0] - w // 2, _TABLE[1] - 14
    full[y0 : y0 + h, x0 : x0 + w] = cv2.resize(img, (w, h), interpolation=cv2.INTER_AREA)
    mask[y0 : y0 + h, x0 : x0 + w] = cv2.resize(alpha, (w, h), interpolation=cv2.INTER_AREA)
    crop = np.s_[y0 & ~1 : (y0 + h) & ~1, x0 & ~1 : (x0 + w) & ~1]
    return sprite(full[crop], mask[crop])
