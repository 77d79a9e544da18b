"""Media workers' events become notices to the rooms; what rooms choose reaches media.

One task a worker follows its event stream and connects again when it breaks. Every
connection begins with a snapshot, which is the whole truth, so nothing needs counting:
the difference to what was known becomes notices (server/media_view.py). A stream that
breaks takes its worker out of the steering at once, but says nothing about its cameras for
`LOSS_GRACE_S`: a worker that is back by then, with its cameras still live, or cameras that
went to another worker make no phone flicker.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from server.errors import MediaRefused, Unavailable
from server.logs import log
from server.media_client import MediaPool, MediaWorker
from server.media_view import NEVER, MediaEvent, MediaView, RoomNotices, event_decoder
from server.metrics import Metrics

LOSS_GRACE_S: Final = 2.0
RETRY_FIRST_S: Final = 0.05
RETRY_LONGEST_S: Final = 1.0


class Bridge:
    """Follows every media worker; `start` and `stop` are called by the lifespan."""

    def __init__(self, media: MediaPool, rooms: RoomNotices, metrics: Metrics) -> None:
        self._media = media
        self._rooms = rooms
        self._metrics = metrics
        self._view = MediaView(
            [worker.index for worker in media.followed], rooms, self._media_viewers
        )
        media.view = self._view
        self._on_media: dict[str, int] = {}
        self._on_bus: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._connected = {worker.index: asyncio.Event() for worker in media.workers}

    async def start(self) -> None:
        """Begin to follow."""
        for worker in self._media.followed:
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
        at = time.time_ns() // 1_000_000
        workers = [worker for worker in self._media.workers if worker.is_connected]
        said = await asyncio.gather(
            *(worker.set_program(room, camera, at) for worker in workers or self._media.workers),
            return_exceptions=True,
        )
        failures = [error for error in said if isinstance(error, BaseException)]
        if len(failures) == len(said):
            # A worker that does not know the camera yet hears of the choice from the others.
            raise failures[0]
        self._view.choose(room, camera, at)

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
            "cameras_live": self._view.cameras_live(),
            "rooms_watched": len(self._on_media.keys() | self._on_bus.keys()),
            "media_viewers": sum(self._on_media.values()),
            "bus_viewers": sum(self._on_bus.values()),
        }

    async def _follow(self, worker: MediaWorker) -> None:
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
                        await self._handle(worker, event_decoder.decode(line))
            except Unavailable:
                pass
            except msgspec.DecodeError as error:
                log("media.bad_event", level="error", worker=worker.index, error=error)
            if worker.is_connected:
                worker.is_connected = False
                if worker.is_own:
                    self._media.steering.down(worker.index)
                    self._metrics.media_worker(worker.index, is_up=False)
                log("media.lost", level="warning", worker=worker.name)
                loop = asyncio.get_running_loop()
                grace = loop.call_later(LOSS_GRACE_S, self._view.lose, worker.index)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_LONGEST_S)

    async def _handle(self, worker: MediaWorker, event: MediaEvent) -> None:
        view = self._view.workers[worker.index]
        before = view.epoch
        self._view.apply(worker.index, event)
        if event.type == "snapshot":
            worker.is_connected = True
            log("media.connected", worker=worker.name, live=len(view.live))
            if not worker.is_own:
                return
            self._media.steering.up(worker.index)
            self._connected[worker.index].set()
            self._metrics.media_worker(worker.index, is_up=True)
            if before != event.epoch:
                await self._repeat_choices(worker, {room for room, _ in view.live})
        if not worker.is_own:
            return
        if event.load is not None:
            self._media.steering.report(worker.index, event.load)
        if event.type == "camera.live":
            await self._repeat_choices(worker, {event.room})

    async def _repeat_choices(self, worker: MediaWorker, rooms: set[str]) -> None:
        """Tell a worker that forgot, or could not know a camera before, what is on air."""
        known = self._view.workers[worker.index].choices
        for room in rooms & self._view.choices.keys():
            at, camera = self._view.choices[room]
            if known.get(room, NEVER)[0] >= at:
                continue
            # No camera yet, or gone again: its next `camera.live` or snapshot comes here too.
            with contextlib.suppress(MediaRefused, Unavailable):
                await worker.set_program(room, camera, at)

    def programs(self) -> Mapping[str, str]:
        """What somebody put on air, by room."""
        return {
            room: camera for room, (_, camera) in self._view.choices.items() if camera is not None
        }
