"""The order in which a web worker's parts start and stop.

Ledger, rooms, bridge; then requests. On the way out the bus says goodbye first, so that
phones go to look for another worker, then rooms finish what they accepted, and the ledger
closes last, with everything acknowledged on disk.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final

from server.services import Services

BUS_CLOSE_S: Final = 3.0


@contextlib.asynccontextmanager
async def running(services: Services) -> AsyncIterator[None]:
    """Everything is started inside and stopped after."""
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(services.media.close)
        await services.engine.start(services.bus.hub.publish)
        stack.push_async_callback(services.engine.close)
        await services.rooms.start()
        stack.push_async_callback(services.rooms.close)
        services.bus.hub.on_presence_change = services.bridge.bus_viewers
        await services.bridge.start()
        stack.push_async_callback(services.bridge.stop)
        stack.push_async_callback(services.bus.close, BUS_CLOSE_S)
        yield
