"""What is burnt into every picture: camera name, wall clock to the millisecond, block code."""

from __future__ import annotations

import time
from typing import Final

import cv2
import numpy as np

from media.stage import clockcode
from media.stage.planes import U8, Picture, Sprite, sprite

_SIZE: Final = 19
_MARGIN: Final = 22
_PILL: Final = 34
_SUPERSAMPLE: Final = 2
_FONT: Final = "sans"


def text_width(text: str, size: int, weight: int) -> int:
    """Width of `text` in pixels when set in the stage's typeface."""
    box = cv2.getTextSize((0, 0), text, (0, 0), cv2.FontFace(_FONT), size, weight)
    return int(box[2])


def put_text(
    img: U8, text: str, x: int, baseline: int, colour: tuple[int, int, int], size: int, weight: int
) -> None:
    """Set one line of text into a BGR picture; `size` in pixels, weight 100-900."""
    cv2.putText(img, text, (x, baseline), colour, cv2.FontFace(_FONT), size, weight)


def pill(width: int, height: int, colour: tuple[int, int, int], opacity: int) -> tuple[U8, U8]:
    """BGR and alpha of a rounded plate, for text to be set upon."""
    k = _SUPERSAMPLE
    alpha = np.zeros((height * k, width * k), np.uint8)
    radius = height * k // 2
    cv2.rectangle(alpha, (radius, 0), (width * k - radius - 1, height * k - 1), opacity, -1)
    cv2.circle(alpha, (radius, radius), radius, opacity, -1)
    cv2.circle(alpha, (width * k - radius - 1, radius), radius, opacity, -1)
    small = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_AREA)
    bgr = np.empty((height, width, 3), np.uint8)
    bgr[:] = colour
    return bgr, small.astype(np.uint8)


class Overlay:
    """Name and clock plates of one camera, and its block code."""

    def __init__(self, camera: str, utc_offset_s: int | None = None) -> None:
        """`utc_offset_s` of the clock on show; None is this machine's local time."""
        self._offset_s = time.localtime().tm_gmtoff if utc_offset_s is None else utc_offset_s
        ink, plate = (244, 240, 236), (26, 16, 14)
        cell = max(text_width(str(d), _SIZE, 500) for d in range(10)) + 1
        narrow = text_width(":", _SIZE, 500) + 3
        name_width = text_width(camera, _SIZE, 600)
        clock_width = 9 * cell + 3 * narrow
        width = 40 + name_width + 22 + clock_width + 18
        width += width % 2
        bgr, alpha = pill(width, _PILL, plate, 178)
        cv2.circle(bgr, (20 * 16, _PILL * 8), 5 * 16, (92, 92, 250), -1, cv2.LINE_AA, 4)
        cv2.circle(alpha, (20 * 16, _PILL * 8), 6 * 16, 235, -1, cv2.LINE_AA, 4)
        put_text(bgr, camera, 34, _PILL // 2 + 7, ink, _SIZE, 600)
        put_text(
            alpha_text := np.zeros((_PILL, width, 3), np.uint8),
            camera,
            34,
            _PILL // 2 + 7,
            (255,) * 3,
            _SIZE,
            600,
        )
        alpha = np.maximum(alpha, alpha_text[:, :, 0])
        divider = 34 + name_width + 10
        bgr[9 : _PILL - 9, divider : divider + 1] = (120, 112, 106)
        self._plate = sprite(bgr, alpha)
        # Digits keep to cells of one width, or the clock would tremble.
        self._cells: list[tuple[int, int]] = []
        x = _MARGIN + divider + 12
        for index in range(12):
            wide = index not in (2, 5, 8)
            self._cells.append((index, x))
            x += cell if wide else narrow
        self._glyphs: dict[str, U8] = {}
        for glyph in "0123456789:.":
            room = cell if glyph.isdigit() else narrow
            img = np.zeros((_PILL, room, 3), np.uint8)
            inset = (room - text_width(glyph, _SIZE, 500)) // 2
            put_text(img, glyph, max(inset, 0), _PILL // 2 + 7, (219,) * 3, _SIZE, 500)
            self._glyphs[glyph] = img[:, :, 0].copy()

    def draw(self, picture: Picture, at_ms: int) -> None:
        """Burn everything in; the last thing drawn on a picture."""
        picture.put(self._plate, _MARGIN, _MARGIN)
        seconds, ms = divmod(at_ms, 1000)
        day = (seconds + self._offset_s) % 86400
        text = f"{day // 3600:02}:{day // 60 % 60:02}:{day % 60:02}.{ms:03}"
        for (_, x), glyph in zip(self._cells, text, strict=True):
            shape = self._glyphs[glyph]
            at = picture.y[_MARGIN : _MARGIN + _PILL, x : x + shape.shape[1]]
            cv2.add(at, shape, dst=at)
        strip = clockcode.strip_px(picture.height)
        clockcode.draw(picture.y, at_ms)
        picture.u[-strip // 2 :] = 128
        picture.v[-strip // 2 :] = 128


def label(text: str, size: int, weight: int, colour: tuple[int, int, int]) -> Sprite:
    """A line of text as a sprite with nothing behind it."""
    width = text_width(text, size, weight) + 4
    width += width % 2
    height = int(size * 1.5) & ~1
    mask = np.zeros((height, width, 3), np.uint8)
    put_text(mask, text, 2, int(size * 1.1), (255,) * 3, size, weight)
    bgr = np.empty((height, width, 3), np.uint8)
    bgr[:] = colour
    return sprite(bgr, mask[:, :, 0].copy())
