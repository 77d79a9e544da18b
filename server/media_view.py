"""What all media workers carry together: cameras, program, viewers. Pure.

Every worker tells what is published *there*. The show is their union: a camera that is
live twice has moved, and the newer one counts; the program is picked from the union by the
rule that the workers use themselves (`media.rooms.pick_program`), so a phone and the worker
it watches agree; viewers add up. The director's choice is whatever was said last, by
anybody, and is remembered here when the workers forget.

Rooms hear only what changed for the union, so a camera that moves from a dead worker to
another within the grace does not flicker on any phone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

import msgspec

from media.rooms import pick_program

Key: TypeAlias = tuple[str, str]
"""(room, camera)."""

NEVER: Final = (0, None)


class RoomNotices(Protocol):
    """What the bridge tells `RoomService`; it publishes only what is news."""

    def camera_live(self, room: str, camera: str, video: str | None, audio: bool) -> None: ...
    def camera_offline(self, room: str, camera: str) -> None: ...
    def program_changed(self, room: str, camera: str | None) -> None: ...
    def camera_layers(self, room: str, camera: str, wanted: list[str]) -> None: ...
    def viewers(self, room: str, count: int) -> None: ...


class Video(msgspec.Struct, frozen=True):
    """A camera's picture."""

    codec: str = ""


class CameraState(msgspec.Struct, frozen=True):
    """A camera as its worker describes it."""

    live: bool = False
    video: Video | None = None
    audio: bool = False
    wanted: list[str] | None = None
    since: float | None = None


class RoomState(msgspec.Struct, frozen=True):
    """A room in a snapshot."""

    cameras: dict[str, CameraState] = {}
    viewers: int = 0
    choice: str | None = None
    choice_at: int = 0


class Load(msgspec.Struct, frozen=True):
    """How busy a worker was in its last second."""

    sessions: int = 0
    cpu: float = 0.0
    """Share of one core."""
    lag_ms: float = 0.0
    """The worst delay of its loop."""


class MediaEvent(msgspec.Struct, frozen=True):
    """Any event of the stream; fields that its type does not have keep their defaults."""

    type: str
    room: str = ""
    camera: str | None = None
    video: Video | None = None
    audio: bool = False
    wanted: list[str] | None = None
    since: float | None = None
    viewers: int = 0
    at: int = 0
    epoch: str = ""
    rooms: dict[str, RoomState] = {}
    load: Load | None = None


event_decoder: Final = msgspec.json.Decoder(MediaEvent)


@dataclass(slots=True)
class WorkerView:
    """What one worker is known to carry."""

    epoch: str = ""
    live: dict[Key, CameraState] = field(default_factory=dict)
    watched: dict[str, int] = field(default_factory=dict)
    choices: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    rooms: set[str] = field(default_factory=set)
    """Every room it ever named in this epoch."""

    def apply(self, event: MediaEvent) -> set[str]:
        """Take one event in; the rooms that it is about."""
        if event.type == "snapshot":
            return self._replace(event)
        if not event.room:
            return set()
        self.rooms.add(event.room)
        match event.type:
            case "camera.live" if event.camera is not None:
                self.live[event.room, event.camera] = CameraState(
                    True, event.video, event.audio, event.wanted, event.since
                )
            case "camera.offline" if event.camera is not None:
                self.live.pop((event.room, event.camera), None)
            case "camera.layers" if event.camera is not None:
                known = self.live.get((event.room, event.camera))
                if known is not None:
                    self.live[event.room, event.camera] = msgspec.structs.replace(
                        known, wanted=event.wanted
                    )
            case "program.choice":
                self.choices[event.room] = (event.at, event.camera)
            case "viewers":
                self.watched[event.room] = event.viewers
            case _:
                pass
        return {event.room}

    def forget(self) -> set[str]:
        """The worker is gone: nothing of it is left; the rooms that it was about."""
        touched = self.rooms
        self.rooms = set()
        self.live = {}
        self.watched = {}
        self.choices = {}
        return touched

    def _replace(self, snapshot: MediaEvent) -> set[str]:
        touched = self.forget()
        self.epoch = snapshot.epoch
        self.rooms = set(snapshot.rooms)
        for room, state in snapshot.rooms.items():
            self.watched[room] = state.viewers
            self.choices[room] = (state.choice_at, state.choice)
            for camera, details in state.cameras.items():
                if details.live:
                    self.live[room, camera] = details
        return touched | self.rooms


@dataclass(slots=True)
class _Told:
    """What a room was told last."""

    cameras: dict[str, CameraState] = field(default_factory=dict)
    program: str | None = None
    viewers: int = 0


class MediaView:
    """The union of all workers; gives notices through `rooms`."""

    def __init__(
        self,
        indices: Iterable[int],
        rooms: RoomNotices,
        on_viewers: Callable[[str, int], None],
    ) -> None:
        self.workers = {index: WorkerView() for index in indices}
        self.choices: dict[str, tuple[int, str | None]] = {}
        """Room → (when, which camera) of what the director said last."""
        self._rooms = rooms
        self._on_viewers = on_viewers
        self._told: dict[str, _Told] = {}

    def apply(self, index: int, event: MediaEvent) -> None:
        """Take in one event of a worker."""
        self._tell(self.workers[index].apply(event))

    def lose(self, index: int) -> None:
        """A worker has been away too long."""
        self._tell(self.workers[index].forget())

    def choose(self, room: str, camera: str | None, at: int) -> None:
        """The director said it at `at` (Unix ms), to us."""
        if at > self.choices.get(room, NEVER)[0]:
            self.choices[room] = (at, camera)
            self._tell({room})

    def home(self, room: str, camera: str) -> int | None:
        """The worker where a camera is published now."""
        found = [
            (view.live[room, camera].since or 0.0, index)
            for index, view in self.workers.items()
            if (room, camera) in view.live
        ]
        return max(found)[1] if found else None

    def present(self, room: str) -> set[int]:
        """Workers with a camera or a viewer of a room: cheaper for one more than others."""
        return {
            index
            for index, view in self.workers.items()
            if view.watched.get(room) or any(key[0] == room for key in view.live)
        }

    def cameras_live(self) -> int:
        """How many there are."""
        return len({key for view in self.workers.values() for key in view.live})

    def _tell(self, touched: set[str]) -> None:
        for room in sorted(touched):
            told = self._told.get(room)
            if told is None:
                told = self._told[room] = _Told()
            cameras = self._cameras(room)
            self._tell_cameras(room, told.cameras, cameras)
            told.cameras = cameras
            program = self._program(room, cameras, told.program)
            if program != told.program:
                told.program = program
                self._rooms.program_changed(room, program)
            viewers = sum(view.watched.get(room, 0) for view in self.workers.values())
            if viewers != told.viewers:
                told.viewers = viewers
                self._on_viewers(room, viewers)
            if not any(room in view.rooms for view in self.workers.values()):
                del self._told[room]

    def _cameras(self, room: str) -> dict[str, CameraState]:
        found: dict[str, CameraState] = {}
        for view in self.workers.values():
            for (in_room, name), state in view.live.items():
                if in_room == room:
                    other = found.get(name)
                    if other is None or (other.since or 0.0) < (state.since or 0.0):
                        found[name] = state
        return found

    def _tell_cameras(
        self, room: str, before: dict[str, CameraState], now: dict[str, CameraState]
    ) -> None:
        for name in sorted(before.keys() - now.keys()):
            self._rooms.camera_offline(room, name)
        for name, state in now.items():
            old = before.get(name)
            if old is None or (old.video, old.audio) != (state.video, state.audio):
                codec = state.video.codec if state.video is not None else None
                self._rooms.camera_live(room, name, codec, state.audio)
            if state.wanted is not None and (old is None or old.wanted != state.wanted):
                self._rooms.camera_layers(room, name, state.wanted)

    def _program(self, room: str, cameras: dict[str, CameraState], last: str | None) -> str | None:
        newest = max(
            (view.choices.get(room, NEVER) for view in self.workers.values()),
            key=lambda choice: choice[0],
            default=NEVER,
        )
        if newest[0] > self.choices.get(room, NEVER)[0]:
            self.choices[room] = newest
        if not any(room in view.rooms for view in self.workers.values()):
            return None
        live = [(state.since or 0.0, name) for name, state in cameras.items()]
        return pick_program(self.choices.get(room, NEVER)[1], live, last)
