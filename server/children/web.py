"""The web worker's process: uvicorn over the inherited listener until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Generator
from typing import Any, Final

import uvicorn

from interact.ledger_file import DataDirectoryError
from interact.redis_link import RedisError
from server.app import build_services, create_app
from server.children import WebChild
from server.children.runtime import Fatal, Runtime, run_child
from server.config import ConfigError
from server.http_protocol import make_http_class
from server.lifespan import running
from server.logs import log
from server.sockets import listen_beside
from server.ws import make_protocol_class

KEEP_ALIVE_S: Final = 20
GRACEFUL_S: Final = 4
"""How long requests under way may take once the worker stops."""
MEDIA_WAIT_S: Final = 10.0


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the child's runtime decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def _main(settings: WebChild, runtime: Runtime) -> None:
    try:
        services = build_services(settings)
    except ConfigError as error:
        raise Fatal(str(error)) from None
    listener = socket.socket(fileno=settings.http_fd)
    if len(settings.peers) > 1:
        with listener as reserved:
            listener = listen_beside(reserved)
    listener.set_inheritable(False)
    private = socket.socket(fileno=settings.private_fd)
    private.set_inheritable(False)
    if services.rooms.others is not None:
        # The store forgot what was acknowledged: the supervisor starts a worker without memory.
        services.rooms.others.on_data_lost = runtime.stop.set
    config = uvicorn.Config(
        create_app(services),
        ws=make_protocol_class(services.bus),
        http=make_http_class(services.metrics.refused),
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACEFUL_S,
        ssl_certfile=settings.cert,
        ssl_keyfile=settings.key,
    )
    server = _Server(config)
    try:
        async with running(services):
            await _serve(
                server, [listener, private], services.bridge.wait_connected(MEDIA_WAIT_S), runtime
            )
    except (DataDirectoryError, RedisError) as error:
        raise Fatal(str(error)) from None


async def _serve(
    server: _Server,
    listeners: list[socket.socket],
    media_connected: Coroutine[Any, Any, bool],
    runtime: Runtime,
) -> None:
    serving = asyncio.create_task(server.serve(listeners), name="uvicorn")
    stopping = asyncio.create_task(runtime.stop.wait(), name="stop")
    ready = asyncio.create_task(media_connected, name="media-connected")
    try:
        await asyncio.wait({ready, serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done() and not serving.done():
            if not ready.result():
                log("media.missing", level="warning", waited_s=MEDIA_WAIT_S)
            runtime.ready()
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        for task in (stopping, ready):
            task.cancel()
        await asyncio.gather(stopping, ready, return_exceptions=True)


if __name__ == "__main__":
    run_child(WebChild, _main)
