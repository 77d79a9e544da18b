"""Six glazes and outlines: what the demo's shop sells. Painted once at start, never in the show.

A texture is TEXTURE_HEIGHT x TEXTURE_WIDTH in BGR and joins at its left and right edges.
"""

from __future__ import annotations

import math
import random
from typing import Final

import cv2
import numpy as np

from media.stage.planes import F32, U8, u8
from media.stage.pottery import TEXTURE_HEIGHT, TEXTURE_WIDTH, Product

W: Final = TEXTURE_WIDTH
H: Final = TEXTURE_HEIGHT


def _field(seed: int, cells_x: int, cells_y: int) -> F32:
    """Smooth noise, mean 0, about -1 to 1, that joins at the left and right edges."""
    rng = np.random.default_rng(seed)
    grid = rng.normal(0, 0.5, (cells_y, cells_x)).astype(np.float32)
    tiled = np.hstack([grid, grid, grid])
    big = cv2.resize(tiled, (3 * W, H), interpolation=cv2.INTER_CUBIC)
    return big[:, W : 2 * W].astype(np.float32)


def _gradient(stops: list[tuple[float, tuple[int, int, int]]]) -> F32:
    """Vertical colour run; stops are (height 0-1, BGR)."""
    heights = np.linspace(0, 1, H)
    at = [s for s, _ in stops]
    run = np.stack([np.interp(heights, at, [c[i] for _, c in stops]) for i in range(3)], axis=1)
    return np.repeat(run[:, None, :], W, axis=1).astype(np.float32)


def _wrap_line(
    img: U8, points: list[tuple[float, float]], colour: tuple[int, int, int], px: int
) -> None:
    """A line drawn three times, so that it goes on over the joint."""
    for shift in (-W, 0, W):
        array = np.array([[(x + shift) * 16, y * 16] for x, y in points], np.int32)
        cv2.polylines(img, [array], False, colour, px, cv2.LINE_AA, 4)


def _wrap_disc(
    img: U8, x: float, y: float, axes: tuple[float, float], deg: float, colour: tuple[int, int, int]
) -> None:
    for shift in (-W, 0, W):
        cv2.ellipse(
            img,
            (int((x + shift) * 16), int(y * 16)),
            (int(axes[0] * 16), int(axes[1] * 16)),
            deg,
            0,
            360,
            colour,
            -1,
            cv2.LINE_AA,
            4,
        )


def _branch(
    img: U8,
    rng: random.Random,
    x: float,
    y: float,
    deg: float,
    length: float,
    px: int,
    bark: tuple[int, int, int],
    blossom: tuple[tuple[int, int, int], ...],
) -> None:
    """A plum branch with blossoms, growing by halving twigs."""
    points = [(x, y)]
    for _ in range(9):
        deg += rng.uniform(-16, 16)
        x += math.cos(math.radians(deg)) * length / 9
        y -= math.sin(math.radians(deg)) * length / 9
        points.append((x, y))
    _wrap_line(img, points, bark, px)
    if px > 2:
        for at in (3, 5, 7, 9):
            bx, by = points[at]
            side = rng.choice((-1, 1))
            _branch(
                img,
                rng,
                bx,
                by,
                deg + side * rng.uniform(28, 58),
                length * 0.45,
                px // 2,
                bark,
                blossom,
            )
    for bx, by in points[4:]:
        if rng.random() < (0.85 if px <= 2 else 0.3):
            _blossom(
                img,
                rng,
                bx + rng.uniform(-7, 7),
                by + rng.uniform(-7, 7),
                rng.uniform(7, 12),
                blossom,
            )


def _blossom(
    img: U8,
    rng: random.Random,
    x: float,
    y: float,
    size: float,
    colours: tuple[tuple[int, int, int], ...],
) -> None:
    start = rng.uniform(0, 72)
    for i in range(5):
        angle = math.radians(start + i * 72)
        _wrap_disc(
            img,
            x + math.cos(angle) * size * 0.62,
            y + math.sin(angle) * size * 0.62,
            (size * 0.56, size * 0.46),
            math.degrees(angle),
            colours[i % (len(colours) - 1)],
        )
    _wrap_disc(img, x, y, (size * 0.26, size * 0.26), 0, colours[-1])


def celadon() -> U8:
    """Sky after rain: pale green-blue, fine crackle, one plum branch."""
    run = _gradient(
        [(0, (196, 214, 190)), (0.2, (178, 200, 168)), (0.7, (160, 186, 148)), (1, (128, 152, 116))]
    )
    run += _field(1, 24, 9)[..., None] * 7
    img = u8(run)
    rng = random.Random(5)
    crackle = img.copy()
    for _ in range(170):
        x, y, deg = rng.uniform(0, W), rng.uniform(0, H), rng.uniform(0, 360)
        points = [(x, y)]
        for _ in range(6):
            deg += rng.uniform(-50, 50)
            x += math.cos(math.radians(deg)) * 15
            y += math.sin(math.radians(deg)) * 15
            points.append((x, y))
        _wrap_line(crackle, points, (120, 150, 120), 1)
    img = u8(cv2.addWeighted(img, 0.55, crackle, 0.45, 0))
    petals = ((214, 222, 246), (196, 206, 240), (90, 168, 226))
    _branch(img, rng, 250, 420, 62, 330, 8, (60, 74, 86), petals)
    _branch(img, rng, 980, 380, 120, 270, 7, (60, 74, 86), petals)
    return img


def cobalt() -> U8:
    """Blue and white: waves below, peony rounds in the middle, a fret at the neck."""
    img = u8(
        _gradient([(0, (240, 238, 232)), (1, (226, 224, 214))]) + _field(2, 30, 10)[..., None] * 3
    )
    deep, light = (140, 62, 24), (190, 130, 84)
    for y, px in ((40, 5), (52, 2), (130, 3), (140, 6), (352, 6), (364, 2)):
        _wrap_line(img, [(-10, y), (W + 10, y)], deep, px)
    for i in range(48):  # fret
        x = i * W / 48
        _wrap_line(
            img,
            [(x + 4, 112), (x + 4, 72), (x + 24, 72), (x + 24, 100), (x + 12, 100), (x + 12, 86)],
            deep,
            3,
        )
    for i in range(6):  # rounds
        x = (i + 0.5) * W / 6
        for ring in range(5, 0, -1):
            for petal in range(9):
                angle = 2 * math.pi * (petal + ring * 0.5) / 9
                d = ring * 13
                _wrap_disc(
                    img,
                    x + math.cos(angle) * d,
                    246 + math.sin(angle) * d,
                    (13, 10),
                    math.degrees(angle),
                    light if ring % 2 else deep,
                )
        _wrap_disc(img, x, 246, (10, 10), 0, (232, 230, 222))
        for side in (-1, 1):
            for k in range(4):
                _wrap_disc(
                    img,
                    x + side * 118,
                    200 + k * 31,
                    (26 - 4 * (k % 2), 9),
                    38 * side * (1 - 2 * (k % 2)),
                    light if k % 2 else deep,
                )
    for row in range(5):  # waves
        y = 394 + row * 26
        for i in range(36):
            x = (i + 0.5 * (row % 2)) * W / 36
            for radius, colour in (
                (21, deep),
                (16, (232, 230, 222)),
                (12, light),
                (8, (232, 230, 222)),
                (4, deep),
            ):
                for shift in (-W, 0, W):
                    cv2.ellipse(
                        img,
                        (int(x + shift), y + 20),
                        (radius, radius),
                        0,
                        180,
                        360,
                        colour,
                        -1,
                        cv2.LINE_AA,
                    )
    return img


def kintsugi() -> U8:
    """Black tea jar mended with gold."""
    run = _gradient([(0, (58, 52, 50)), (0.5, (42, 38, 40)), (1, (30, 28, 34))])
    run += _field(3, 40, 16)[..., None] * 8
    oil = np.clip(_field(4, 90, 40), 0.25, 1.2) - 0.25
    run += oil[..., None] * np.array([50, 40, 26], np.float32)
    img = u8(run)
    rng = random.Random(11)
    for start in range(5):
        x, y, deg = start * W / 5 + rng.uniform(-40, 40), 20.0, 90 + rng.uniform(-25, 25)
        _seam(img, rng, x, y, deg, 26, 6)
    return img


def _seam(img: U8, rng: random.Random, x: float, y: float, deg: float, steps: int, px: int) -> None:
    points = [(x, y)]
    for step in range(steps):
        deg += rng.uniform(-32, 32)
        x += math.cos(math.radians(deg)) * 19
        y += abs(math.sin(math.radians(deg))) * 17
        points.append((x, y))
        if px > 3 and rng.random() < 0.16:
            _seam(img, rng, x, y, deg + rng.choice((-55, 55)), (steps - step) // 2, px - 2)
    _wrap_line(img, points, (40, 120, 176), px + 2)
    _wrap_line(img, points, (96, 196, 240), px)
    _wrap_line(img, [(a - 1, b - 1) for a, b in points], (190, 236, 255), max(px - 4, 1))


def sunset() -> U8:
    """Flame glaze: gold over coral over plum, run while it was hot."""
    drips = _field(6, 36, 3) * 0.07 + _field(7, 90, 5) * 0.02
    heights = np.clip(np.linspace(0, 1, H)[:, None] + drips, 0, 1)
    stops = [0.0, 0.22, 0.42, 0.66, 1.0]
    colours = [(120, 206, 250), (72, 160, 246), (78, 92, 232), (104, 52, 150), (84, 34, 62)]
    run = np.stack([np.interp(heights, stops, [c[i] for c in colours]) for i in range(3)], axis=2)
    run += (_field(8, 120, 60) * 5)[..., None]
    return u8(run)


def crane() -> U8:
    """Indigo night, a moon, white cranes."""
    img = u8(
        _gradient([(0, (86, 44, 26)), (0.5, (122, 66, 34)), (1, (150, 96, 58))])
        + _field(9, 20, 8)[..., None] * 9
    )
    rng = random.Random(3)
    for _ in range(150):
        _wrap_disc(img, rng.uniform(0, W), rng.uniform(0, H * 0.7), (1.4, 1.4), 0, (210, 226, 236))
    _wrap_disc(img, 300, 180, (58, 52), 0, (190, 226, 246))
    for x, y, s, lean in (
        (620, 240, 1.5, -8),
        (850, 165, 1.1, 6),
        (1050, 300, 1.35, -14),
        (70, 320, 1.2, 10),
        (1290, 205, 0.9, 4),
    ):
        _fly(img, x, y, s, lean)
    for row in range(4):
        _wrap_line(
            img,
            [
                (x, 420 + row * 24 + 9 * math.sin(x * 2 * math.pi / 180 + row))
                for x in range(-20, W + 21, 12)
            ],
            (206, 180, 150),
            3,
        )
    return img


def _fly(img: U8, x: float, y: float, s: float, lean: float) -> None:
    """One crane in flight."""
    white, ink, red = (240, 240, 236), (44, 34, 30), (60, 60, 214)
    turn = math.radians(lean)

    def at(px: float, py: float) -> tuple[float, float]:
        return (
            x + s * (px * math.cos(turn) - py * math.sin(turn)),
            y + s * (px * math.sin(turn) + py * math.cos(turn)),
        )

    for shift in (-W, 0, W):

        def poly(
            points: list[tuple[float, float]], colour: tuple[int, int, int], dx: int = shift
        ) -> None:
            array = np.array(
                [[(a + dx) * 16, b * 16] for a, b in (at(*p) for p in points)], np.int32
            )
            cv2.fillPoly(img, [array], colour, cv2.LINE_AA, 4)

        poly([(-8, 0), (-40, -58), (-74, -72), (-58, -40), (-20, 8)], white)
        poly([(-40, -58), (-74, -72), (-66, -56), (-52, -50)], ink)
        poly([(10, 0), (34, -62), (62, -84), (56, -44), (22, 8)], white)
        poly([(34, -62), (62, -84), (60, -62), (48, -52)], ink)
        poly([(-44, 6), (-14, -8), (26, -4), (34, 2), (10, 11), (-20, 12)], white)
        poly([(-44, 6), (-72, 2), (-70, 9), (-40, 12)], ink)
    _wrap_line(img, [at(28, -1), at(52, -10), at(76, -8)], white, max(int(4 * s), 2))
    _wrap_line(img, [at(76, -8), at(92, -5)], ink, max(int(2 * s), 1))
    _wrap_disc(img, *at(74, -10), (4 * s, 3 * s), 0, red)


def ember() -> U8:
    """Oxblood glaze with a pale lip and a crackled gold band."""
    run = _gradient(
        [
            (0, (170, 196, 216)),
            (0.05, (90, 90, 190)),
            (0.14, (44, 28, 150)),
            (0.6, (34, 18, 112)),
            (1, (26, 16, 66)),
        ]
    )
    run += _field(12, 60, 14)[..., None] * np.array([10, 8, 22], np.float32)
    img = u8(run)
    for y, px in ((196, 3), (290, 3)):
        _wrap_line(img, [(-10, y), (W + 10, y)], (96, 186, 226), px)
    for i in range(24):
        x = (i + 0.5) * W / 24
        s = 36
        _wrap_line(
            img,
            [(x - s, 243), (x, 243 - s), (x + s, 243), (x, 243 + s), (x - s, 243)],
            (84, 172, 214),
            3,
        )
        _wrap_disc(img, x, 243, (9, 9), 0, (110, 200, 236))
    return img


PRODUCTS: Final = (
    Product(
        "celadon",
        (
            (0, 0.135),
            (0.05, 0.12),
            (0.16, 0.115),
            (0.26, 0.19),
            (0.42, 0.30),
            (0.55, 0.315),
            (0.75, 0.25),
            (0.93, 0.175),
            (1, 0.18),
        ),
        celadon,
        0.9,
    ),
    Product(
        "cobalt",
        (
            (0, 0.12),
            (0.04, 0.095),
            (0.3, 0.085),
            (0.42, 0.14),
            (0.6, 0.27),
            (0.76, 0.315),
            (0.9, 0.27),
            (1, 0.20),
        ),
        cobalt,
        1.0,
    ),
    Product(
        "kintsugi",
        (
            (0, 0.20),
            (0.06, 0.20),
            (0.1, 0.23),
            (0.25, 0.36),
            (0.5, 0.41),
            (0.75, 0.36),
            (0.95, 0.24),
            (1, 0.235),
        ),
        kintsugi,
        1.0,
    ),
    Product(
        "sunset",
        (
            (0, 0.085),
            (0.08, 0.075),
            (0.2, 0.13),
            (0.3, 0.165),
            (0.4, 0.135),
            (0.48, 0.14),
            (0.62, 0.27),
            (0.76, 0.32),
            (0.9, 0.27),
            (1, 0.17),
        ),
        sunset,
        1.0,
    ),
    Product(
        "crane",
        (
            (0, 0.17),
            (0.03, 0.15),
            (0.09, 0.145),
            (0.15, 0.22),
            (0.3, 0.315),
            (0.45, 0.33),
            (0.7, 0.27),
            (0.95, 0.2),
            (1, 0.205),
        ),
        crane,
        0.8,
    ),
    Product(
        "ember",
        (
            (0, 0.19),
            (0.08, 0.135),
            (0.2, 0.13),
            (0.34, 0.24),
            (0.5, 0.31),
            (0.66, 0.27),
            (0.84, 0.17),
            (0.95, 0.19),
            (1, 0.22),
        ),
        ember,
        1.0,
    ),
)
"""In the order the demo sells them; `SceneState.product` counts here, modulo their number."""
