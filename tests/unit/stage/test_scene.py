"""The scene: the same moment is the same state, cues change it when they say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from media.stage.feed import VIEWS
from media.stage.overlay import Overlay
from media.stage.planes import Picture
from media.stage.scene import CHANGE_S, CONFETTI_S, Cue, CueKind, Scene

T = 1_790_000_000_000


def test_same_moment_same_state() -> None:
    assert Scene().at(T) == Scene().at(T)


def test_time_moves_everything() -> None:
    scene = Scene()
    before, after = scene.at(T), scene.at(T + 40)
    assert before.turn_deg != after.turn_deg
    assert before.beams != after.beams
    assert before.beat != after.beat


def test_product_changes_in_the_dark() -> None:
    scene = Scene()
    scene.cue(Cue(T / 1000, CueKind.PRODUCT, 3))
    half_ms = int(CHANGE_S * 500)
    states = [scene.at(T + ms) for ms in range(0, 2 * half_ms + 200, 20)]
    changes = [(a, b) for a, b in pairwise(states) if a.product != b.product]
    assert len(changes) == 1
    assert max(changes[0][0].product_light, changes[0][1].product_light) < 0.05
    assert states[-1].product == 3
    assert states[-1].product_light == 1


def test_hammer_throws_confetti_that_ends() -> None:
    scene = Scene()
    scene.cue(Cue(T / 1000, CueKind.SOLD))
    assert scene.at(T - 40).confetti_age_s is None
    assert scene.at(T + 1000).confetti_age_s == pytest.approx(1.0)
    assert scene.at(T + int(CONFETTI_S * 1000) + 1).confetti_age_s is None


def test_light_never_flashes() -> None:
    """No beam changes by more than 10 % in a frame: nothing near three flashes a second."""
    scene = Scene()
    scene.cue(Cue(T / 1000 + 2, CueKind.SOLD))
    states = [scene.at(T + n * 40) for n in range(250)]
    for before, after in pairwise(states):
        for a, b in zip(before.beams, after.beams, strict=True):
            assert abs(a.strength - b.strength) < 0.1


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_two_painters_draw_one_picture(name: str) -> None:
    """A view has no memory: a fresh one draws the moment as one that has drawn others."""
    title, make = VIEWS[name]
    scene = Scene()
    scene.cue(Cue(T / 1000 - 1, CueKind.SOLD))
    pictures = []
    for history in (range(0), range(0, 400, 40)):
        view, overlay = make(), Overlay(title, 0)
        picture = Picture(view.width, view.height)
        for ms in history:
            view.draw(scene.at(T + ms), picture)
        view.draw(scene.at(T + 400), picture)
        overlay.draw(picture, T + 400)
        pictures.append(picture.data.copy())
    assert np.array_equal(pictures[0], pictures[1])
    assert pictures[0].std() > 20
