"""What happens on the stage at a moment: **core**, no pixels, no clock of its own.

Every movement is a function of the Unix time, so any camera that draws a moment draws the
same one. Only cues come from outside: which product stands on the turntable, and that the
hammer fell. Music and movement share one pulse of `BEATS_PER_MINUTE`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

BEATS_PER_MINUTE: Final = 96
BEAT_S: Final = 60 / BEATS_PER_MINUTE
TURN_S: Final = 14.0
"""One turn of the turntable."""
CHANGE_S: Final = 1.6
"""The spotlight goes down and up again while the product is changed."""
CONFETTI_S: Final = 5.0
BEAM_COUNT: Final = 6


class CueKind(StrEnum):
    """What can be cued from outside."""

    PRODUCT = "product"
    SOLD = "sold"


@dataclass(frozen=True, slots=True)
class Cue:
    """At `at_s` (Unix time) product number `product` is put up, or has been sold."""

    at_s: float
    kind: CueKind
    product: int = 0


@dataclass(frozen=True, slots=True)
class Beam:
    """One moving head: its lean in degrees from straight down, strength 0-1, warmth 0-1."""

    lean_deg: float
    strength: float
    warmth: float


@dataclass(frozen=True, slots=True)
class SceneState:
    """The stage at one moment. Angles in degrees, strengths 0-1."""

    at_s: float
    at_ms: int
    product: int
    product_light: float
    turn_deg: float
    beat: float
    """Beats since the Unix epoch, modulo 64: whole part counts, fraction is the phase."""
    pulse: float
    """1 on the beat, falling to 0 before the next."""
    beams: tuple[Beam, ...]
    confetti_age_s: float | None
    cheer: float
    """How high the crowd's arms are."""


class Scene:
    """The show so far. Written by one thread, read by the same."""

    def __init__(self) -> None:
        self._product = Cue(0.0, CueKind.PRODUCT, 0)
        self._previous = 0
        self._sold_at_s = -math.inf

    def cue(self, cue: Cue) -> None:
        """Take a cue. Cues come in the order of their time."""
        match cue.kind:
            case CueKind.PRODUCT:
                if cue.product != self._product.product:
                    self._previous = self._product.product
                    self._product = cue
            case CueKind.SOLD:
                self._sold_at_s = cue.at_s

    def at(self, at_ms: int) -> SceneState:
        """The stage at `at_ms` (Unix milliseconds). The same moment gives the same state."""
        at_s = at_ms / 1000
        beat = math.fmod(at_s / BEAT_S, 64.0)
        since_change = at_s - self._product.at_s
        half = CHANGE_S / 2
        if 0 <= since_change < half:
            product, light = self._previous, 1 - since_change / half
        else:
            product, light = self._product.product, min(max(since_change / half - 1, 0), 1)
            if since_change < 0:
                product, light = self._previous, 1.0
        age = at_s - self._sold_at_s
        celebrating = 0 <= age < CONFETTI_S
        joy = math.sin(math.pi * min(age / CONFETTI_S, 1)) if celebrating else 0.0
        return SceneState(
            at_s=at_s,
            at_ms=at_ms,
            product=product,
            product_light=_ease(light),
            turn_deg=math.fmod(at_s / TURN_S, 1.0) * 360,
            beat=beat,
            pulse=math.exp(-4.5 * math.fmod(beat, 1.0)),
            beams=tuple(_beam(i, at_s, joy) for i in range(BEAM_COUNT)),
            confetti_age_s=age if celebrating else None,
            cheer=0.35 + 0.2 * math.sin(at_s * 0.21) ** 2 + 0.45 * joy,
        )


def _ease(x: float) -> float:
    return x * x * (3 - 2 * x)


def _beam(index: int, at_s: float, joy: float) -> Beam:
    """Beams sweep in pairs, mirrored; slow, so that nothing ever flashes."""
    side = -1 if index < BEAM_COUNT // 2 else 1
    rank = index % (BEAM_COUNT // 2)
    phase = at_s * (0.23 + 0.05 * rank) + rank * 1.9
    return Beam(
        lean_deg=side * (6 + 13 * rank) * 0.55 - 21 * side * math.sin(phase),
        strength=min(0.42 + 0.22 * math.sin(at_s * 0.37 + index * 1.3) + 0.4 * joy, 1.0),
        warmth=0.5 + 0.5 * math.sin(at_s * 0.11 + rank * 2.1),
    )
