"""Rooms: who calls, what a call may do, and where its answer comes from.

`RoomService` is what the bus, the HTTP front and the media bridge see of everything in
this package. It owns the rooms; calls about lots are answered by LotCalls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from interact.engine import Engine, EngineUnavailable, Outgoing, Record, SharedEngine
from interact.lot_calls import BID_BURST, BIDS_PER_S, Handler, LotCalls
from interact.others import Others
from interact.protocol import (
    Channel,
    Reason,
    Refused,
    Role,
    RoomId,
    room_channel,
    stage_channel,
    tick_channel,
)
from interact.requests import CheerTapParams, check_text, parse, reader
from interact.room import Caller, Clock, Room
from interact.room_board import CameraState
from interact.room_log import RoomConfigured, RoomCreated, RoomInfo, RoomLog, room_stream
from interact.ticker import Ticker

__all__ = ["Caller", "Clock", "RoomInfo", "RoomService", "TickListener"]

log = logging.getLogger(__name__)

TickListener = Callable[[str, bytes], None]
"""Called with a `tick:` channel and the JSON object to send to it now."""

FOUNDERS: Final = frozenset({Role.HOST, Role.CAMERA, Role.ADMIN})
"""Whose first valid token makes a room exist (contract §2)."""

SPECTATORS: Final = frozenset({Role.CAMERA, Role.SCREEN})
"""Devices, not people: they do not cheer."""

MAX_ROOMS: Final = 100_000
"""Rooms of one server; a bound against a runaway script with an admin's token."""


class RoomState(msgspec.Struct, frozen=True):
    """`room.state`: everything a page needs to begin."""

    room: str
    title: str
    now: int
    program: str | None
    cameras: list[CameraState]
    lots: list[msgspec.Raw]
    viewers: int
    cheers: dict[str, int]
    teams: dict[str, dict[str, int]]


_encode = msgspec.json.Encoder().encode
_read_tap = reader(CheerTapParams)


class RoomService:
    """Every room of this server. Use from one event loop only.

    `engine` is started and closed by its owner, before `start` and after `close`.
    `clock` gives Unix milliseconds. `on_tick` is called on the loop. `shared` is the engine
    once more where other workers serve the same rooms.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Clock,
        on_tick: TickListener,
        default_open: bool = True,
        bids_per_s: float = BIDS_PER_S,
        bid_burst: int = BID_BURST,
        shared: SharedEngine | None = None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._on_tick = on_tick
        self._default_open = default_open
        self._rooms: dict[str, Room] = {}
        self._lots = LotCalls(
            engine,
            self._rooms,
            clock,
            bids_per_s=bids_per_s,
            bid_burst=bid_burst,
            is_shared=shared is not None,
        )
        self._ticker = Ticker(self._send_tick, self._has_viewers)
        self._notices: set[asyncio.Task[None]] = set()
        self.others: Others | None = None
        if shared is not None:
            self.others = Others(shared, self._room_now, self._hear_totals, self._catch_up)
            shared.follow(
                self._take_in, self.others.crew.hear, self.others.resynced, self.others.data_lost
            )
        self._handlers: dict[str, Handler] = {
            "clock.now": self._clock_now,
            "room.state": self._room_state,
            "cheer.tap": self._cheer_tap,
            **self._lots.handlers,
        }

    async def start(self) -> None:
        """Read what the ledger holds, hammer what fell due, start the timers.

        Raises EngineUnavailable where the ledger cannot be read.
        """
        await self._load_rooms(None)
        await self._lots.start()
        self._ticker.start()
        if self.others is not None:
            self.others.start()

    async def _load_rooms(self, only: str | None) -> None:
        streams = await self._engine.streams("room:" if only is None else room_stream(only))
        for stream in streams:
            name = stream.removeprefix("room:")
            if only is not None and name != only:
                continue
            room = self._room(RoomId(name))
            await room.log.load()
            room.has_seen(room.log.last_at)
            if self.others is not None:
                room.board.cheers.hear(await self.others.totals(name))

    async def _catch_up(self, room: str | None) -> None:
        """Look at one room, or all of them, again."""
        await self._load_rooms(room)
        await self._lots.catch_up(room)

    def _take_in(self, records: Sequence[Record]) -> None:
        """Records of some stream that any worker has just stored."""
        word, name = records[0].stream.split(":", 2)[:2]
        if word == "room":
            room = self._room(RoomId(name))
            room.log.hear(records)
            room.has_seen(room.log.last_at)
        elif word == "lot":
            self._lots.hear(self._room(RoomId(name)), records)

    def _hear_totals(self, name: str, totals: Mapping[str, int]) -> None:
        """What all workers counted together."""
        self._room(RoomId(name)).board.cheers.hear(totals)
        self._ticker.changed(name)

    def _room_now(self, name: str) -> int:
        return self._room(RoomId(name)).now()

    async def close(self) -> None:
        """Stop the timers; what was accepted is finished first."""
        self._ticker.stop()
        if self.others is not None:
            await self.others.close()
        await self._lots.close()
        while self._notices:
            await asyncio.wait(self._notices)

    def stats(self) -> dict[str, int]:
        """Counters for `/metrics`."""
        dropped = sum(room.board.cheers.dropped for room in self._rooms.values())
        return {"rooms": len(self._rooms), "cheers_dropped": dropped, **self._lots.stats()}

    # -- rooms ------------------------------------------------------------------------

    def room_info(self, room: str) -> RoomInfo | None:
        """The room, or None where it does not exist."""
        known = self._rooms.get(room)
        return None if known is None else known.log.info

    def room_infos(self) -> list[RoomInfo]:
        """Every room that exists, oldest first."""
        infos = [room.log.info for room in self._rooms.values()]
        return sorted((info for info in infos if info is not None), key=lambda i: i.created_at)

    async def ensure_room(self, caller: Caller) -> bool:
        """Whether the caller's room exists; a host's, camera's or admin's call makes it.

        Refused with BUSY where the ledger cannot be written.
        """
        if self.room_info(caller.room) is not None:
            return True
        if caller.role not in FOUNDERS:
            return False
        await self._found(caller, "", self._default_open)
        return True

    async def create_room(
        self, caller: Caller, *, title: str | None = None, is_open: bool | None = None
    ) -> RoomInfo:
        """Make the caller's room with options, or change its options. Hosts and admins.

        `None` leaves an option as it is. Refused with NOT_ALLOWED, BAD_REQUEST, BUSY.
        """
        if caller.role not in (Role.HOST, Role.ADMIN):
            raise Refused(Reason.NOT_ALLOWED, "only hosts and admins make rooms")
        title = None if title is None else check_text("title", title)
        if title is not None and len(title) > 200:
            raise Refused(Reason.BAD_REQUEST, "title must have at most 200 characters")
        info = self.room_info(caller.room)
        if info is None:
            is_open_now = self._default_open if is_open is None else is_open
            return await self._found(caller, title or "", is_open_now)
        title = info.title if title is None else title
        is_open = info.is_open if is_open is None else is_open
        if (title, is_open) == (info.title, info.is_open):
            return info
        room = self._rooms[caller.room]
        await room.log.append(RoomConfigured(room.now(), caller.identity, title, is_open))
        return room.log.info or info

    async def _found(self, caller: Caller, title: str, is_open: bool) -> RoomInfo:
        if len(self._rooms) >= MAX_ROOMS:
            raise Refused(Reason.BUSY, "this server holds no more rooms")
        room = self._room(RoomId(caller.room))
        await room.log.create(RoomCreated(room.now(), caller.identity, title, is_open))
        info = room.log.info
        if info is None:
            raise Refused(Reason.BUSY, "the ledger is busy, try again")
        return info

    def _room(self, name: RoomId) -> Room:
        room = self._rooms.get(name)
        if room is None:
            room = self._rooms[name] = Room(name, RoomLog(self._engine, name), self._clock)
        return room

    # -- calls ------------------------------------------------------------------------

    async def rpc(self, caller: Caller, method: str, params: bytes) -> bytes:
        """Answer one call with a JSON object.

        `params` is JSON, empty for none. Raises Refused for anything turned down;
        an unknown method is Refused with UNKNOWN_METHOD.
        """
        handler = self._handlers.get(method)
        if handler is None:
            raise Refused(Reason.UNKNOWN_METHOD, f"there is no method {method[:64]!r}")
        if caller.role in FOUNDERS:
            await self.ensure_room(caller)
        return await handler(caller, params)

    async def _clock_now(self, caller: Caller, params: bytes) -> bytes:
        room = self._rooms.get(caller.room)
        return _encode({"now": self._clock() if room is None else room.now()})

    async def _room_state(self, caller: Caller, params: bytes) -> bytes:
        room = self._rooms.get(caller.room)
        if room is None:  # like any quiet room: never a hint of what exists
            empty = RoomState(caller.room, "", self._clock(), None, [], [], 0, {}, {})
            return _encode(empty)
        self._ticker.wake(room.name)
        lots = await self._lots.newest(room, caller.identity)
        board = room.board
        return _encode(
            RoomState(
                room=room.name,
                title=room.log.info.title if room.log.info is not None else "",
                now=room.now(),
                program=board.program,
                cameras=list(board.cameras.values()),
                lots=lots,
                viewers=board.viewers,
                cheers=board.cheers.by_kind,
                teams=board.cheers.by_team,
            )
        )

    async def _cheer_tap(self, caller: Caller, params: bytes) -> bytes:
        if caller.role in SPECTATORS:
            raise Refused(Reason.NOT_ALLOWED, f"a {caller.role} token cannot cheer")
        tap = parse(_read_tap, params)
        room = self._rooms.get(caller.room)
        if room is None:
            return _encode({"counted": 0})
        counted = room.board.cheers.tap(room.now(), caller.identity, tap.kind, tap.count, tap.team)
        if counted:
            self._ticker.changed(room.name)
            if self.others is not None:
                self.others.count(room.name, tap.kind, tap.team, counted)
        return _encode({"counted": counted})

    # -- notices from the media side ----------------------------------------------------

    def camera_live(self, room: str, camera: str, video: str | None, audio: bool) -> None:
        """A camera sends: `video` is its codec's name. Published if it is news."""
        known = self._room(RoomId(room))
        self._publish(known, known.board.camera_live(known.now(), camera, video, audio))

    def camera_offline(self, room: str, camera: str) -> None:
        """A camera stopped sending. Published if it is news."""
        known = self._room(RoomId(room))
        self._publish(known, known.board.camera_offline(known.now(), camera))

    def program_changed(self, room: str, camera: str | None) -> None:
        """Another camera is on air, or none. Published if it is news."""
        known = self._room(RoomId(room))
        self._publish(known, known.board.program_changed(known.now(), camera))

    def camera_layers(self, room: str, camera: str, wanted: list[str]) -> None:
        """Which simulcast layers of a camera anybody watches. For whoever publishes it."""
        known = self._room(RoomId(room))
        event = known.board.camera_layers(known.now(), camera, wanted)
        self._publish(known, event, stage_channel(known.name))

    def viewers(self, room: str, count: int) -> None:
        """How many watch now; goes out with the next tick."""
        known = self._room(RoomId(room))
        if known.board.viewers != count:
            known.board.viewers = count
            self._ticker.changed(known.name)

    def cameras(self, room: str) -> list[CameraState]:
        """The room's cameras as last told, for whoever must tell the difference."""
        known = self._rooms.get(room)
        return [] if known is None else list(known.board.cameras.values())

    def _publish(self, room: Room, event: bytes | None, channel: Channel | None = None) -> None:
        if event is None:
            return
        self._ticker.wake(room.name)
        if self.others is not None:
            self.others.herald.notice(room.name, channel or room_channel(room.name), event)
            return
        # Called now, so that notices keep their order; the task only hears how it went.
        publishing = self._engine.publish([Outgoing(channel or room_channel(room.name), event)])
        task = asyncio.ensure_future(self._hear(publishing, room.name))
        self._notices.add(task)
        task.add_done_callback(self._notices.discard)

    async def _hear(self, publishing: Awaitable[None], room: str) -> None:
        try:
            await publishing
        except EngineUnavailable as error:
            log.error("notice not published room=%s error=%s", room, error)

    def _send_tick(self, room: str) -> None:
        known = self._rooms[room]
        self._on_tick(tick_channel(room), known.board.tick(known.now()))

    def _has_viewers(self, room: str) -> bool:
        return self._rooms[room].board.viewers > 0
