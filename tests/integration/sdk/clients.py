"""One face for the SDKs, so that each test runs on all of them.

Whatever an SDK emits lands in `events`, in order, as dictionaries of the same shape.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

import centrifuge  # type: ignore[import-untyped]  # ships no types
import pytest
from centrifuge.contexts import (  # type: ignore[import-untyped]  # ships no types
    ConnectedContext,
    ConnectingContext,
    DisconnectedContext,
    ErrorContext,
    PublicationContext,
    ServerPublicationContext,
    ServerSubscribedContext,
    SubscribedContext,
    UnsubscribedContext,
)
from centrifuge.exceptions import ReplyError  # type: ignore[import-untyped]  # ships no types

from tests.support.bus_server import eventually

Json = dict[str, Any]
TokenSource = Callable[[], str]

NODE_MODULES = Path(__file__).parents[3] / "clients" / "web" / "node_modules"
DRIVER = Path(__file__).with_name("driver.cjs")


class Refusal(Exception):
    """An error reply, as the SDK shows it."""

    def __init__(self, code: int, message: str, temporary: bool) -> None:
        super().__init__(f"{code} {message}")
        self.code, self.message, self.temporary = code, message, temporary


class Sdk(Protocol):
    """What the tests use of an SDK."""

    events: list[Json]

    async def open(self, url: str, token: str, source: TokenSource | None = None) -> None: ...
    async def rpc(self, method: str, data: object) -> Any: ...
    async def subscribe(self, channel: str) -> None: ...
    async def history(self, channel: str, limit: int) -> Json: ...
    async def presence_stats(self, channel: str) -> tuple[int, int]: ...
    async def close(self) -> None: ...


async def seen(sdk: Sdk, wanted: Callable[[Json], object], what: str, count: int = 1) -> Json:
    """Wait until `count` events are `wanted`; gives the last of them."""

    def found() -> list[Json]:
        return [event for event in sdk.events if wanted(event)]

    def why_not() -> str:
        return "" if len(found()) >= count else f"no {count}. {what} in {sdk.events}"

    await eventually(why_not)
    return found()[count - 1]


def publications(sdk: Sdk, channel: str) -> list[int]:
    """Offsets of a channel's publications, in order of arrival."""
    return [
        event["offset"]
        for event in sdk.events
        if event["event"] == "publication" and event["channel"] == channel
    ]


class PythonSdk:
    """`centrifuge-python`."""

    def __init__(self) -> None:
        self.events: list[Json] = []
        self._client: centrifuge.Client | None = None

    async def open(self, url: str, token: str, source: TokenSource | None = None) -> None:
        async def get_token() -> str:
            self.events.append({"event": "token_wanted"})
            return source() if source is not None else ""

        self._client = centrifuge.Client(
            url,
            events=_Handler(self.events),
            token=token,
            get_token=get_token if source is not None else None,
            min_reconnect_delay=0.05,
            max_reconnect_delay=0.3,
            proxy=None,
        )
        await self._client.connect()

    @property
    def client(self) -> centrifuge.Client:
        assert self._client is not None
        return self._client

    async def rpc(self, method: str, data: object) -> Any:
        try:
            return (await self.client.rpc(method, data)).data
        except ReplyError as error:
            raise Refusal(error.code, error.message, error.temporary) from None

    async def subscribe(self, channel: str) -> None:
        subscription = self.client.new_subscription(
            channel, events=_SubscriptionHandler(self.events, channel)
        )
        await subscription.subscribe()

    async def history(self, channel: str, limit: int) -> Json:
        result = await self.client.history(channel, limit=limit)
        return {
            "offset": result.offset,
            "publications": [{"offset": p.offset, "data": p.data} for p in result.publications],
        }

    async def presence_stats(self, channel: str) -> tuple[int, int]:
        result = await self.client.presence_stats(channel)
        return result.num_clients, result.num_users

    async def close(self) -> None:
        if self._client is not None:
            await self._client.disconnect()


class _Handler(centrifuge.ClientEventHandler):  # type: ignore[misc]  # untyped base
    def __init__(self, events: list[Json]) -> None:
        self._events = events

    async def on_connecting(self, ctx: ConnectingContext) -> None:
        self._events.append({"event": "connecting", "code": ctx.code})

    async def on_connected(self, ctx: ConnectedContext) -> None:
        self._events.append({"event": "connected", "data": ctx.data})

    async def on_disconnected(self, ctx: DisconnectedContext) -> None:
        self._events.append({"event": "disconnected", "code": ctx.code, "reason": ctx.reason})

    async def on_error(self, ctx: ErrorContext) -> None:
        self._events.append({"event": "error", "code": ctx.code})

    async def on_subscribed(self, ctx: ServerSubscribedContext) -> None:
        self._events.append(
            {
                "event": "subscribed",
                "channel": ctx.channel,
                "wasRecovering": ctx.was_recovering,
                "recovered": ctx.recovered,
            }
        )

    async def on_publication(self, ctx: ServerPublicationContext) -> None:
        self._events.append(
            {
                "event": "publication",
                "channel": ctx.channel,
                "offset": ctx.pub.offset,
                "data": ctx.pub.data,
            }
        )


class _SubscriptionHandler(centrifuge.SubscriptionEventHandler):  # type: ignore[misc]  # same
    def __init__(self, events: list[Json], channel: str) -> None:
        self._events = events
        self._channel = channel

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        self._events.append({"event": "subscribed", "channel": self._channel})

    async def on_unsubscribed(self, ctx: UnsubscribedContext) -> None:
        self._events.append({"event": "unsubscribed", "channel": self._channel, "code": ctx.code})

    async def on_publication(self, ctx: PublicationContext) -> None:
        self._events.append(
            {
                "event": "publication",
                "channel": self._channel,
                "offset": ctx.pub.offset,
                "data": ctx.pub.data,
            }
        )


class NodeSdk:
    """npm `centrifuge`, in a Node process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.events: list[Json] = []
        self._process = process
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._last_id = 0
        self._source: TokenSource | None = None
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls) -> NodeSdk:
        node = shutil.which("node")
        if node is None or not (NODE_MODULES / "centrifuge").exists():
            pytest.skip("needs Node and clients/web/node_modules: run make setup")
        version = await asyncio.create_subprocess_exec(
            node, "-p", "parseInt(process.versions.node)", stdout=asyncio.subprocess.PIPE
        )
        major = int((await version.communicate())[0])
        # Node has the browser's WebSocket: behind a flag until 22.
        flags = ["--experimental-websocket"] if major < 22 else []
        process = await asyncio.create_subprocess_exec(
            node,
            *flags,
            str(DRIVER),
            str(NODE_MODULES),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return cls(process)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            event = json.loads(line)
            match event["event"]:
                case "answer":
                    future = self._answers.pop(event["id"])
                    if "error" in event:
                        future.set_exception(Refusal(**event["error"]))
                    else:
                        future.set_result(event.get("result"))
                case "token_wanted":
                    self.events.append(event)
                    assert self._source is not None
                    self._tell({"do": "token", "token": self._source()})
                case _:
                    self.events.append(event)

    def _tell(self, command: Json) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def _ask(self, command: Json) -> Any:
        self._last_id += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[self._last_id] = future
        self._tell({**command, "id": self._last_id})
        return await asyncio.wait_for(future, 10)

    async def open(self, url: str, token: str, source: TokenSource | None = None) -> None:
        self._source = source
        self._tell({"do": "open", "url": url, "token": token, "refresh": source is not None})

    async def rpc(self, method: str, data: object) -> Any:
        return await self._ask({"do": "rpc", "method": method, "data": data})

    async def subscribe(self, channel: str) -> None:
        self._tell({"do": "subscribe", "channel": channel})

    async def history(self, channel: str, limit: int) -> Json:
        result = await self._ask({"do": "history", "channel": channel, "limit": limit})
        assert isinstance(result, dict)
        return result

    async def presence_stats(self, channel: str) -> tuple[int, int]:
        result = await self._ask({"do": "presence_stats", "channel": channel})
        return result["numClients"], result["numUsers"]

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await asyncio.wait_for(self._process.wait(), 10)
        await self._reading


@contextlib.asynccontextmanager
async def sdk_client(kind: str) -> AsyncIterator[Sdk]:
    """A fresh client of the SDK, ended with the block."""
    sdk: Sdk = PythonSdk() if kind == "python" else await NodeSdk.start()
    try:
        yield sdk
    finally:
        await sdk.close()
