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
        stack.push_async_callback(services.siblings.close)
        await services.engine.start(services.bus.hub.publish)
        stack.push_async_callback(services.engine.close)
        await services.rooms.start()
        stack.push_async_callback(services.rooms.close)
        _count_viewers(services)
        await services.bridge.start()
        stack.push_async_callback(services.bridge.stop)
        stack.push_async_callback(services.bus.close, BUS_CLOSE_S)
        yield


def _count_viewers(services: Services) -> None:
    """The hub's people, those at other workers included, become the bridge's count."""
    hub, bridge, others = services.bus.hub, services.bridge, services.rooms.others
    if others is None:
        hub.on_presence_change = bridge.bus_viewers
        return
    fleet = others.crew.fleet

    def recount(room: str, _own: int = 0) -> None:
        bridge.bus_viewers(room, fleet.viewers(room, hub.viewer_names(room)))

    hub.on_presence_change = recount
    hub.on_came, hub.on_left = others.crew.came, others.crew.left
    hub.elsewhere = fleet.people
    others.on_people = recount
