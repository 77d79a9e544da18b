"""What is going on in one room right now: cameras, program, viewers, cheers.

In memory only. Media workers tell it again after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from interact.cheering import Cheers
from interact.protocol import Event


class Video(msgspec.Struct, frozen=True):
    """What a camera's picture is encoded with."""

    codec: str


class CameraState(msgspec.Struct, frozen=True):
    """One camera as `room.state` lists it."""

    camera: str
    live: bool
    video: Video | None
    audio: bool


class _CameraLive(msgspec.Struct, frozen=True):
    type: Event
    at: int
    camera: str
    video: Video | None
    audio: bool


class _CameraChange(msgspec.Struct, frozen=True):
    type: Event
    at: int
    camera: str | None


class _CameraLayers(msgspec.Struct, frozen=True):
    type: Event
    at: int
    camera: str
    wanted: list[str]


class _Tick(msgspec.Struct, frozen=True):
    type: Event
    at: int
    viewers: int
    cheers: dict[str, int]
    teams: dict[str, dict[str, int]]


@dataclass(slots=True)
class RoomBoard:
    """Changed by notices; each gives the event to publish, or None where nothing changed."""

    cameras: dict[str, CameraState] = field(default_factory=dict)
    program: str | None = None
    viewers: int = 0
    cheers: Cheers = field(default_factory=Cheers)
    wanted: dict[str, list[str]] = field(default_factory=dict)
    """Simulcast layers that somebody needs, by camera, as told last."""

    def camera_live(self, at: int, camera: str, codec: str | None, audio: bool) -> bytes | None:
        """A camera began to send, or changed what it sends."""
        state = CameraState(camera, True, None if codec is None else Video(codec), audio)
        if self.cameras.get(camera) == state:
            return None
        self.cameras[camera] = state
        return msgspec.json.encode(
            _CameraLive(Event.CAMERA_LIVE, at, camera, state.video, state.audio)
        )

    def camera_offline(self, at: int, camera: str) -> bytes | None:
        """A camera stopped; it stays listed, it may come back."""
        state = self.cameras.get(camera)
        if state is None or not state.live:
            return None
        self.cameras[camera] = CameraState(camera, False, None, False)
        self.wanted.pop(camera, None)
        return msgspec.json.encode(_CameraChange(Event.CAMERA_OFFLINE, at, camera))

    def camera_layers(self, at: int, camera: str, wanted: list[str]) -> bytes | None:
        """Other layers of a camera are needed than before; for the stage channel."""
        if self.wanted.get(camera) == wanted:
            return None
        self.wanted[camera] = wanted
        return msgspec.json.encode(_CameraLayers(Event.CAMERA_LAYERS, at, camera, wanted))

    def program_changed(self, at: int, camera: str | None) -> bytes | None:
        """Another camera is on air, or none."""
        if self.program == camera:
            return None
        self.program = camera
        return msgspec.json.encode(_CameraChange(Event.PROGRAM_CHANGED, at, camera))

    def tick(self, at: int) -> bytes:
        """The counters, for the tick channel."""
        return msgspec.json.encode(
            _Tick(Event.TICK, at, self.viewers, self.cheers.by_kind, self.cheers.by_team)
        )
