"""The host and the crowd: figures against the light, with an edge of it on their shoulders."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from media.stage.planes import U8, Sprite, sprite, u8

HOST_PHASES: Final = 32
_SS: Final = 3  # drawn three times too large, for smooth edges


def _rim(alpha: U8, dx: float, dy: float, px: float) -> U8:
    """The edge that a move of `alpha` by (dx, dy) lays bare: light comes along (dx, dy)."""
    moved = cv2.warpAffine(alpha, np.array([[1, 0, dx], [0, 1, dy]], np.float32), alpha.shape[::-1])
    edge = cv2.subtract(alpha, u8(moved))
    return u8(cv2.min(cv2.GaussianBlur(edge, (0, 0), px), alpha))


def host_phases(height_px: int) -> list[Sprite]:
    """The presenter in HOST_PHASES moments of one gesture; the figure stands on the lower edge."""
    return [_host(height_px, i / HOST_PHASES) for i in range(HOST_PHASES)]


def _host(height_px: int, phase: float) -> Sprite:
    k = height_px * _SS / 200  # drawn on a figure 200 units tall
    width = int(height_px * 0.8) & ~1
    mask = np.zeros((height_px * _SS, width * _SS), np.uint8)
    swing = math.sin(2 * math.pi * phase)
    raise_ = 0.5 - 0.5 * math.cos(2 * math.pi * phase)
    cx = 62.0 + 1.2 * swing

    def at(x: float, y: float) -> tuple[int, int]:
        return int(x * k * 16), int(y * k * 16)

    def poly(
        img: U8, points: Sequence[tuple[float, float]], colour: int | tuple[int, int, int] = 255
    ) -> None:
        cv2.fillPoly(img, [np.array([at(*p) for p in points], np.int32)], colour, cv2.LINE_AA, 4)

    def limb(
        img: U8,
        points: Sequence[tuple[float, float]],
        thick: float,
        colour: int | tuple[int, int, int] = 255,
    ) -> None:
        array = np.array([at(*p) for p in points], np.int32)
        cv2.polylines(img, [array], False, colour, int(thick * k), cv2.LINE_AA, 4)

    def ball(
        img: U8, x: float, y: float, rx: float, ry: float, colour: int | tuple[int, int, int] = 255
    ) -> None:
        cv2.ellipse(
            img,
            at(x, y),
            (int(rx * k * 16), int(ry * k * 16)),
            0,
            0,
            360,
            colour,
            -1,
            cv2.LINE_AA,
            4,
        )

    bgr = np.zeros((*mask.shape, 3), np.uint8)
    robe, under, skin, hair, sash = (
        (66, 38, 34),
        (52, 30, 28),
        (128, 160, 206),
        (30, 22, 24),
        (60, 92, 190),
    )
    elbow = (cx + 30, 74 - 4 * raise_)
    hand = (cx + 56 + 4 * raise_, 78 - 26 * raise_)
    other = (cx - 12 + swing, 96.0)
    skirt = [
        (cx - 14, 84),
        (cx + 14, 84),
        (cx + 21 + swing, 140),
        (cx + 27 + 2 * swing, 198),
        (cx - 27 + 2 * swing, 198),
        (cx - 21 + swing, 140),
    ]
    torso = [(cx - 19, 50), (cx - 8, 43), (cx + 8, 43), (cx + 19, 50), (cx + 15, 88), (cx - 15, 88)]
    for img, c in ((mask, None), (bgr, True)):

        def tone(colour: tuple[int, int, int], coloured: object = c) -> int | tuple[int, int, int]:
            return colour if coloured else 255

        limb(img, [(cx, 36), (cx, 46)], 10, tone(skin))
        poly(img, skirt, tone(under))
        poly(img, torso, tone(robe))
        poly(img, [(cx - 16, 78), (cx + 16, 78), (cx + 15, 90), (cx - 15, 90)], tone(sash))
        limb(img, [(cx + 15, 53), elbow], 11, tone(robe))
        limb(img, [elbow, hand], 8, tone(robe))
        ball(img, hand[0] + 3, hand[1] - 1, 4.4, 4, tone(skin))
        limb(img, [(cx - 16, 53), (cx - 23, 76), other], 10, tone(robe))
        ball(img, other[0] + 2, other[1], 4, 4, tone(skin))
        head_x, head_y = cx + 2 * raise_, 25 - 0.6 * swing
        ball(img, head_x, head_y, 11.2, 13, tone(skin))
        ball(img, head_x - 2.5, head_y - 5, 12, 10.5, tone(hair))
        ball(img, head_x - 8.5, head_y + 1, 5.5, 8.5, tone(hair))
        ball(img, head_x - 9, head_y - 15, 6.6, 6.2, tone(hair))
    size = (width, height_px)
    warm = _rim(mask, -5, 3, 2.4)  # the spot on the table is to the figure's left hand
    cold = _rim(mask, 4, 4, 2.0)
    lit = bgr.astype(np.float32)
    folds = 1 + 0.16 * np.sin(np.arange(mask.shape[1]) / k * 0.9)[None, :, None]
    rows = np.linspace(0, 1, mask.shape[0])[:, None, None]
    lit *= np.where(rows > 0.45, folds, 1.0) * (1.15 - 0.55 * rows)
    lit += warm[..., None] / 255 * np.array([110, 180, 250]) * 0.85
    lit += cold[..., None] / 255 * np.array([200, 150, 90]) * 0.6
    small = cv2.resize(u8(lit), size, interpolation=cv2.INTER_AREA)
    return sprite(u8(small), u8(cv2.resize(mask, size, interpolation=cv2.INTER_AREA)))


_SKIN: Final = ((132, 166, 214), (112, 150, 200), (92, 128, 180))
_HAIR: Final = ((34, 26, 26), (26, 22, 24), (40, 44, 62), (30, 36, 50))
_CLOTHES: Final = (
    (110, 74, 58),
    (64, 58, 128),
    (92, 108, 62),
    (70, 104, 150),
    (104, 98, 96),
    (118, 70, 104),
)


def crowd_row(
    width: int,
    height: int,
    head_px: float,
    seed: int,
    light: float,
    edge: tuple[int, int, int],
    faces: bool,
) -> tuple[Sprite, list[tuple[int, int]]]:
    """A row of people from the waist up, and the shoulders that an arm may grow from.

    `head_px` is a head's radius; people stand side by side over the whole width. `light`
    0-1 is how much of their colour shows, `edge` the light on their upper edges; with
    `faces` they look this way.
    """
    rng = random.Random(seed)
    k = 2
    mask = np.zeros((height * k, width * k), np.uint8)
    img = np.zeros((height * k, width * k, 3), np.uint8)
    shoulders: list[tuple[int, int]] = []
    x = -head_px
    while x < width + head_px:
        r = head_px * rng.uniform(0.9, 1.1)
        y = head_px * rng.uniform(0.9, 1.9) + r
        _person(img, mask, rng, x * k, y * k, r * k, faces)
        shoulders.append((int(x + rng.choice((-1.35, 1.35)) * r), int(y + r * 2.1)))
        x += head_px * rng.uniform(2.9, 3.7)
    rows = np.linspace(1, 0.25, height * k)[:, None, None]
    lit = img * (light * rows)
    rim = _rim(mask, 0, max(head_px * k * 0.09, 1.5), head_px * k * 0.06) / 255
    lit = lit + rim[..., None] * np.array(edge) * rows
    size = (width & ~1, height & ~1)
    small = u8(cv2.resize(u8(lit), size, interpolation=cv2.INTER_AREA))
    return sprite(small, u8(cv2.resize(mask, size, interpolation=cv2.INTER_AREA))), shoulders


def _person(
    img: U8, mask: U8, rng: random.Random, x: float, y: float, r: float, faces: bool
) -> None:
    """One person with the head's middle at (x, y), radius `r`."""
    skin, hair, cloth = rng.choice(_SKIN), rng.choice(_HAIR), rng.choice(_CLOTHES)
    style = rng.random()

    def oval(
        dx: float,
        dy: float,
        rx: float,
        ry: float,
        colour: tuple[int, int, int],
        arc: tuple[int, int] = (0, 360),
    ) -> None:
        centre = int((x + dx * r) * 16), int((y + dy * r) * 16)
        axes = int(rx * r * 16), int(ry * r * 16)
        cv2.ellipse(img, centre, axes, 0, *arc, colour, -1, cv2.LINE_AA, 4)
        cv2.ellipse(mask, centre, axes, 0, *arc, 255, -1, cv2.LINE_AA, 4)

    if style < 0.34:
        oval(0, 0.45, 1.0, 1.15, hair)  # long hair, behind
    oval(0, 1.1, 0.45, 0.6, skin if faces else hair)
    oval(0, 2.6, 1.8, 1.25, cloth)
    oval(0, 5.0, 1.95, 3.4, cloth)
    if not faces:
        oval(0, 0, 0.84, 1.0, hair)
    else:
        oval(0, 1.45, 0.5, 0.34, skin)
        oval(0, 0.05, 0.8, 1.0, skin)
        for side in (-1, 1):
            oval(0.32 * side, 0.12, 0.07, 0.095, (44, 36, 36))
            oval(0.46 * side, 0.36, 0.16, 0.1, (skin[0] - 12, skin[1] - 26, skin[2] + 6))
        smile = int(x * 16), int((y + 0.3 * r) * 16)
        size = int(0.24 * r * 16), int(0.2 * r * 16)
        cv2.ellipse(img, smile, size, 0, 25, 155, (58, 60, 96), max(int(r / 16), 1), cv2.LINE_AA, 4)
        oval(0, -0.2, 0.86, 0.86, hair, (190, 350))
        oval(-0.2, -0.52, 0.62, 0.4, hair)
        oval(0.25, -0.55, 0.58, 0.36, hair)
    if 0.34 <= style < 0.5:
        oval(0, -1.1, 0.4, 0.38, hair)  # a bun
    elif style > 0.86:
        oval(0, -0.55, 0.9, 0.52, cloth, (180, 360))  # a cap
        oval(0.1, -0.55, 1.02, 0.14, cloth)
