"""**Shell**: the stage's threads, which draw and encode on the beat of the wall clock.

One thread draws every camera of a moment and encodes it, so all cameras together never take
more than one core and a cut shows the same moment. A second, light thread makes the sound, so
that it is never late behind a picture. What comes out are `Unit`s: encoded once, whoever
watches. A late thread skips moments rather than running after them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import cv2

from media.stage.closeup import CloseupView
from media.stage.crowd import CrowdView
from media.stage.encode import AudioEncoder, VideoEncoder
from media.stage.music import FRAME, RATE, Music
from media.stage.overlay import Overlay
from media.stage.planes import Picture
from media.stage.scene import Cue, Scene, SceneState
from media.stage.wide import WideView

FPS: Final = 25
BITRATE_BPS: Final = 1_800_000
_MAX_WAIT_S: Final = 0.25  # how long a stop may go unnoticed

log = logging.getLogger(__name__)


class Kind(StrEnum):
    """Which of a camera's two tracks a unit belongs to."""

    VIDEO = "video"
    AUDIO = "audio"


@dataclass(frozen=True, slots=True)
class Unit:
    """One encoded picture (Annex B) or 20 ms of sound (Opus), and the moment it shows.

    `at_s` is Unix time. `camera` None: sound that belongs to every camera of the feed.
    """

    camera: str | None
    kind: Kind
    data: bytes
    at_s: float
    is_key: bool = False


Sink = Callable[[Unit], object]
"""Takes a unit; called in a thread of the feed."""


class Feed(Protocol):
    """Where encoded pictures and sound come from."""

    @property
    def cameras(self) -> Sequence[str]: ...
    @property
    def has_audio(self) -> bool: ...
    def start(self, sink: Sink) -> None: ...
    def stop(self) -> None: ...
    def request_key(self, camera: str) -> None: ...


class View(Protocol):
    """One camera's way to draw a moment."""

    width: int
    height: int

    def draw(self, state: SceneState, picture: Picture) -> None: ...


VIEWS: Final[dict[str, tuple[str, Callable[[], View]]]] = {
    "wide": ("WIDE", WideView),
    "closeup": ("CLOSE-UP", CloseupView),
    "crowd": ("CROWD", CrowdView),
}
"""Camera name, what is burnt in, and its view."""


class _Camera:
    """Written by the drawing thread only, but for the wish for a key frame."""

    def __init__(self, name: str, fps: int, bitrate_bps: int) -> None:
        title, view = VIEWS[name]
        self.name = name
        self.view = view()
        self.overlay = Overlay(title)
        self.picture = Picture(self.view.width, self.view.height)
        self.encoder = VideoEncoder(self.view.width, self.view.height, fps, bitrate_bps)
        self.wants_key = threading.Event()

    def make(self, state: SceneState, pts: int) -> Unit:
        self.view.draw(state, self.picture)
        self.overlay.draw(self.picture, state.at_ms)
        if self.wants_key.is_set():
            self.wants_key.clear()
            self.encoder.request_key()
        data = self.encoder.encode(self.picture.data, pts)
        return Unit(self.name, Kind.VIDEO, data, state.at_ms / 1000, is_key(data))


class StageFeed:
    """The synthetic stage: `VIEWS` seen by their cameras, with sound."""

    has_audio = True

    def __init__(
        self, cameras: Sequence[str] = tuple(VIEWS), fps: int = FPS, bitrate_bps: int = BITRATE_BPS
    ) -> None:
        """Every name of `cameras` must be in `VIEWS`."""
        self.cameras = tuple(cameras)
        self._fps = fps
        self._bitrate_bps = bitrate_bps
        self._cues: list[Cue] = []
        self._cues_lock = threading.Lock()
        self._wants_key: dict[str, threading.Event] = {}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.skipped = 0
        """Moments not drawn because the machine was busy. Written by the drawing thread."""

    def start(self, sink: Sink) -> None:
        """Start the threads; views are painted first (about 3 s of CPU), in the thread."""
        self._threads = [
            threading.Thread(target=self._draw, args=(sink,), name="stage-picture", daemon=True),
            threading.Thread(target=self._play, args=(sink,), name="stage-sound", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop and wait for the threads."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def cue(self, cue: Cue) -> None:
        """Hand the stage a cue, from any thread."""
        with self._cues_lock:
            self._cues.append(cue)

    def request_key(self, camera: str) -> None:
        """Make the camera's next picture a key frame, from any thread."""
        event = self._wants_key.get(camera)
        if event is not None:
            event.set()

    def _draw(self, sink: Sink) -> None:
        cv2.setNumThreads(1)
        scene = Scene()
        cameras = [_Camera(name, self._fps, self._bitrate_bps) for name in self.cameras]
        self._wants_key = {camera.name: camera.wants_key for camera in cameras}
        ticker = Ticker(self._fps, self._stopping)
        for number in ticker:
            at_ms = number * 1000 // self._fps
            with self._cues_lock:
                cues, self._cues = self._cues, []
            for cue in cues:
                scene.cue(cue)
            state = scene.at(at_ms)
            for camera in cameras:
                sink(camera.make(state, at_ms * 90))
            self.skipped = ticker.skipped

    def _play(self, sink: Sink) -> None:
        music = Music()
        encoder = AudioEncoder()
        for number in Ticker(RATE // FRAME, self._stopping, skip=False):
            first = number * FRAME
            for data in encoder.encode(music.samples(first), first):
                sink(Unit(None, Kind.AUDIO, data, first / RATE))


class Ticker:
    """Iterates over the numbers of moments `1/per_second` apart since the Unix epoch, in time.

    With `skip`, moments that are over when the loop comes back are left out and counted;
    without, up to half a second of them is made up for.
    """

    def __init__(self, per_second: int, stopping: threading.Event, *, skip: bool = True) -> None:
        self._per_second = per_second
        self._stopping = stopping
        self._skip = skip
        self.skipped = 0

    def __iter__(self) -> Ticker:
        self._next = int(time.time() * self._per_second) + 1
        return self

    def __next__(self) -> int:
        while True:
            if self._stopping.is_set():
                raise StopIteration
            late = time.time() - self._next / self._per_second
            if late >= 0:
                break
            self._stopping.wait(min(-late, _MAX_WAIT_S))
        behind = int(late * self._per_second)
        if behind and (self._skip or behind > self._per_second // 2):
            self._next += behind
            self.skipped += behind
        number = self._next
        self._next += 1
        return number


def is_key(data: bytes) -> bool:
    """Whether an Annex B access unit begins a new group of pictures (has an IDR slice)."""
    at = data.find(b"\x00\x00\x01")
    while 0 <= at < len(data) - 3:
        kind = data[at + 3] & 31
        if kind in (5, 1):
            return kind == 5
        at = data.find(b"\x00\x00\x01", at + 3)
    return False
