"""When the demo cuts, and to which camera: **core**. A show with one camera is a still life.

The product is seen when a lot opens and near its end, the hall when the hammer falls, the
stage in between. A camera that is not the demo's own (a visitor went live from the studio)
gets the program and keeps it. Cuts by somebody else make the cutter step back for a minute.
"""

from __future__ import annotations

from typing import Final

from interact.protocol import Event
from loadtest.bus import Json

MIN_SHOT_S: Final = 4.0
SHOT_S: Final = 11.0
STEP_BACK_S: Final = 60.0
_TURNS: Final = ("wide", "closeup", "wide", "crowd", "closeup")


class Cutter:
    """Hears the room's events, says where to cut. Times in monotonic seconds."""

    def __init__(self) -> None:
        self._own: set[str] = set()
        self._guests: list[str] = []
        self._on_air: str | None = None
        self._since = -MIN_SHOT_S
        self._wanted: str | None = None
        self._turn = 0
        self._silent_until = 0.0

    def own(self, camera: str) -> None:
        """This camera belongs to the demo."""
        self._own.add(camera)

    def hear(self, event: Json, now: float) -> None:
        """Take in an event of the room."""
        camera = event.get("camera")
        match event["type"]:
            case Event.CAMERA_LIVE if camera not in self._own:
                if camera not in self._guests:
                    self._guests.append(str(camera))
            case Event.CAMERA_OFFLINE if camera in self._guests:
                self._guests.remove(camera)
            case Event.PROGRAM_CHANGED if camera != self._on_air:
                # Not our doing; None is the server's own choice and may be changed.
                if camera is not None:
                    self._on_air = camera
                    self._silent_until = now + STEP_BACK_S
            case Event.LOT_OPENED:
                self._wanted = "closeup"
            case Event.LOT_EXTENDED:
                self._wanted = "closeup"
            case Event.LOT_SOLD:
                self._wanted = "crowd"
            case _:
                pass

    def decide(self, now: float) -> str | None:
        """The camera to cut to now, or None. The caller carries it out."""
        if now < self._silent_until or now - self._since < MIN_SHOT_S:
            return None
        if self._guests:
            return self._to(self._guests[-1], now)
        if self._wanted is not None:
            wanted, self._wanted = self._wanted, None
            return self._to(wanted, now)
        if self._on_air is not None and now - self._since < SHOT_S:
            return None
        self._turn += 1
        return self._to(_TURNS[self._turn % len(_TURNS)], now)

    def failed(self) -> None:
        """The last cut was not carried out."""
        self._on_air = None

    def _to(self, camera: str, now: float) -> str | None:
        if camera not in self._own and camera not in self._guests:
            own = sorted(self._own)
            camera = own[self._turn % len(own)] if own else camera
        if camera == self._on_air:
            self._since = now
            return None
        self._on_air, self._since = camera, now
        return camera
