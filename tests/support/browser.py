"""A show in real browsers: the real server, headless Chromium, a fake camera.

    async with show() as stage:
        studio = await stage.open("studio", token=stage.server.token(role="host"))
        phone = await stage.open("v")

Every page gets a context of its own, as a phone would be. An uncaught error on any page
fails the test; after a failure each page's picture lies in tests/browser/artifacts.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Browser, Locator, Page, async_playwright
from websockets.asyncio.client import connect

from interact.protocol import Role
from tests.support.server import Server, running_server

ROOM: Final = "shop"
ARTIFACTS: Final = Path(__file__).resolve().parents[1] / "browser" / "artifacts"
PHONE: Final = (390, 844)
LAPTOP: Final = (1440, 900)
WALL: Final = (1920, 1080)
WAIT_S: Final = 20.0
"""Long enough for a busy two-core machine; a healthy one needs a tenth."""

_ARGUMENTS: Final = (
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--allow-loopback-in-peer-connection",
    "--autoplay-policy=no-user-gesture-required",
)
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str:
    """The browser to test with. Raises AssertionError with what to do where there is none."""
    for name in (os.environ.get("LIVEHOUSE_CHROMIUM", ""), *_NAMES):
        if name and (path := shutil.which(name)):
            return path
    raise AssertionError("no Chromium here: run `make setup` or set LIVEHOUSE_CHROMIUM")


@dataclass(slots=True)
class Show:
    """A server and the pages that are open on it."""

    server: Server
    _browser: Browser
    _pages: list[Page] = field(default_factory=list)
    _errors: list[str] = field(default_factory=list)
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def open(
        self,
        page: str,
        *,
        token: str | None = None,
        size: tuple[int, int] = PHONE,
        language: str = "en-US",
        prepare: Callable[[Page], Awaitable[None]] | None = None,
    ) -> Page:
        """Open `/{page}/{ROOM}`; `prepare` sees the page before it loads."""
        context = await self._browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            locale=language,
            permissions=["camera", "microphone"],
        )
        opened = await context.new_page()
        self._pages.append(opened)
        opened.set_default_timeout(WAIT_S * 1000)
        opened.on("pageerror", lambda error: self._errors.append(f"{page}: {error}"))
        if prepare is not None:
            await prepare(opened)
        fragment = f"#token={token}" if token else ""
        await opened.goto(f"{self.server.url}/{page}/{ROOM}{fragment}")
        return opened

    async def open_studio(self) -> Page:
        """Open the studio as the host."""
        return await self.open("studio", token=self.host_token(), size=LAPTOP)

    async def go_live(self, camera: str | None = None) -> Page:
        """Open the studio and publish its fake camera."""
        studio = await self.open_studio()
        await studio.get_by_test_id("preview").wait_for()
        if camera is not None:
            await studio.get_by_test_id("camera-name").fill(camera)
        await studio.get_by_test_id("go-live").click()
        await has(studio.get_by_test_id("studio"), "data-air", "live")
        return studio

    def host_token(self) -> str:
        """A host of the room."""
        return self.server.token(ROOM, Role.HOST, identity="host", name="Host")

    async def rpc(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """One call as the host, by a plain socket: what the studio's presets cannot express."""
        async with connect(self.server.ws_url) as socket:
            await socket.send(json.dumps({"id": 1, "connect": {"token": self.host_token()}}))
            await _reply(socket, 1)
            call = {"method": method, "data": params}
            await socket.send(json.dumps({"id": 2, "rpc": call}))
            reply = await _reply(socket, 2)
            assert "error" not in reply, reply
            data = reply["rpc"]["data"]
            assert isinstance(data, dict)
            return data

    async def start_lot(self, *, duration_ms: int, title: str = "Tea bowl") -> str:
        """Create and open a lot in yen: start 1,000, step 100."""
        created = await self.rpc(
            "lot.create",
            {
                "title": title,
                "format": "english",
                "currency": "JPY",
                "start_price": 1000,
                "increment": 100,
                "duration_ms": duration_ms,
            },
        )
        await self.rpc("lot.start", {"lot": created["lot"]})
        return str(created["lot"])

    async def keep_pictures(self, name: str) -> None:
        """Save what every page shows."""
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        for number, page in enumerate(self._pages):
            if not page.is_closed():
                await page.screenshot(path=ARTIFACTS / f"{name}-{number}.png")

    def check_errors(self) -> None:
        """No page may have raised anything that nobody caught."""
        assert not self._errors, self._errors


async def _reply(socket: Any, number: int) -> dict[str, Any]:
    async for text in socket:
        for line in str(text).splitlines():
            message = json.loads(line)
            if message.get("id") == number:
                assert isinstance(message, dict)
                return message
            if message == {}:
                await socket.send("{}")
    raise AssertionError("the socket closed before the answer")


@contextlib.asynccontextmanager
async def show() -> AsyncIterator[Show]:
    """A running server and a browser."""
    async with (
        running_server() as server,
        async_playwright() as playwright,
        await playwright.chromium.launch(
            executable_path=find_chromium(), args=list(_ARGUMENTS)
        ) as browser,
    ):
        stage = Show(server, browser)
        yield stage
        stage.check_errors()


async def has(target: Locator, attribute: str, value: str, timeout_s: float = WAIT_S) -> None:
    """Wait until `target` has `attribute` equal to `value`."""
    await until(target, attribute, lambda seen: seen == value, f"{value!r}", timeout_s)


async def until(
    target: Locator,
    attribute: str,
    holds: Callable[[str | None], bool],
    wanted: str,
    timeout_s: float = WAIT_S,
) -> str:
    """Wait until `holds` of the attribute; the failure says what was seen instead."""
    deadline = time.monotonic() + timeout_s
    while True:
        seen = await target.get_attribute(attribute)
        if holds(seen):
            return seen or ""
        if time.monotonic() > deadline:
            raise AssertionError(f"{attribute} is {seen!r}, not {wanted}, after {timeout_s} s")
        await target.page.wait_for_timeout(50)


async def frames_rise(page: Page, root: str, by: int = 15, timeout_s: float = WAIT_S) -> None:
    """Wait until the page has decoded `by` more frames than now."""
    target = page.get_by_test_id(root)
    before = int(await target.get_attribute("data-frames") or 0)
    await until(
        target,
        "data-frames",
        # A new session counts from nought again.
        lambda seen: int(seen or 0) >= before + by or 0 < by <= int(seen or 0) < before,
        f"{by} more than {before}",
        timeout_s,
    )


async def picture_size(page: Page) -> tuple[int, int]:
    """Width and height of what the front video shows, px."""
    size = await page.locator("video[data-front]").evaluate("v => [v.videoWidth, v.videoHeight]")
    return int(size[0]), int(size[1])
