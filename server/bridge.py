"""Media workers' events become notices to the rooms; what rooms choose reaches media.

One task a worker follows its event stream and connects again when it breaks. Every
connection begins with a snapshot, which is the whole truth, so nothing needs counting:
the difference to what was known becomes notices. A stream that breaks says nothing
about its cameras for `LOSS_GRACE_S`: a worker that is back by then, with its cameras
still live, makes no phone flicker.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from server.errors import MediaRefused, Unavailable
from server.logs import log
from server.media_client import MediaPool, MediaWorker
from server.metrics import Metrics

LOSS_GRACE_S: Final = 2.0
RETRY_FIRST_S: Final = 0.05
RETRY_LONGEST_S: Final = 1.0


class RoomNotices(Protocol):
    """What the bridge tells `RoomService`; it publishes only what is news."""

    def camera_live(self, room: str, camera: str, video: str | None, audio: bool) -> None: ...
    def camera_offline(self, room: str, camera: str) -> None: ...
    def program_changed(self, room: str, camera: str | None) -> None: ...
    def camera_layers(self, room: str, camera: str, wanted: list[str]) -> None: ...
    def viewers(self, room: str, count: int) -> None: ...


class _Video(msgspec.Struct, frozen=True):
    codec: str = ""


class _Camera(msgspec.Struct, frozen=True):
    live: bool = False
    video: _Video | None = None
    audio: bool = False
    wanted: list[str] | None = None


class _Room(msgspec.Struct, frozen=True):
    program: str | None = None
    cameras: dict[str, _Camera] = {}
    viewers: int = 0


class _Event(msgspec.Struct, frozen=True):
    """Any event of the stream; fields that its type does not have keep their defaults."""

    type: str
    room: str = ""
    camera: str | None = None
    video: _Video | None = None
    audio: bool = False
    wanted: list[str] | None = None
    viewers: int = 0
    epoch: str = ""
    rooms: dict[str, _Room] = {}


_event_decoder = msgspec.json.Decoder(_Event)


@dataclass(slots=True)
class WorkerView:
    """What one media worker is known to carry. Pure; gives notices through `rooms`."""

    rooms: RoomNotices
    on_viewers: Callable[[str, int], None]
    epoch: str = ""
    live: set[tuple[str, str]] = field(default_factory=set)
    watched: dict[str, int] = field(default_factory=dict)

    def apply(self, event: _Event) -> None:
        """Take one event in."""
        match event.type:
            case "snapshot":
                self._reconcile(event)
            case "camera.live" if event.camera is not None:
                self._go_live(event.room, event.camera, event.video, event.audio)
            case "camera.offline" if event.camera is not None:
                self._go_offline(event.room, event.camera)
            case "program.changed":
                self.rooms.program_changed(event.room, event.camera)
            case "camera.layers" if event.camera is not None and event.wanted is not None:
                self.rooms.camera_layers(event.room, event.camera, event.wanted)
            case "viewers":
                self._count(event.room, event.viewers)
            case _:
                pass

    def lose(self) -> None:
        """The worker has been away too long: nothing of it is live."""
        for room, camera in sorted(self.live):
            self.rooms.camera_offline(room, camera)
        for room in sorted({room for room, _ in self.live}):
            self.rooms.program_changed(room, None)
        self.live.clear()
        for room in list(self.watched):
            self._count(room, 0)

    def _reconcile(self, snapshot: _Event) -> None:
        self.epoch = snapshot.epoch
        now_live = {
            (room, camera)
            for room, state in snapshot.rooms.items()
            for camera, details in state.cameras.items()
            if details.live
        }
        forgotten = {room for room, _ in self.live} - snapshot.rooms.keys()
        for room, camera in sorted(self.live - now_live):
            self._go_offline(room, camera)
        for room in sorted(forgotten):
            self.rooms.program_changed(room, None)
        for room, state in snapshot.rooms.items():
            for camera, details in state.cameras.items():
                if details.live:
                    self._go_live(room, camera, details.video, details.audio)
                    if details.wanted is not None:
                        self.rooms.camera_layers(room, camera, details.wanted)
            self.rooms.program_changed(room, state.program)
        for room in self.watched.keys() | snapshot.rooms.keys():
            known = snapshot.rooms.get(room)
            self._count(room, known.viewers if known is not None else 0)

    def _go_live(self, room: str, camera: str, video: _Video | None, audio: bool) -> None:
        self.live.add((room, camera))
        self.rooms.camera_live(room, camera, video.codec if video is not None else None, audio)

    def _go_offline(self, room: str, camera: str) -> None:
        self.live.discard((room, camera))
        self.rooms.camera_offline(room, camera)

    def _count(self, room: str, viewers: int) -> None:
        if self.watched.get(room, 0) == viewers:
            return
        if viewers:
            self.watched[room] = viewers
        else:
            self.watched.pop(room, None)
        self.on_viewers(room, viewers)


class Bridge:
    """Follows every media worker; `start` and `stop` are called by the lifespan."""

    def __init__(self, media: MediaPool, rooms: RoomNotices, metrics: Metrics) -> None:
        self._media = media
        self._rooms = rooms
        self._metrics = metrics
        self._views = {
            worker.index: WorkerView(rooms, self._media_viewers) for worker in media.workers
        }
        self._programs: dict[str, str] = {}  # what somebody put on air, by room
        self._on_media: dict[str, int] = {}
        self._on_bus: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._connected = {worker.index: asyncio.Event() for worker in media.workers}

    async def start(self) -> None:
        """Begin to follow."""
        for worker in self._media.workers:
            task = asyncio.create_task(self._follow(worker), name=f"bridge-{worker.index}")
            self._tasks.append(task)

    async def wait_connected(self, timeout_s: float) -> bool:
        """Whether every worker's stream was up within `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                for event in self._connected.values():
                    await event.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Stop following; cameras keep the state they were last in."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def choose_program(self, room: str, camera: str | None) -> None:
        """Put a camera on air, or leave it to the first live one. Survives a worker restart.

        Raises MediaRefused or Unavailable, having changed nothing.
        """
        await self._media.for_room(room).set_program(room, camera)
        if camera is None:
            self._programs.pop(room, None)
        else:
            self._programs[room] = camera

    def bus_viewers(self, room: str, count: int) -> None:
        """The hub's count of viewers connected to the room."""
        self._set_viewers(self._on_bus, room, count)

    def _media_viewers(self, room: str, count: int) -> None:
        self._set_viewers(self._on_media, room, count)

    def _set_viewers(self, counts: dict[str, int], room: str, count: int) -> None:
        """A phone counts on the bus and as a session; a player without the bus only once."""
        if count:
            counts[room] = count
        else:
            counts.pop(room, None)
        most = max(self._on_bus.get(room, 0), self._on_media.get(room, 0))
        self._rooms.viewers(room, most)

    def stats(self) -> dict[str, int]:
        """Gauges for `/metrics`."""
        return {
            "cameras_live": sum(len(view.live) for view in self._views.values()),
            "rooms_watched": len(self._on_media.keys() | self._on_bus.keys()),
            "media_viewers": sum(self._on_media.values()),
            "bus_viewers": sum(self._on_bus.values()),
        }

    async def _follow(self, worker: MediaWorker) -> None:
        view = self._views[worker.index]
        delay_s = RETRY_FIRST_S
        grace: asyncio.TimerHandle | None = None
        while True:
            try:
                async with worker.events() as lines:
                    async for line in lines:
                        if grace is not None:
                            grace.cancel()
                            grace = None
                        delay_s = RETRY_FIRST_S
                        await self._handle(worker, view, _event_decoder.decode(line))
            except Unavailable:
                pass
            except msgspec.DecodeError as error:
                log("media.bad_event", level="error", worker=worker.index, error=error)
            if worker.is_connected:
                worker.is_connected = False
                self._metrics.media_worker(worker.index, is_up=False)
                log("media.lost", level="warning", worker=worker.index)
                grace = asyncio.get_running_loop().call_later(LOSS_GRACE_S, view.lose)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_LONGEST_S)

    async def _handle(self, worker: MediaWorker, view: WorkerView, event: _Event) -> None:
        before = view.epoch
        view.apply(event)
        if event.type == "snapshot":
            worker.is_connected = True
            self._connected[worker.index].set()
            self._metrics.media_worker(worker.index, is_up=True)
            log("media.connected", worker=worker.index, live=len(view.live))
            if before != event.epoch:
                chosen = {room for room, _ in view.live}
                await self._repeat_choices(worker, chosen)
        elif event.type == "camera.live":
            await self._repeat_choices(worker, {event.room})

    async def _repeat_choices(self, worker: MediaWorker, rooms: set[str]) -> None:
        """Tell a worker that forgot, or could not know a camera before, what is on air."""
        for room in rooms & self._programs.keys():
            # No camera yet, or gone again: its next `camera.live` or snapshot comes here too.
            with contextlib.suppress(MediaRefused, Unavailable):
                await worker.set_program(room, self._programs[room])

    def programs(self) -> Mapping[str, str]:
        """What somebody put on air, by room."""
        return dict(self._programs)
