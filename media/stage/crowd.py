"""Camera `crowd`: from the stage into the hall, faces and light sticks."""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np

from media.stage.light import AMBER, Beams, add_glow, bloom, glow, scaled
from media.stage.people import crowd_row
from media.stage.planes import SOFT, U8, Picture, u8
from media.stage.props import Confetti, Sticks
from media.stage.scene import BEAM_COUNT, SceneState

WIDTH: Final = 960
HEIGHT: Final = 540
_ROWS: Final = (
    # top, head radius, light on them, brightness of the sticks, share of raised arms
    (256, 9.0, 0.5, 0.55, 0.42),
    (288, 13.0, 0.6, 0.68, 0.42),
    (330, 19.0, 0.74, 0.85, 0.42),
    (384, 27.0, 0.88, 1.0, 0.45),
)
_EDGE: Final = (190, 148, 128)


class CrowdView:
    """Draws `SceneState` as the camera at the stage's edge sees the hall."""

    width = WIDTH
    height = HEIGHT

    def __init__(self) -> None:
        w, h = WIDTH // SOFT, HEIGHT // SOFT
        self._base = _hall(w, h)
        lamps = [(w * (0.12 + 0.152 * i), -6.0) for i in range(BEAM_COUNT)]
        self._beams = Beams(w, h, lamps, h * 0.95)
        self._bulbs = [
            (x / SOFT, y / SOFT, i)
            for line, (sag, bar) in enumerate(((46, 66), (62, 104)))
            for i, (x, y) in enumerate(
                (24 + 912 * j / 16, bar + sag * math.sin(math.pi * j / 16 * 2 % math.pi) + 8 * line)
                for j in range(17)
            )
        ]
        self._bulb, self._bulb_halo = glow(4, 1.0), glow(9, 1.8)
        self._haze = glow(90, 1.2)
        self._rows = []
        for index, (top, head, light, dim, share) in enumerate(_ROWS):
            row, hands = crowd_row(WIDTH + 80, HEIGHT - top, head, 40 + index, light, _EDGE, True)
            self._rows.append((row, top, head, Sticks(hands, head * 2.4, index, share), dim, index))
        self._confetti = Confetti(WIDTH, HEIGHT, 110, 7.0, 23)

    def draw(self, state: SceneState, picture: Picture) -> None:
        """The whole picture but the overlay."""
        soft = self._base.copy()
        w, h = WIDTH // SOFT, HEIGHT // SOFT
        for x, y, index in self._bulbs:
            warmth = 0.75 + 0.2 * math.sin(state.at_s * 0.7 + index) + 0.05 * state.pulse
            add_glow(soft, self._bulb_halo, x, y, scaled(AMBER, 0.4 * warmth))
            add_glow(soft, self._bulb, x, y, scaled((150, 214, 255), warmth))
        self._beams.draw(soft, state, gain=0.62, spread_deg=6.0)
        add_glow(soft, self._haze, w / 2, h * 0.55, (56, 44, 60))
        bloom(soft, 0.3)
        picture.soften(soft)
        for row, top, head, sticks, dim, index in self._rows:
            dx = head * 0.32 * math.sin(math.pi * state.beat / 2 + index * 1.1)
            dy = (
                -head
                * 0.3
                * abs(math.sin(math.pi * state.beat + index * 0.7))
                * (0.5 + state.cheer)
            )
            picture.put(row, int(dx) - 40, int(top + dy))
            sticks.draw(picture, state, dx - 40, top + dy, dim)
        self._confetti.draw(picture, state)


def _hall(w: int, h: int) -> U8:
    """The far end of the hall: wall, balcony, doors with light behind them."""
    rows = np.linspace(0, 1, h)[:, None, None]
    img = u8(
        np.array([62, 34, 30]) * (0.35 + 0.9 * np.exp(-(((rows - 0.5) / 0.26) ** 2)))
        + np.zeros((1, w, 1))
    )
    cv2.rectangle(img, (0, int(h * 0.36)), (w, int(h * 0.41)), (44, 25, 24), -1)
    cv2.line(img, (0, int(h * 0.36)), (w, int(h * 0.36)), (110, 100, 120), 1)
    for i in range(15):  # people on the balcony
        x = int((i + 0.5 + 0.25 * math.sin(i * 7.7)) * w / 15)
        cv2.circle(img, (x, int(h * 0.335)), 2, (40, 26, 26), -1)
        cv2.ellipse(img, (x, int(h * 0.375)), (4, 3), 0, 180, 360, (40, 26, 26), -1)
    for at in (0.2, 0.5, 0.8):
        door = (int((at - 0.035) * w), int(h * 0.44)), (int((at + 0.035) * w), int(h * 0.62))
        cv2.rectangle(img, *door, (120, 160, 220), -1)
    return u8(cv2.GaussianBlur(img, (0, 0), 1.1))
