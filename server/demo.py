"""**Shell**: the demo room. Cameras, a host, bidders and a cutter, all clients like any other.

Nothing here has a back door into the server: pictures go in by WHIP, bids by the bus, cuts by
REST, with tokens signed by the secret in the data directory. The child can be killed at any
moment; a new one finds the open lot and goes on.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from interact.protocol import Event, Role
from loadtest.bots import Company
from loadtest.bus import Json
from loadtest.show import Offering
from loadtest.whip import Publisher, Refusal
from media.stage.feed import Feed, StageFeed, Unit
from media.stage.filefeed import BadSource, FileFeed
from media.stage.scene import Cue, CueKind
from server.auth import Tokens, load_or_create_secret
from server.demo_cutter import Cutter
from server.demo_screen import StartScreen, Terminal, money

ROOM_TITLE: Final = "Night market 夜市"
TOKEN_TTL_S: Final = 7 * 86_400
READY_TIMEOUT_S: Final = 60.0
HOST_IDENTITY: Final = "demo-host"
_AWAY_NOTE_S: Final = 0.3


class DemoFailed(Exception):
    """The demo cannot go on; the message is one line for a person."""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What the demo needs to know. `base_url` is for itself, `public_url` for phones."""

    base_url: str
    public_url: str
    data: Path
    room: str
    sources: tuple[Path, ...] = ()
    bots: int = 8
    ca: Path | None = None


class Demo:
    """One demo room, from start to stop."""

    def __init__(self, settings: DemoSettings, terminal: Terminal) -> None:
        self._settings = settings
        self._terminal = terminal
        self._tokens = Tokens(load_or_create_secret(settings.data))
        self._context = ssl.create_default_context(cafile=settings.ca) if settings.ca else None
        self._feeds: list[Feed] = []
        self._stage: StageFeed | None = None
        self._publishers: dict[str, Publisher] = {}
        self._has_picture: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._live: set[str] = set()
        self._all_live = asyncio.Event()
        self._away_since: float | None = None
        self._cutter = Cutter()
        self._is_stopping = False

    def token(self, role: Role, identity: str, name: str | None = None) -> str:
        """A token of the demo room."""
        return self._tokens.issue(
            room=self._settings.room,
            role=role,
            identity=identity,
            now=time.time(),
            ttl_s=TOKEN_TTL_S,
            name=name,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run the show until `stop`. Raises `DemoFailed`."""
        self._make_feeds()
        loop = asyncio.get_running_loop()
        for feed in self._feeds:  # the scenery is painted while the server starts
            feed.start(_to_loop(loop, self._dispatcher(feed)))
        try:
            await self._show_on(stop)
        finally:
            for feed in self._feeds:
                await asyncio.to_thread(feed.stop)

    async def _show_on(self, stop: asyncio.Event) -> None:
        verify: Any = self._context or True
        async with httpx.AsyncClient(
            base_url=self._settings.base_url, verify=verify, timeout=10, trust_env=False
        ) as client:
            await self._wait_ready(client, stop)
            if stop.is_set():
                return
            await self._make_room(client)
            company = self._company()
            tasks = [
                asyncio.create_task(self._publish(client, feed, camera))
                for feed in self._feeds
                for camera in feed.cameras
            ]
            tasks.append(asyncio.create_task(company.run()))
            tasks.append(asyncio.create_task(self._cut(client)))
            tasks.append(asyncio.create_task(self._greet()))
            ended = asyncio.create_task(stop.wait())
            try:
                pending = {*tasks, ended}
                while not ended.done():
                    done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
            except Refusal as error:
                raise DemoFailed(f"the server refused the demo's cameras: {error}") from error
            finally:
                self._is_stopping = True
                for task in [*tasks, ended]:
                    task.cancel()
                await asyncio.gather(*tasks, ended, return_exceptions=True)

    async def _wait_ready(self, client: httpx.AsyncClient, stop: asyncio.Event) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not stop.is_set():
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass  # not listening yet; the deadline decides
            if time.monotonic() > deadline:
                raise DemoFailed(f"{self._settings.base_url}/readyz did not say yes in time")
            await asyncio.sleep(0.1)

    async def _make_room(self, client: httpx.AsyncClient) -> None:
        response = await client.post(
            "/api/v1/rooms",
            json={"room": self._settings.room, "title": ROOM_TITLE, "open": True},
            headers={"Authorization": f"Bearer {self.token(Role.HOST, HOST_IDENTITY)}"},
        )
        if response.status_code >= 400:
            raise DemoFailed(f"cannot make room {self._settings.room}: {response.text}")

    def _make_feeds(self) -> None:
        if not self._settings.sources:
            self._stage = StageFeed()
            self._feeds = [self._stage]
            return
        names: list[str] = []
        for path in self._settings.sources:
            name = _camera_name(path, names)
            names.append(name)
            try:
                self._feeds.append(FileFeed(name, path))
            except BadSource as error:
                raise DemoFailed(str(error)) from error

    def _company(self) -> Company:
        async def who(role: str, identity: str, name: str) -> str:
            return self.token(Role(role), identity, name)

        base = self._settings.base_url
        return Company(
            "ws" + base.removeprefix("http") + "/connection/websocket",
            self._settings.room,
            self._settings.bots,
            who,
            on_show=self._show,
            on_event=self._heard,
            ssl=self._context,
        )

    def _show(self, offering: Offering) -> None:
        if self._stage is not None:
            self._stage.cue(Cue(time.time(), CueKind.PRODUCT, offering.product))

    def _heard(self, event: Json) -> None:
        self._cutter.hear(event, time.monotonic())
        if event["type"] == Event.LOT_SOLD:
            if self._stage is not None:
                self._stage.cue(Cue(time.time(), CueKind.SOLD))
            price = money(event["price"], event["currency"])
            winner = event.get("winner_name") or event["winner"]
            self._terminal.line("sold", f"{event['title']}  {price}  {winner}")

    def _dispatcher(self, feed: Feed) -> Callable[[Unit], None]:
        def dispatch(unit: Unit) -> None:
            if unit.camera is not None:
                self._has_picture[unit.camera].set()
            for camera in feed.cameras:
                publisher = self._publishers.get(camera)
                if publisher is not None and unit.camera in (None, camera):
                    publisher.feed(unit)

        return dispatch

    async def _publish(self, client: httpx.AsyncClient, feed: Feed, camera: str) -> None:
        publisher = Publisher(
            client,
            f"{self._settings.base_url}/whip/{self._settings.room}/{camera}",
            lambda: self.token(Role.HOST, HOST_IDENTITY),
            audio=feed.has_audio,
            request_key=lambda: feed.request_key(camera),
            on_state=lambda state: self._camera_state(camera, state),
        )
        self._publishers[camera] = publisher
        self._cutter.own(camera)
        # A camera that is live and dark while its scenery is painted would puzzle viewers.
        await self._has_picture[camera].wait()
        await publisher.run()

    def _camera_state(self, camera: str, state: str) -> None:
        """One line when pictures are lost, one when all are back; not one a camera."""
        everyone = set(self._publishers)
        if state == "live":
            self._live.add(camera)
            if self._live == everyone:
                if self._away_since is not None:
                    took = time.monotonic() - self._away_since
                    self._terminal.line("back", f"all cameras on air again after {took:.1f} s")
                    self._away_since = None
                self._all_live.set()
        elif camera in self._live:
            self._live.discard(camera)
            if self._away_since is None:
                self._away_since = time.monotonic()
                # At the end of the show the server goes first; that is not worth a word.
                asyncio.get_running_loop().call_later(_AWAY_NOTE_S, self._note_away)

    def _note_away(self) -> None:
        if self._away_since is not None and not self._is_stopping:
            self._terminal.line("away", "the media worker is gone, publishing again")

    async def _cut(self, client: httpx.AsyncClient) -> None:
        """Cut the program as the cutter says, with the REST call that a director uses."""
        await self._all_live.wait()
        while True:
            now = time.monotonic()
            camera = self._cutter.decide(now)
            if camera is not None:
                try:
                    await client.put(
                        f"/api/v1/rooms/{self._settings.room}/program",
                        json={"camera": camera},
                        headers={"Authorization": f"Bearer {self.token(Role.HOST, HOST_IDENTITY)}"},
                    )
                except httpx.TransportError:
                    self._cutter.failed()
            await asyncio.sleep(0.5)

    async def _greet(self) -> None:
        await self._all_live.wait()
        settings = self._settings
        StartScreen(
            public_url=settings.public_url,
            local_url=settings.base_url,
            room=settings.room,
            cameras=list(self._publishers),
            bots=settings.bots,
            host_token=self.token(Role.HOST, HOST_IDENTITY, "Host"),
            data=settings.data,
        ).show(self._terminal)


def _to_loop(
    loop: asyncio.AbstractEventLoop, take: Callable[[Unit], None]
) -> Callable[[Unit], None]:
    """Bring units from a feed's thread to the loop."""

    def sink(unit: Unit) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(take, unit)

    return sink


def _camera_name(path: Path, taken: list[str]) -> str:
    """A camera's name for a file: its stem with what a name may not hold left out."""
    stem = "".join(c for c in path.stem if c.isascii() and (c.isalnum() or c in "._-"))
    name = stem.lstrip("._-")[:60] or "film"
    if name == "program":
        name = "film"
    number = 2
    unique = name
    while unique in taken:
        unique = f"{name}-{number}"
        number += 1
    return unique
