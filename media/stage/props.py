"""Things that more than one camera sees: lanterns, confetti, light sticks."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from media.stage.light import glow
from media.stage.planes import U8, Picture, Sprite, bgr_to_planes, sprite, u8
from media.stage.scene import CONFETTI_S, SceneState

Colour = tuple[int, int, int]

STICK_COLOURS: Final[tuple[Colour, ...]] = (
    (250, 214, 110),
    (120, 190, 255),
    (150, 120, 255),
    (170, 240, 150),
)


def to_yuv(colour: Colour) -> Colour:
    """Y, U and V of one BGR colour."""
    planes = bgr_to_planes(np.array([[colour]], np.uint8))
    return int(planes[0][0, 0]), int(planes[1][0, 0]), int(planes[2][0, 0])


def line(
    picture: Picture, a: tuple[float, float], b: tuple[float, float], yuv: Colour, px: int
) -> None:
    """A line from `a` to `b` in colour `yuv`, smooth in luma."""
    cv2.line(
        picture.y,
        (int(a[0] * 16), int(a[1] * 16)),
        (int(b[0] * 16), int(b[1] * 16)),
        yuv[0],
        px,
        cv2.LINE_AA,
        4,
    )
    pa, pb = (int(a[0] * 8), int(a[1] * 8)), (int(b[0] * 8), int(b[1] * 8))
    half = max((px + 1) // 2, 1)
    cv2.line(picture.u, pa, pb, yuv[1], half, cv2.LINE_8, 4)
    cv2.line(picture.v, pa, pb, yuv[2], half, cv2.LINE_8, 4)


def lantern(width: int, hue: Colour) -> Sprite:
    """A lit paper lantern with its ribs, 1.5 times as tall as wide."""
    k = 4
    w, h = width * k, int(width * 1.5) * k
    ys, xs = np.mgrid[0:h, 0:w].astype(np.float32)
    cx, cy, rx, ry = w / 2, h * 0.46, w * 0.47, h * 0.36
    dx, dy = (xs - cx) / rx, (ys - cy) / ry
    distance = dx * dx + dy * dy
    inside = np.clip((1 - distance) * 14, 0, 1)
    centre = np.clip(1 - (dx * dx + (dy - 0.2) ** 2), 0, 1)
    ribs = 0.9 + 0.1 * np.cos(ys / h * math.pi * 15)
    bgr = np.array(hue)[None, None, :] * (0.45 + 0.4 * centre[..., None]) * ribs[..., None]
    bgr += np.array([70, 130, 120])[None, None, :] * (centre**2)[..., None]
    alpha = inside * 255
    img = u8(bgr)
    dark = (30, 40, 70)
    for top, bottom in ((0.06, 0.13), (0.79, 0.85)):
        box = (int(cx - rx * 0.45), int(h * top)), (int(cx + rx * 0.45), int(h * bottom))
        cv2.rectangle(img, *box, dark, -1)
        cv2.rectangle(alpha, *box, 255, -1)
    cv2.line(img, (int(cx), int(h * 0.85)), (int(cx), h), (60, 110, 200), k)
    cv2.line(alpha, (int(cx), int(h * 0.85)), (int(cx), h), 230, k)
    size = (width & ~1, int(width * 1.5) & ~1)
    return sprite(
        u8(cv2.resize(img, size, interpolation=cv2.INTER_AREA)),
        u8(cv2.resize(u8(alpha), size, interpolation=cv2.INTER_AREA)),
    )


@dataclass(frozen=True, slots=True)
class _Flake:
    x: float
    delay_s: float
    fall: float
    drift: float
    spin: float
    size: float
    yuv: Colour


class Confetti:
    """Paper in the air after the hammer: a place for every flake at every age."""

    def __init__(self, width: int, height: int, count: int, size: float, seed: int) -> None:
        rng = random.Random(seed)
        colours = [
            to_yuv(c) for c in ((90, 200, 255), (120, 110, 250), (210, 210, 120), (235, 240, 245))
        ]
        self._height = height
        self._flakes = [
            _Flake(
                rng.uniform(0, width),
                rng.uniform(0, 1.3),
                rng.uniform(0.24, 0.42) * height,
                rng.uniform(8, 30),
                rng.uniform(3, 8),
                size * rng.uniform(0.7, 1.3),
                rng.choice(colours),
            )
            for _ in range(count)
        ]

    def draw(self, picture: Picture, state: SceneState) -> None:
        """Draw the flakes, or nothing where nothing was sold lately."""
        if state.confetti_age_s is None:
            return
        for index, flake in enumerate(self._flakes):
            age = state.confetti_age_s - flake.delay_s
            y = age * flake.fall - 20
            if age < 0 or y > self._height or age > CONFETTI_S:
                continue
            x = flake.x + math.sin(age * 2.2 + index) * flake.drift
            angle = age * flake.spin + index
            turn = math.cos(age * flake.spin * 1.3 + index)  # seen edge on and face on in turn
            half_w, half_h = flake.size, flake.size * 0.62 * turn
            c, s = math.cos(angle), math.sin(angle)
            corners = np.array(
                [
                    [x + c * dx - s * dy, y + s * dx + c * dy]
                    for dx, dy in (
                        (-half_w, -half_h),
                        (half_w, -half_h),
                        (half_w, half_h),
                        (-half_w, half_h),
                    )
                ]
            )
            luma = int(flake.yuv[0] * (0.62 + 0.38 * abs(turn)))
            cv2.fillConvexPoly(picture.y, (corners * 16).astype(np.int32), luma, cv2.LINE_AA, 4)
            half = (corners * 8).astype(np.int32)
            cv2.fillConvexPoly(picture.u, half, flake.yuv[1], cv2.LINE_8, 4)
            cv2.fillConvexPoly(picture.v, half, flake.yuv[2], cv2.LINE_8, 4)


class Sticks:
    """Arms with light sticks that swing on the beat."""

    def __init__(
        self, hands: list[tuple[int, int]], length: float, seed: int, share: float
    ) -> None:
        """`hands` are shoulders that an arm may grow from; `share` of them do."""
        rng = random.Random(seed)
        self._arms = [
            (
                x,
                y,
                rng.uniform(-0.5, 0.5),
                rng.uniform(0.75, 1.1),
                to_yuv(rng.choice(STICK_COLOURS)),
            )
            for x, y in hands
            if rng.random() < share
        ]
        self._length = length
        self._sleeve = to_yuv((54, 40, 44))
        radius = int(length * 0.55) & ~1
        self._glow: U8 = u8(glow(radius, 2.0) * 0.3)

    def draw(self, picture: Picture, state: SceneState, dx: float, dy: float, dim: float) -> None:
        """Draw over a row moved by (dx, dy) pixels; `dim` 0-1 is how bright the sticks are."""
        length = self._length
        for x, y, phase, reach, yuv in self._arms:
            lean = 0.36 * math.sin(math.pi * state.beat + phase) + phase * 0.3
            up = length * reach * (0.8 + 0.6 * state.cheer)
            shoulder = (x + dx, y + dy)
            hand = (shoulder[0] + math.sin(lean) * up, shoulder[1] - math.cos(lean) * up)
            tip = (
                hand[0] + math.sin(lean * 1.5) * length * 0.7,
                hand[1] - math.cos(lean * 1.5) * length * 0.7,
            )
            line(picture, shoulder, hand, self._sleeve, max(int(length * 0.16), 2))
            self._halo(picture, (hand[0] + tip[0]) / 2, (hand[1] + tip[1]) / 2)
            bright = (int(16 + (yuv[0] - 16) * dim), yuv[1], yuv[2])
            line(picture, hand, tip, bright, max(int(length * 0.13), 2))
            core = (int(16 + 219 * dim), (yuv[1] + 128) // 2, (yuv[2] + 128) // 2)
            line(picture, hand, tip, core, max(int(length * 0.05), 1))

    def _halo(self, picture: Picture, x: float, y: float) -> None:
        shape = self._glow
        size = shape.shape[0]
        left, top = int(x) - size // 2, int(y) - size // 2
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + size, picture.width), min(top + size, picture.height)
        if x1 > x0 and y1 > y0:
            at = picture.y[y0:y1, x0:x1]
            cv2.add(at, shape[y0 - top : y1 - top, x0 - left : x1 - left], dst=at)
