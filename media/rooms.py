"""Rooms, their cameras and the program: who watches what. Pure.

A camera is known from its first publisher on and outlives it, so a viewer waits for its
return. It is published here, or at another worker that sights it (media/cascade.py).

The program follows the director's choice; without one it is the camera that has been live
longest, wherever that is. So it stays where it is as long as that camera does, never jumps
back by itself, and workers that know the same cameras agree without asking each other. The
choice is a register with a time on it: the newest wins, however it reached a worker.

Owned by `media.relay.Relay`; sessions are opaque here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from interact.protocol import Event, Reason, Refused
from media.events import MediaEvent

PublisherT = TypeVar("PublisherT")
ViewerT = TypeVar("ViewerT")

MAX_CHOICE_AHEAD_MS: Final = 60_000
"""A choice from further in the future is taken for one of now: a wrong clock elsewhere must
not keep the director from ever choosing again."""

MAX_CAMERAS: Final = 64
"""Cameras a room may have seen; more are refused with `full`."""

FORGET_AFTER_S: Final = 3600.0
"""A room with nobody in it is forgotten after this long."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A camera that is live at another worker."""

    origin: str
    """That worker, for people and for keys."""
    session: str
    """The publisher's session there; another one means that it was published anew."""
    since: float
    """Live since then, Unix seconds."""


def pick_program(
    choice: str | None, live: Iterable[tuple[float, str]], current: str | None
) -> str | None:
    """What is on air, given (live since, name) of every live camera, wherever it is.

    With nobody live the last one stays: its viewers wait for its return.
    """
    if choice is not None:
        return choice
    return min(live, default=(0.0, current))[1]


class Camera(Generic[PublisherT]):
    """One camera of a room, live or not."""

    __slots__ = (
        "has_audio",
        "live_since",
        "name",
        "publisher",
        "session",
        "sighting",
        "video_codec",
        "wanted",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.publisher: PublisherT | None = None
        """Who publishes it now, from the accepted offer on; also a pull. Written by the relay."""
        self.live_since: float | None = None
        """When its first packet came here (Unix seconds); None while it is not published here."""
        self.sighting: Sighting | None = None
        """Where else it is live."""
        self.session: str | None = None
        self.video_codec: str | None = None
        self.has_audio = False
        self.wanted: tuple[str, ...] | None = None
        """Simulcast layers (rids) that somebody needs, as told last; None: all, or no layers."""

    @property
    def is_live(self) -> bool:
        """Whether it is published here and packets are coming in."""
        return self.live_since is not None

    @property
    def since(self) -> float | None:
        """Since when it is live, here or elsewhere; None: nowhere."""
        if self.live_since is not None:
            return self.live_since
        return self.sighting.since if self.sighting is not None else None

    def describe(self) -> dict[str, Any]:
        """The camera as the control API shows it."""
        out: dict[str, Any] = {
            "live": self.is_live,
            "video": {"codec": self.video_codec} if self.video_codec else None,
            "audio": self.has_audio,
            "session": self.session,
            "since": self.live_since,
            "elsewhere": self.sighting.origin if self.sighting is not None else None,
        }
        if self.wanted is not None:
            out["wanted"] = list(self.wanted)
        return out


class Room(Generic[PublisherT, ViewerT]):
    """One room: its cameras, its program, its viewers by session id."""

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.cameras: dict[str, Camera[PublisherT]] = {}
        self.viewers: dict[str, ViewerT] = {}
        self.choice: str | None = None
        """The director's camera; None: automatic."""
        self.choice_at = 0
        """When that was said, Unix milliseconds."""
        self.program: str | None = None
        """The camera on air."""
        self.used_at = now
        self._viewers_told = 0

    def camera(self, name: str) -> Camera[PublisherT]:
        """The camera called `name`, made if new. Raises Refused(FULL)."""
        camera = self.cameras.get(name)
        if camera is None:
            if len(self.cameras) >= MAX_CAMERAS:
                raise Refused(Reason.FULL, f"the room has {MAX_CAMERAS} cameras already")
            camera = self.cameras[name] = Camera(name)
        return camera

    def resolve(self, wish: str | None) -> Camera[PublisherT] | None:
        """The camera that a viewer with this wish (None: program) gets."""
        name = self.program if wish is None else wish
        return self.cameras.get(name) if name is not None else None

    def went_live(
        self, camera: Camera[PublisherT], session: str, video: str | None, audio: bool, now: float
    ) -> list[MediaEvent]:
        """Note a camera's first packet from a publisher, or a change of what it sends.

        `now` is Unix seconds: workers compare it.
        """
        if camera.session != session:
            camera.wanted = None
        camera.session = session
        camera.video_codec = video
        camera.has_audio = audio
        if camera.live_since is None:
            camera.live_since = now
        event: MediaEvent = {"type": Event.CAMERA_LIVE.value, "room": self.name}
        return [{**event, "camera": camera.name, **camera.describe()}, *self.choose_program()]

    def wants_layers(self, camera: Camera[PublisherT], wanted: tuple[str, ...]) -> list[MediaEvent]:
        """Note which of a camera's simulcast layers somebody needs."""
        if not camera.is_live:
            return []
        camera.wanted = wanted
        event: MediaEvent = {"type": Event.CAMERA_LAYERS.value, "room": self.name}
        return [{**event, "camera": camera.name, "wanted": list(wanted)}]

    def went_offline(self, camera: Camera[PublisherT]) -> list[MediaEvent]:
        """Note that a camera's publisher is gone and nobody took over."""
        was_live = camera.is_live
        camera.live_since = None
        camera.session = None
        camera.wanted = None
        if not was_live:
            return self.choose_program()
        event: MediaEvent = {"type": Event.CAMERA_OFFLINE.value, "room": self.name}
        return [{**event, "camera": camera.name}, *self.choose_program()]

    def sight(self, camera: Camera[PublisherT], sighting: Sighting | None) -> list[MediaEvent]:
        """Note that a camera is live at another worker, or no longer anywhere else (None)."""
        camera.sighting = sighting
        return self.choose_program()

    def set_choice(self, name: str | None, at: int) -> list[MediaEvent]:
        """The director cut to `name`, or handed over to the automatic (None), at `at` (Unix ms).

        An older choice than the present one changes nothing.
        """
        if at <= self.choice_at:
            return []
        self.choice, self.choice_at = name, at
        event: MediaEvent = {"type": "program.choice", "room": self.name, "camera": name, "at": at}
        return [event, *self.choose_program()]

    def choose_program(self) -> list[MediaEvent]:
        """Decide what is on air now; says so if it changed."""
        live = [(c.since, c.name) for c in self.cameras.values() if c.since is not None]
        program = pick_program(self.choice, live, self.program)
        if program == self.program:
            return []
        self.program = program
        return [{"type": Event.PROGRAM_CHANGED.value, "room": self.name, "camera": program}]

    def viewer_count_event(self) -> MediaEvent | None:
        """The count of viewers if it differs from what was told last."""
        count = len(self.viewers)
        if count == self._viewers_told:
            return None
        self._viewers_told = count
        return {"type": "viewers", "room": self.name, "n": count, "viewers": count}

    def is_idle(self) -> bool:
        """Whether nobody publishes or watches here."""
        return not self.viewers and all(
            c.publisher is None and c.sighting is None for c in self.cameras.values()
        )

    def describe(self) -> dict[str, Any]:
        """The room as in the snapshot of the event stream."""
        return {
            "program": self.program,
            "choice": self.choice,
            "choice_at": self.choice_at,
            "cameras": {name: camera.describe() for name, camera in self.cameras.items()},
            "viewers": len(self.viewers),
        }


class Rooms(Generic[PublisherT, ViewerT]):
    """Every room of one worker, made on first use and forgotten when long unused."""

    def __init__(self) -> None:
        self._rooms: dict[str, Room[PublisherT, ViewerT]] = {}

    def __iter__(self) -> Iterator[Room[PublisherT, ViewerT]]:
        return iter(self._rooms.values())

    def get(self, name: str) -> Room[PublisherT, ViewerT] | None:
        return self._rooms.get(name)

    def open(self, name: str, now: float) -> Room[PublisherT, ViewerT]:
        """The room called `name`, made if new."""
        room = self._rooms.get(name)
        if room is None:
            room = self._rooms[name] = Room(name, now)
        room.used_at = now
        return room

    def forget_idle(self, now: float) -> None:
        """Drop rooms that nobody has used for `FORGET_AFTER_S`."""
        for room in list(self._rooms.values()):
            if not room.is_idle():
                room.used_at = now
            elif now - room.used_at > FORGET_AFTER_S:
                del self._rooms[room.name]

    def describe(self) -> dict[str, Any]:
        return {room.name: room.describe() for room in self._rooms.values()}
