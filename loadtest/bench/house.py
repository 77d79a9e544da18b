"""A server of a benchmark's own: the real `livehouse serve` in processes of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from loadtest.target import Target
from loadtest.whip import Publisher
from media.stage.feed import StageFeed, Unit

ROOM: Final = "bench"
START_TIMEOUT_S: Final = 40.0
STOP_TIMEOUT_S: Final = 12.0
_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class House:
    """A running server."""

    url: str
    pid: int
    data: Path

    async def token(self, role: str, identity: str = "") -> str:
        """A token by the command line, as a person would make one."""
        more = ["--identity", identity] if identity else []
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "server",
            "token",
            "--room",
            ROOM,
            "--role",
            role,
            "--data",
            str(self.data),
            *more,
            stdout=asyncio.subprocess.PIPE,
            env=_environment(),
        )
        out, _ = await process.communicate()
        return out.decode().strip()

    async def target(self, role: str) -> Target:
        """The room, with a token of `role`."""
        return Target(self.url, ROOM, await self.token(role))


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LIVEHOUSE_")}
    return kept | {"PYTHONPATH": str(_ROOT)}


@contextlib.asynccontextmanager
async def house(*arguments: str) -> AsyncIterator[House]:
    """Start a server on free ports, wait until it is ready, stop it after the block."""
    data = Path(tempfile.mkdtemp(prefix="livehouse-bench-"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "server",
        "serve",
        "--host",
        "127.0.0.1",
        *("--http-port", "0", "--media-port", "0", "--data", str(data / "data")),
        *("--print-json", "--log-level", "error", *arguments),
        stdout=asyncio.subprocess.PIPE,
        env=_environment(),
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            info: dict[str, Any] = json.loads(await process.stdout.readline())
            made = House(str(info["local_url"]), int(info["pid"]), data / "data")
            async with httpx.AsyncClient(base_url=made.url, trust_env=False) as client:
                while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
                await client.post(
                    "/api/v1/rooms",
                    json={"room": ROOM, "open": True},
                    headers={"Authorization": f"Bearer {await made.token('host')}"},
                )
        yield made
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        shutil.rmtree(data, ignore_errors=True)


@contextlib.asynccontextmanager
async def on_air(
    target: Target,
    camera: str,
    start: Callable[[Callable[[Unit], None]], contextlib.AbstractAsyncContextManager[None]],
    *,
    audio: bool = False,
    request_key: Callable[[], None] = lambda: None,
) -> AsyncIterator[Publisher]:
    """A camera on air for the block; `start` runs its feed into the function it is given."""
    live = asyncio.Event()
    token = target.token or ""
    async with target.client() as client:
        publisher = Publisher(
            client,
            f"{target.url}/whip/{target.room}/{camera}",
            lambda: token,
            audio=audio,
            request_key=request_key,
            on_state=lambda state: live.set() if state == "live" else None,
        )
        running = asyncio.create_task(publisher.run())
        try:
            async with start(publisher.feed):
                await asyncio.wait_for(live.wait(), 20)
                while not publisher.video.packets:  # noqa: ASYNC110 - the feed paints first
                    await asyncio.sleep(0.05)
                yield publisher
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def stage(
    feed: StageFeed,
) -> Callable[[Callable[[Unit], None]], contextlib.AbstractAsyncContextManager[None]]:
    """The drawn stage as a feed for `on_air`."""

    @contextlib.asynccontextmanager
    async def start(take: Callable[[Unit], None]) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        feed.start(lambda unit: loop.call_soon_threadsafe(take, unit))
        try:
            yield
        finally:
            await asyncio.to_thread(feed.stop)

    return start


def task(
    run: Callable[[Callable[[Unit], None]], Any],
) -> Callable[[Callable[[Unit], None]], contextlib.AbstractAsyncContextManager[None]]:
    """A coroutine that feeds, for `on_air`."""

    @contextlib.asynccontextmanager
    async def start(take: Callable[[Unit], None]) -> AsyncIterator[None]:
        feeding = asyncio.create_task(run(take))
        try:
            yield
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    return start
