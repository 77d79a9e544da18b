"""Any bytes at all, and any interleaving of history with live publications."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from websockets.frames import Frame
from websockets.frames import Opcode as TheirOpcode

from interact.bus import Bus
from interact.commands import BadCommand, decode_command
from interact.connection import Connection, Limits, Phase
from interact.effects import Access, Authenticate, CallRpc, Close, Join, Transmit
from interact.engine import HistoryPage, Position, Publication
from interact.frames import FrameError, FrameReader, Message, Opcode
from interact.protocol import Reason, Refused, Role
from interact.recovery import merge
from interact.rooms import Caller

CHANNEL = "room:shop"


# --- any bytes ------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_frame_reader_raises_only_its_own_error(chunks: list[bytes]) -> None:
    reader = FrameReader(max_bytes=500)
    try:
        for chunk in chunks:
            for message in reader.feed(chunk):
                assert len(message.payload) <= 500
    except FrameError as error:
        assert error.code in (1002, 1009)


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 9, 10]), st.binary(max_size=300)), max_size=6),
    st.data(),
)
def test_frame_reader_gives_the_same_however_the_network_slices(
    sent: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    stream = b""
    expected: list[Message] = []
    for opcode, payload in sent:
        if opcode > 2:
            payload = payload[:125]
        elif data.draw(st.booleans()):
            cut = data.draw(st.integers(0, len(payload)))
            stream += Frame(TheirOpcode(opcode), payload[:cut], False).serialize(mask=True)
            stream += Frame(TheirOpcode.CONT, payload[cut:]).serialize(mask=True)
            expected.append(Message(Opcode(opcode), payload))
            continue
        stream += Frame(TheirOpcode(opcode), payload).serialize(mask=True)
        expected.append(Message(Opcode(opcode), payload))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    reader = FrameReader()
    got: list[Message] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += reader.feed(stream[start:end])
    assert got == expected


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_command_decoder_raises_only_its_own_error(line: bytes) -> None:
    with contextlib.suppress(BadCommand):
        decode_command(line)


_word = st.sampled_from(
    ["connect", "subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history",
     "ping", "send", "rpc", "refresh", "sub_refresh", "unknown"]
)  # fmt: skip
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
_body = st.one_of(
    _json,
    st.fixed_dictionaries(
        {},
        optional={
            "channel": st.sampled_from([CHANNEL, "tick:shop", "screen:shop", "x", "user:shop:ann"]),
            "token": st.text(max_size=5),
            "method": st.text(max_size=5),
            "data": _json,
            "limit": st.integers(-3, 2_000),
            "recover": st.booleans(),
            "offset": st.integers(0, 9),
            "since": st.fixed_dictionaries({"offset": st.integers(0, 9), "epoch": st.text()}),
        },
    ),
)
_command = st.tuples(st.integers(0, 9), _word, _body).map(
    lambda parts: json.dumps({"id": parts[0], parts[1]: parts[2]}).encode()
)
_frame = st.lists(
    st.one_of(_command, st.binary(max_size=30), st.just(b"{}")), min_size=1, max_size=4
).map(b"\n".join)


@settings(max_examples=200)
@given(st.booleans(), st.lists(st.tuples(_frame, st.floats(0, 40)), max_size=12))
def test_connection_answers_each_id_once_or_closes(
    is_open: bool, script: list[tuple[bytes, float]]
) -> None:
    """Whatever arrives: no exception, JSON out, silence after Close, calls bounded."""
    core = Connection("c", 0.0, limits=Limits(max_calls=2, command_burst=30, commands_per_s=1))
    now = 0.0
    if is_open:
        core.receive(b'{"id":1,"connect":{"token":"t"}}', now)
        access = Access(Caller("shop", "ann", Role.HOST), 10_000.0)
        (join,) = core.admit(1, access, now, 0.0)
        assert isinstance(join, Join)
        page = HistoryPage(Position("e", 0), (), True)
        joined = {c: merge(since, page, []) for c, since in join.channels}
        core.joined(join, {c: j for c, j in joined.items() if j}, now, 0.0, "n")
    calls = 0
    is_closed = False
    for frame, pause in script:
        now += pause
        for effect in [*core.handle_timer(now), *core.receive(frame, now)]:
            assert not is_closed or not isinstance(effect, Transmit | Close)
            match effect:
                case Transmit():
                    json.loads(effect.message)
                case Close():
                    is_closed = True
                    assert 1000 <= effect.code < 5000
                case CallRpc():
                    calls += 1
                    assert calls <= 2
                case Authenticate() if not effect.is_refresh:
                    core.turn_away(effect.command_id, Refused(Reason.EXPIRED_TOKEN), now)
        assert is_closed is (core.phase is Phase.CLOSED)
        assert core.next_deadline() > now or is_closed or core.handle_timer(now)


# --- recovery ---------------------------------------------------------------------------


@given(
    newest=st.integers(0, 30),
    start=st.integers(0, 30),
    seen=st.integers(0, 30),
    live_end=st.integers(0, 35),
    forgotten=st.integers(0, 30),
    is_recovering=st.booleans(),
    limit=st.integers(1, 40),
)
def test_merged_reader_sees_each_offset_once_or_is_told(
    newest: int,
    start: int,
    seen: int,
    live_end: int,
    forgotten: int,
    is_recovering: bool,
    limit: int,
) -> None:
    """History up to `newest`, live publications `start`+1..`live_end` while it was read."""
    kept = [Publication(CHANNEL, n, b"{}") for n in range(forgotten + 1, newest + 1)]
    since = Position("e", seen) if is_recovering else None
    reachable = since is None or forgotten <= seen <= newest
    after = seen if is_recovering else 0
    found = [p for p in kept if p.offset > after][:limit] if reachable else []
    page = HistoryPage(Position("e", newest), tuple(found), reachable)
    live = [Publication(CHANNEL, n, b"{}") for n in range(start + 1, live_end + 1)]

    joined = merge(since, page, live)

    if joined is None:
        assert start > newest, "only a hole between history and live may fail"
        return
    replied = [p.offset for p in joined.publications]
    followed = [p.offset for p in joined.follow]
    first = joined.offset
    assert replied + followed == list(range(first + 1, joined.top + 1))
    assert joined.top == max(newest, live_end if live else 0)
    if joined.recovered:
        assert first == seen
    else:
        assert first == newest
        assert replied == []
    if is_recovering and reachable and seen >= forgotten and newest - seen <= limit:
        assert joined.recovered


class ReaderMachine(RuleBasedStateMachine):
    """A real Bus over a feed that lags, a history that runs ahead, and a client that comes,
    goes and remembers only what an SDK remembers: the offset and the epoch.

    Model: the list of everything ever published. Whatever the interleaving, the client has
    seen each offset once, in order, from where it first came in.
    """

    @initialize()
    def build(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.published: list[Publication] = []
        self.heard = 0  # how far the feed has told the hub
        self.reads: list[asyncio.Future[None]] = []
        self.client: _Client | None = None
        self.seen: list[int] = []
        self.position: tuple[str, int] | None = None
        self.bus = Bus(self, self, self._admit, lambda: 0)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            for read in self.reads:
                if not read.done():
                    read.set_result(None)
            self.loop.run_until_complete(self.bus.close())
            self.loop.close()

    # What the bus calls.

    def _admit(self, token: str) -> Access:
        return Access(Caller("shop", "ann", Role.VIEWER), 10_000.0)

    async def ensure_room(self, caller: Caller) -> bool:
        return True

    async def rpc(self, caller: Caller, method: str, params: bytes) -> bytes:
        return b"{}"

    async def history(
        self, channel: str, since: Position | None, limit: int, *, reverse: bool = False
    ) -> HistoryPage:
        if channel != CHANNEL:
            return HistoryPage(Position("e", 0), (), since is None)
        gate: asyncio.Future[None] = self.loop.create_future()
        self.reads.append(gate)
        newest = len(self.published)
        after = since.offset if since is not None else 0
        page = tuple(self.published[after:newest][:limit])
        await gate  # the answer travels while more is published
        return HistoryPage(Position("e", newest), page, True)

    # What happens.

    def _turn(self) -> None:
        for _ in range(5):
            self.loop.run_until_complete(asyncio.sleep(0))

    @rule()
    def publish(self) -> None:
        self.published.append(Publication(CHANNEL, len(self.published) + 1, b"{}"))

    @precondition(lambda self: self.heard < len(self.published))
    @rule(many=st.booleans())
    def feed(self, many: bool) -> None:
        upto = len(self.published) if many else self.heard + 1
        while self.heard < upto:
            self.bus.hub.publish(self.published[self.heard])
            self.heard += 1

    @precondition(lambda self: self.client is None)
    @rule()
    def come(self) -> None:
        subs = {}
        if self.position is not None:
            epoch, offset = self.position
            subs = {CHANNEL: {"recover": True, "epoch": epoch, "offset": offset}}
        self.client = _Client(self._got)
        command = {"id": 1, "connect": {"token": "t", "subs": subs}}

        async def enter(client: _Client) -> None:
            client.session = self.bus.open(client)
            client.session.receive([Message(Opcode.TEXT, json.dumps(command).encode())])

        self.loop.run_until_complete(enter(self.client))
        self._turn()

    @precondition(lambda self: any(not read.done() for read in self.reads))
    @rule()
    def history_arrives(self) -> None:
        next(read for read in self.reads if not read.done()).set_result(None)
        self._turn()

    @precondition(lambda self: self.client is not None)
    @rule()
    def go(self) -> None:
        assert self.client is not None
        self.client.is_gone = True
        self.client.session.lost()
        self.client = None

    def _got(self, message: dict[str, Any]) -> None:
        if "connect" in message:
            sub = message["connect"]["subs"][CHANNEL]
            if self.position is not None:
                assert sub["recovered"], "nothing was forgotten"
            self.position = (sub["epoch"], sub["offset"])
            if not self.seen:
                self.seen = [sub["offset"]]
            for publication in sub.get("publications", []):
                self._saw(publication["offset"])
        elif "push" in message:
            self._saw(message["push"]["pub"]["offset"])

    def _saw(self, offset: int) -> None:
        assert self.position is not None
        self.seen.append(offset)
        self.position = (self.position[0], offset)

    @invariant()
    def each_once_in_order(self) -> None:
        if hasattr(self, "seen") and self.seen:
            first = self.seen[0]
            assert self.seen == list(range(first, first + len(self.seen)))

    @precondition(lambda self: self.client is not None)
    @rule()
    def everything_settles(self) -> None:
        for _ in range(10):
            self.feed(many=True)
            for read in self.reads:
                if not read.done():
                    read.set_result(None)
            self._turn()
        assert self.client is not None
        assert not self.client.closed, "nothing was lost, so nobody is closed"
        assert self.seen[-1] == len(self.published)


class _Client:
    """A socket that parses what is written to it."""

    def __init__(self, got: Callable[[dict[str, Any]], None]) -> None:
        self._got = got
        self.session: Any = None
        self.is_gone = False
        self.closed: list[int] = []

    def writer(self) -> Callable[[bytes], None]:
        return self._write

    def _write(self, frame: bytes) -> None:
        assert not self.is_gone
        start = 2 if frame[1] < 126 else 4
        for line in frame[start:].split(b"\n"):
            self._got(msgspec.json.decode(line))

    def unsent_bytes(self) -> int:
        return 0

    def close(self, code: int, reason: str) -> None:
        self.closed.append(code)

    def abort(self) -> None:
        self.is_gone = True


TestReader = ReaderMachine.TestCase
TestReader.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
