"""A picture in I420 planes, and sprites that are blended into them.

Theory: YCbCr is a linear map of RGB with an offset, so a convex blend
`dst * (1 - a) + src * a` may be done on the raw 8-bit planes, offsets included. Sprites keep
`src * a` and `255 - a`, which leaves one multiply and one add a plane: OpenCV does both with
SIMD and without the interpreter lock. Nothing is ever converted from BGR while the show runs,
but for the soft layer, which is drawn at a quarter of the size.

Pictures are BT.601, limited range (luma 16-235), as OpenCV converts and as H.264 is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray

U8: TypeAlias = NDArray[np.uint8]
F32: TypeAlias = NDArray[np.float32]

SOFT = 4
"""The soft layer (light, haze, everything out of focus) has 1/SOFT of the width and height."""


Image: TypeAlias = NDArray[np.integer[Any] | np.floating[Any]]
"""Any picture in numbers: what OpenCV's type hints promise."""


def u8(array: Image) -> U8:
    """`array` clipped to 0-255 and rounded; bytes pass as they are."""
    if array.dtype == np.uint8:
        return cast(U8, array)
    return np.clip(np.rint(array), 0, 255).astype(np.uint8)


def bgr_to_planes(bgr: U8) -> tuple[U8, U8, U8]:
    """Y, U and V of `bgr` (height x width x 3), all three in full size, limited range."""
    b, g, r = (bgr[:, :, i].astype(np.float32) for i in range(3))
    y = 16 + 0.098 * b + 0.504 * g + 0.257 * r
    u = 128 + 0.439 * b - 0.291 * g - 0.148 * r
    v = 128 - 0.071 * b - 0.368 * g + 0.439 * r
    return u8(y), u8(u), u8(v)


def halve(plane: U8) -> U8:
    """`plane` at half the width and height, rounded down, each pixel the mean of four."""
    h, w = plane.shape
    return u8(cv2.resize(plane[: h & ~1, : w & ~1], (w // 2, h // 2), interpolation=cv2.INTER_AREA))


@dataclass(frozen=True, slots=True)
class Sprite:
    """A cut-out: planes multiplied by its opacity, and the opacity's complement.

    `keep` and `keep_half` are 255 where the picture behind stays, 0 where it is covered.
    Width and height are even.
    """

    y: U8
    u: U8
    v: U8
    keep: U8
    keep_half: U8

    @property
    def width(self) -> int:
        return int(self.y.shape[1])

    @property
    def height(self) -> int:
        return int(self.y.shape[0])


def sprite(bgr: U8, alpha: U8) -> Sprite:
    """A sprite of `bgr` with opacity `alpha` (0-255, same height and width)."""
    h, w = alpha.shape
    h, w = h & ~1, w & ~1
    planes = bgr_to_planes(bgr[:h, :w])
    opacity = alpha[:h, :w].astype(np.float32) / 255
    small = cv2.resize(opacity, (w // 2, h // 2), interpolation=cv2.INTER_AREA)
    chroma = [
        # Weighted by opacity, or the colour of what is outside would leak into the edge.
        cv2.resize(plane * opacity, (w // 2, h // 2), interpolation=cv2.INTER_AREA)
        for plane in planes[1:]
    ]
    return Sprite(
        u8(planes[0] * opacity),
        u8(chroma[0]),
        u8(chroma[1]),
        255 - alpha[:h, :w],
        u8(255 - small * 255),
    )


class Picture:
    """One I420 picture. `data` is (height * 3 / 2) x width, the layout that encoders take."""

    __slots__ = ("data", "height", "u", "v", "width", "y")

    def __init__(self, width: int, height: int) -> None:
        """Width a multiple of 8 and height a multiple of 4, in pixels."""
        self.width, self.height = width, height
        self.data: U8 = np.full((height * 3 // 2, width), 128, np.uint8)
        self.y: U8 = self.data[:height]
        self.y[:] = 16
        chroma = self.data[height:].reshape(2, height // 2, width // 2)
        self.u: U8 = chroma[0]
        self.v: U8 = chroma[1]

    def soften(self, soft_bgr: U8) -> None:
        """Fill the whole picture with the soft layer `soft_bgr` (1/SOFT of the size)."""
        ycc = cv2.cvtColor(soft_bgr, cv2.COLOR_BGR2YCrCb)  # full range, order Y, Cr, Cb
        y, v, u = cv2.split(ycc)
        cv2.resize(
            cv2.convertScaleAbs(y, alpha=219 / 255, beta=16), (self.width, self.height), dst=self.y
        )
        half = (self.width // 2, self.height // 2)
        cv2.resize(u, half, dst=self.u)
        cv2.resize(v, half, dst=self.v)

    def put(self, what: Sprite, x: int, y: int) -> None:
        """Blend a sprite with its upper left corner at (x, y); whatever is outside is cut."""
        x, y = x & ~1, y & ~1
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + what.width, self.width), min(y + what.height, self.height)
        if x1 <= x0 or y1 <= y0:
            return
        inside = np.s_[y0 - y : y1 - y, x0 - x : x1 - x]
        half = np.s_[(y0 - y) // 2 : (y1 - y) // 2, (x0 - x) // 2 : (x1 - x) // 2]
        blend(self.y[y0:y1, x0:x1], what.y[inside], what.keep[inside])
        at = np.s_[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2]
        blend(self.u[at], what.u[half], what.keep_half[half])
        blend(self.v[at], what.v[half], what.keep_half[half])

    def to_bgr(self) -> U8:
        """The picture as a person sees it; for tests and stills."""
        return u8(cv2.cvtColor(self.data, cv2.COLOR_YUV2BGR_I420))


def blend(dst: U8, premultiplied: Image, keep: U8) -> None:
    """In place: `dst = dst * keep / 255 + premultiplied`."""
    cv2.multiply(dst, keep, dst=dst, scale=1 / 255)
    cv2.add(dst, premultiplied, dst=dst)
