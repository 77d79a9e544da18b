"""Notices of cameras and the program, published once however many workers learn of them.

Every worker follows the media workers by itself and keeps its own board. One of them, the
herald, writes each notice to the room's board stream together with its publication. The
stream says what was published last; a worker that becomes herald reads it and publishes the
difference to what it sees. Two heralds, for the moment in which neither knows of the other,
cannot both win an append.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from interact.engine import Conflict, EngineUnavailable, NewRecord, Outgoing, SharedEngine
from interact.protocol import Event, room_channel

log = logging.getLogger(__name__)

RETRY_S: Final = 0.2
_KIND: Final = "notice"
_SUBJECT: Final = {
    Event.CAMERA_LIVE: "camera",
    Event.CAMERA_OFFLINE: "camera",
    Event.PROGRAM_CHANGED: "program",
}


class Notice(msgspec.Struct, frozen=True):
    """An event of the board, ready to publish."""

    channel: str
    event: msgspec.Raw


class _Head(msgspec.Struct):
    type: str
    at: int = 0
    camera: str | None = None


_head = msgspec.json.Decoder(_Head).decode
_notice = msgspec.json.Decoder(Notice).decode


def subject_of(event: bytes) -> str:
    """What the event speaks of; the newest event of a subject is its whole truth."""
    head = _head(event)
    word = _SUBJECT.get(Event(head.type), head.type)
    return word if word == "program" else f"{word} {head.camera}"


def state_of(event: bytes) -> dict[str, object]:
    """What the event says, whenever that was."""
    state = msgspec.json.decode(event, type=dict[str, object])
    state.pop("at", None)
    return state


class _Board:
    """One room: what this worker sees, and what the stream says was published."""

    __slots__ = ("is_loaded", "is_new_here", "is_settling", "published", "seen", "version")

    def __init__(self) -> None:
        self.seen: dict[str, Notice] = {}
        self.published: dict[str, dict[str, object]] = {}
        self.version = 0
        self.is_loaded = False
        self.is_settling = False
        self.is_new_here = True  # another herald may have said what is true no more


class Herald:
    """Publishes notices while `is_active`; else only remembers them."""

    def __init__(self, engine: SharedEngine, now: Callable[[str], int]) -> None:
        self._engine = engine
        self._now = now  # a room's time
        self._boards: dict[str, _Board] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_active = False

    def notice(self, room: str, channel: str, event: bytes) -> None:
        """This worker sees something new."""
        board = self._boards.setdefault(room, _Board())
        subject = subject_of(event)
        board.seen.pop(subject, None)
        board.seen[subject] = Notice(channel, msgspec.Raw(event))
        self._settle_soon(room, board)

    async def become_active(self) -> None:
        """From now on it is this worker that publishes. Raises EngineUnavailable."""
        for stream in await self._engine.streams("board:"):
            self._boards.setdefault(stream.removeprefix("board:"), _Board())
        self.is_active = True
        for room, board in self._boards.items():
            board.is_loaded = False
            board.is_new_here = True
            self._settle_soon(room, board)

    def resign(self) -> None:
        """Another worker publishes now."""
        self.is_active = False

    async def close(self) -> None:
        """Leave what is not published to the next herald."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _settle_soon(self, room: str, board: _Board) -> None:
        if not self.is_active or board.is_settling:
            return
        board.is_settling = True
        task = asyncio.create_task(self._settle(room, board))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, room: str, board: _Board) -> None:
        """Publish until nothing differs any more."""
        try:
            while self.is_active:
                try:
                    if not board.is_loaded:
                        await self._load(room, board)
                    if board.is_new_here:
                        self._withdraw(room, board)
                    notice = self._next(board)
                    if notice is None:
                        return
                    await self._publish(room, board, notice)
                except Conflict:
                    board.is_loaded = False
                except EngineUnavailable as error:
                    log.info("notice waits room=%s error=%s", room, error)
                    board.is_loaded = False
                    await asyncio.sleep(RETRY_S)
        finally:
            board.is_settling = False

    def _next(self, board: _Board) -> Notice | None:
        for subject, notice in board.seen.items():
            if board.published.get(subject) != state_of(notice.event):
                return notice
        return None

    async def _load(self, room: str, board: _Board) -> None:
        records = await self._engine.read(_stream(room))
        board.published = {}
        board.version = records[-1].version if records else 0
        for record in records:
            event = _notice(record.data).event
            board.published[subject_of(event)] = state_of(event)
        board.is_loaded = True

    def _withdraw(self, room: str, board: _Board) -> None:
        """What was published as live, but is not seen here, has ended meanwhile."""
        board.is_new_here = False
        at, channel = self._now(room), room_channel(room)
        for subject, state in board.published.items():
            if subject in board.seen:
                continue
            if state.get("type") == Event.CAMERA_LIVE:
                gone: dict[str, object] = {"type": Event.CAMERA_OFFLINE, "at": at}
                gone["camera"] = state.get("camera")
            elif state.get("type") == Event.PROGRAM_CHANGED and state.get("camera") is not None:
                gone = {"type": Event.PROGRAM_CHANGED, "at": at, "camera": None}
            else:
                continue
            board.seen[subject] = Notice(channel, msgspec.Raw(msgspec.json.encode(gone)))

    async def _publish(self, room: str, board: _Board, notice: Notice) -> None:
        event = bytes(notice.event)
        record = NewRecord(_KIND, _head(event).at, msgspec.json.encode(notice))
        board.version = await self._engine.append(
            _stream(room), board.version, [record], [Outgoing(notice.channel, event)]
        )
        board.published[subject_of(event)] = state_of(event)


def _stream(room: str) -> str:
    return f"board:{room}"
