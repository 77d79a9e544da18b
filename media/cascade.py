"""Several media workers, one show: whatever camera is live on one can be watched on all.

Each worker follows the event streams of the others, so it knows where which camera is live
(`Sightings`) and what the director chose. When one of its viewers wants a camera that is
published elsewhere it pulls it, once, however many viewers want it, and lets it go when
nobody has wanted it for `IDLE_S`. There is no master: everybody decides for itself from the
same facts (media/rooms.py says why that agrees).

The other workers are URLs of control APIs, on this machine or another; where their media
comes from is said by their answers. All share one control secret.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from interact.protocol import Refused
from media.feed import PullAnswer
from media.peer import CloseReason
from media.pull import PulledPublisher
from media.relay import Relay
from media.rooms import Sighting

logger = logging.getLogger("media.cascade")

Key: TypeAlias = tuple[str, str]
"""(room, camera)."""

IDLE_S: Final = 10.0
"""How long a pull outlives its last viewer: longer than a look at another camera."""

LOSS_GRACE_S: Final = 1.5
"""How long a lost worker's cameras count as live: it, or they, may be back by then."""

PREPARE_S: Final = 2.0
"""How long a viewer's request waits for a pull to be agreed on."""

REQUEST_TIMEOUT_S: Final = 3.0
STREAM_SILENCE_S: Final = 6.0
RETRY_FIRST_S: Final = 0.05
RETRY_LONGEST_S: Final = 1.0
SWEEP_S: Final = 1.0


class _Camera(msgspec.Struct, frozen=True):
    live: bool = False
    session: str | None = None
    since: float | None = None


class _Room(msgspec.Struct, frozen=True):
    cameras: dict[str, _Camera] = {}
    choice: str | None = None
    choice_at: int = 0


class _Event(msgspec.Struct, frozen=True):
    """Any event of a worker's stream; fields that its type does not have keep their defaults."""

    type: str
    room: str = ""
    camera: str | None = None
    session: str | None = None
    since: float | None = None
    at: int = 0
    epoch: str = ""
    rooms: dict[str, _Room] = {}


_event_decoder = msgspec.json.Decoder(_Event)
_answer_decoder = msgspec.json.Decoder(PullAnswer)


class Sightings:
    """Which cameras are live at which other workers. Pure."""

    def __init__(self) -> None:
        self._by_key: dict[Key, dict[str, Sighting]] = {}

    def best(self, key: Key) -> Sighting | None:
        """The newest: where a camera is live twice, its publisher has moved."""
        found = self._by_key.get(key)
        return max(found.values(), key=lambda s: (s.since, s.origin)) if found else None

    def at(self, origin: str) -> list[Key]:
        """Every camera that is live at one worker."""
        return [key for key, found in self._by_key.items() if origin in found]

    def see(self, key: Key, sighting: Sighting) -> None:
        """A camera is live at a worker."""
        self._by_key.setdefault(key, {})[sighting.origin] = sighting

    def miss(self, key: Key, origin: str) -> None:
        """It is not any more."""
        found = self._by_key.get(key)
        if found is not None:
            found.pop(origin, None)
            if not found:
                del self._by_key[key]


@dataclass(slots=True)
class _Link:
    """One other worker."""

    origin: str
    http: httpx.AsyncClient
    grace: asyncio.TimerHandle | None = None
    is_up: bool = False


@dataclass(slots=True, eq=False)
class _Pull:
    """A camera that is being pulled."""

    link: _Link
    publisher: PulledPublisher
    answer: PullAnswer
    wanted_at: float
    """When a viewer last wanted it, by the loop's clock."""
    wanted_rids: tuple[str, ...] | None = None
    telling: asyncio.Task[None] | None = None


@dataclass(slots=True)
class CascadeStats:
    """Counters for the control API."""

    opened: int = 0
    failed: int = 0
    idle: int = 0
    """Pulls let go because nobody watched."""


class Cascade:
    """One worker's view of the others, and its pulls. Lives on the relay's loop."""

    def __init__(
        self, relay: Relay, peers: Sequence[str], secret: str, *, idle_s: float = IDLE_S
    ) -> None:
        """`peers`: base URLs of the other workers' control APIs."""
        self.stats = CascadeStats()
        self._relay = relay
        self._idle_s = idle_s
        self._identity = f"worker-{relay.index}"
        self._sightings = Sightings()
        self._pulls: dict[Key, _Pull] = {}
        self._opening: dict[Key, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stopping = False
        self._links = {
            link.origin: link for link in (_make_link(url, secret) for url in dict.fromkeys(peers))
        }

    def start(self) -> None:
        """Begin to follow the others."""
        self._relay.on_wanted = self.want
        self._relay.on_pull_closed = self._pull_closed
        self._relay.on_layers_wanted = self._layers_wanted
        self._tasks = [asyncio.create_task(self._follow(link)) for link in self._links.values()]
        self._tasks.append(asyncio.create_task(self._sweep()))

    async def stop(self) -> None:
        """Stop following and pulling."""
        self._is_stopping = True
        for link in self._links.values():
            if link.grace is not None:
                link.grace.cancel()
        telling = [pull.telling for pull in self._pulls.values() if pull.telling is not None]
        tasks = [*self._tasks, *self._opening.values(), *telling]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for pull in tuple(self._pulls.values()):
            pull.publisher.peer.close(CloseReason.BY_US)
        for link in self._links.values():
            await link.http.aclose()

    def describe(self) -> dict[str, object]:
        """For the control API."""
        return {
            "workers": {link.origin: link.is_up for link in self._links.values()},
            "pulls": {
                f"{room}/{camera}": pull.link.origin for (room, camera), pull in self._pulls.items()
            },
            "opened": self.stats.opened,
            "failed": self.stats.failed,
            "idle": self.stats.idle,
        }

    # Pulling.

    def want(self, room: str, camera: str) -> None:
        """A viewer wants a camera that is not published here. Cheap to say again."""
        key = (room, camera)
        if self._is_stopping or key in self._pulls or key in self._opening:
            return
        if self._sightings.best(key) is None:
            return
        task = self._opening[key] = asyncio.create_task(self._open(key))
        task.add_done_callback(lambda done: self._opened(key, done))

    async def prepare(self, room_name: str, camera_name: str | None) -> None:
        """Wait until a viewer's camera is published or being pulled here, at most `PREPARE_S`."""
        room = self._relay.rooms.get(room_name)
        camera = room.resolve(camera_name) if room is not None else None
        if camera is None or camera.publisher is not None or camera.sighting is None:
            return
        self.want(room_name, camera.name)
        task = self._opening.get((room_name, camera.name))
        if task is not None:
            await asyncio.wait({task}, timeout=PREPARE_S)

    def _opened(self, key: Key, task: asyncio.Task[None]) -> None:
        del self._opening[key]
        if not task.cancelled() and task.exception() is not None:
            logger.error("pull.fault room=%s camera=%s", *key, exc_info=task.exception())

    async def _open(self, key: Key) -> None:
        """Pull a camera; try again as long as it is live somewhere and wanted here."""
        delay_s = RETRY_FIRST_S
        while (sighting := self._sightings.best(key)) is not None:
            if await self._try(key, sighting):
                return
            self.stats.failed += 1
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_LONGEST_S)
            if not self._is_wanted(key):
                return

    async def _try(self, key: Key, sighting: Sighting) -> bool:
        """One attempt. True: pulled, or no longer needed."""
        room, camera = key
        link = self._links[sighting.origin]
        offer = self._relay.pull_offer(self._identity)
        path = f"/v1/pull/{quote(room, safe='')}/{quote(camera, safe='')}"
        try:
            response = await link.http.post(path, content=msgspec.json.encode(offer))
        except httpx.HTTPError as error:
            logger.warning("pull.unreachable from=%s error=%r", link.origin, error)
            return False
        if response.status_code != 201:
            logger.info(
                "pull.refused room=%s camera=%s from=%s status=%d",
                room,
                camera,
                link.origin,
                response.status_code,
            )
            return False
        try:
            answer = _answer_decoder.decode(response.content)
            pulled = self._relay.pull(room, camera, offer, answer, link.origin)
        except (msgspec.DecodeError, OSError, ValueError, Refused) as error:
            logger.warning("pull.failed room=%s camera=%s error=%r", room, camera, error)
            return False
        if pulled is None:
            return True  # it is published here by now; the other end forgets what never came
        now = asyncio.get_running_loop().time()
        self._pulls[key] = _Pull(link, pulled, answer, now)
        self.stats.opened += 1
        logger.info("pull.open room=%s camera=%s from=%s", room, camera, link.origin)
        return True

    def _pull_closed(self, publisher: PulledPublisher) -> None:
        """Whoever ended it: pull again if the camera is still live and wanted."""
        key = (publisher.room.name, publisher.camera.name)
        pull = self._pulls.get(key)
        if pull is None or pull.publisher is not publisher:
            return
        del self._pulls[key]
        logger.info("pull.close room=%s camera=%s why=%s", *key, publisher.failure or "ended")
        if self._is_wanted(key):
            self.want(*key)

    def _layers_wanted(self, publisher: PulledPublisher, rids: tuple[str, ...]) -> None:
        """Tell the other worker which layers are needed, so that it can stop the rest."""
        pull = self._pulls.get((publisher.room.name, publisher.camera.name))
        if pull is not None and pull.publisher is publisher:
            pull.wanted_rids = rids
            if pull.telling is None or pull.telling.done():
                pull.telling = asyncio.create_task(self._tell_layers(pull))

    async def _tell_layers(self, pull: _Pull) -> None:
        """Say the newest wish until it has been heard or the pull is over."""
        path = f"/v1/sessions/{quote(pull.answer.session, safe='')}/layers"
        params = {"room": pull.publisher.room.name}
        told: tuple[str, ...] | None = None
        while told != pull.wanted_rids and pull in self._pulls.values():
            wish = pull.wanted_rids
            try:
                body = msgspec.json.encode({"rids": wish})
                await pull.link.http.put(path, params=params, content=body)
                told = wish
            except httpx.HTTPError:
                await asyncio.sleep(RETRY_LONGEST_S)

    def _is_wanted(self, key: Key) -> bool:
        room = self._relay.rooms.get(key[0])
        camera = room.cameras.get(key[1]) if room is not None else None
        if room is None or camera is None:
            return False
        is_here = camera.publisher is not None and not camera.publisher.is_pull
        return not is_here and self._relay.is_wanted(room, camera)

    async def _sweep(self) -> None:
        """Let go of pulls that nobody watches."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(SWEEP_S, self._idle_s / 2))
            now = loop.time()
            for key, pull in tuple(self._pulls.items()):
                if self._is_wanted(key):
                    pull.wanted_at = now
                elif now - pull.wanted_at > self._idle_s:
                    self.stats.idle += 1
                    pull.publisher.peer.close(CloseReason.BY_US)

    # Following the others.

    async def _follow(self, link: _Link) -> None:
        delay_s = RETRY_FIRST_S
        timeout = httpx.Timeout(STREAM_SILENCE_S, connect=1.0)
        while True:
            try:
                async with link.http.stream("GET", "/v1/events", timeout=timeout) as response:
                    if response.status_code != 200:
                        logger.warning(
                            "peer.refused origin=%s status=%d", link.origin, response.status_code
                        )
                    else:
                        async for line in _lines(response):
                            delay_s = RETRY_FIRST_S
                            if not self._take(link, _event_decoder.decode(line)):
                                return
            except httpx.HTTPError:
                pass
            except msgspec.DecodeError as error:
                logger.error("peer.bad_event origin=%s error=%s", link.origin, error)
            if link.is_up:
                link.is_up = False
                logger.warning("peer.lost origin=%s", link.origin)
                loop = asyncio.get_running_loop()
                link.grace = loop.call_later(LOSS_GRACE_S, self._lose, link)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_LONGEST_S)

    def _take(self, link: _Link, event: _Event) -> bool:
        """Take one event in. False: the other worker is this one."""
        match event.type:
            case "snapshot":
                if event.epoch == self._relay.epoch:
                    return False
                link.is_up = True
                if link.grace is not None:
                    link.grace.cancel()
                    link.grace = None
                self._reconcile(link, event)
                logger.info("peer.up origin=%s", link.origin)
            case "camera.live" if event.camera is not None:
                self._see(link, (event.room, event.camera), event.session, event.since)
            case "camera.offline" if event.camera is not None:
                self._miss(link, (event.room, event.camera))
            case "program.choice":
                self._relay.adopt_choice(event.room, event.camera, event.at)
            case _:
                pass
        return True

    def _reconcile(self, link: _Link, snapshot: _Event) -> None:
        live = {
            (room, camera): details
            for room, state in snapshot.rooms.items()
            for camera, details in state.cameras.items()
            if details.live
        }
        for key in self._sightings.at(link.origin):
            if key not in live:
                self._miss(link, key)
        for key, details in live.items():
            self._see(link, key, details.session, details.since)
        for room, state in snapshot.rooms.items():
            for camera in state.cameras:
                try:
                    self._relay.meet_camera(room, camera)
                except Refused:
                    break  # the room is full; what is live there is still refused one by one
            if state.choice_at:
                self._relay.adopt_choice(room, state.choice, state.choice_at)

    def _lose(self, link: _Link) -> None:
        """A worker has been away too long: nothing of it is live."""
        link.grace = None
        for key in self._sightings.at(link.origin):
            self._miss(link, key)

    def _see(self, link: _Link, key: Key, session: str | None, since: float | None) -> None:
        self._sightings.see(key, Sighting(link.origin, session or "", since or 0.0))
        self._settle(key)

    def _miss(self, link: _Link, key: Key) -> None:
        self._sightings.miss(key, link.origin)
        self._settle(key)

    def _settle(self, key: Key) -> None:
        """Tell the relay where a camera is now; let go of a pull from where it is not."""
        best = self._sightings.best(key)
        try:
            self._relay.sight(*key, best)
        except Refused as refused:
            logger.warning("peer.camera_refused room=%s camera=%s why=%s", *key, refused)
            return
        pull = self._pulls.get(key)
        if pull is not None and (
            best is None or (best.origin, best.session) != (pull.link.origin, pull.answer.publisher)
        ):
            pull.publisher.peer.close(CloseReason.BY_US)


def _make_link(url: str, secret: str) -> _Link:
    http = httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {secret}"},
        timeout=httpx.Timeout(REQUEST_TIMEOUT_S, connect=1.0),
        trust_env=False,  # a proxy in the environment is not for a private network
    )
    return _Link(urlsplit(url).netloc, http)


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
