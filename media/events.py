"""What the media worker tells the world, and the bounded streams it tells it through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, TypeAlias

MediaEvent: TypeAlias = dict[str, Any]
"""`{"type": ..., "room": ..., ...}`; the types are those of the control API."""

PING_INTERVAL_S: Final = 2.0
_QUEUE_LIMIT: Final = 1024
"""Events a listener may be behind before its stream is cut; it then asks for a snapshot."""


class EventStream:
    """One listener's events. Ends when the worker stops or the listener is too slow."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[MediaEvent | None] = asyncio.Queue(_QUEUE_LIMIT)
        self.is_cut = False

    def put(self, event: MediaEvent) -> None:
        if self.is_cut:
            return
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self.end()

    def end(self) -> None:
        """Close the stream after what is being read now; what waits is dropped."""
        self.is_cut = True
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def read(self) -> AsyncIterator[MediaEvent]:
        """Events as they come, with a ping whenever none came for `PING_INTERVAL_S`."""
        while True:
            try:
                async with asyncio.timeout(PING_INTERVAL_S):
                    event = await self._queue.get()
            except TimeoutError:
                event = {"type": "ping"}
            if event is None:
                return
            yield event


class EventBoard:
    """Every listener of one worker. Used on the worker's loop only."""

    def __init__(self) -> None:
        self._streams: set[EventStream] = set()
        self._is_closed = False
        self.published = 0
        self.cut = 0

    def publish(self, event: MediaEvent) -> None:
        self.published += 1
        for stream in tuple(self._streams):
            stream.put(event)
            if stream.is_cut:
                self.cut += 1
                self._streams.discard(stream)

    def listen(self, snapshot: MediaEvent) -> EventStream:
        """Open a stream whose first event is `snapshot`; nothing after it is missed."""
        stream = EventStream()
        if self._is_closed:
            # Whoever came back while the worker stops must not hold it up.
            stream.end()
            return stream
        stream.put(snapshot)
        self._streams.add(stream)
        return stream

    def leave(self, stream: EventStream) -> None:
        self._streams.discard(stream)

    def close(self) -> None:
        """End every stream, and any that is opened from now on."""
        self._is_closed = True
        for stream in self._streams:
            stream.end()
        self._streams.clear()
