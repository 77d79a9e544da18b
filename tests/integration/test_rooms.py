"""RoomService over the real engine: calls, keys, limits, deadlines, failures, ticks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from interact import lot_desk, ticker
from interact.engine import NewRecord, Publication
from interact.engine_embedded import EmbeddedEngine
from interact.protocol import Reason, Refused, Role
from interact.rooms import Caller, RoomService
from interact.verify import verify

HOST = Caller("r", "host", Role.HOST, "Host")
ANN = Caller("r", "ann", Role.VIEWER, "Ann")
BEN = Caller("r", "ben", Role.VIEWER, "Ben")
WAIT_S = 10.0


class House:
    """A server's rooms with a clock that the test moves."""

    def __init__(self, directory: Path) -> None:
        self.now = 1_700_000_000_000
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.ticks: list[tuple[str, dict[str, Any]]] = []
        self.changed = asyncio.Event()
        self.engine = EmbeddedEngine(directory)
        self.rooms = RoomService(self.engine, clock=lambda: self.now, on_tick=self.tick)

    def hear(self, publication: Publication) -> None:
        self.heard.append((publication.channel, json.loads(publication.data)))
        self.changed.set()

    def tick(self, channel: str, data: bytes) -> None:
        self.ticks.append((channel, json.loads(data)))
        self.changed.set()

    async def call(self, caller: Caller, method: str, **params: Any) -> dict[str, Any]:
        reply: dict[str, Any] = json.loads(
            await self.rooms.rpc(caller, method, json.dumps(params).encode())
        )
        return reply

    async def refused(self, caller: Caller, method: str, **params: Any) -> Refused:
        with pytest.raises(Refused) as caught:
            await self.call(caller, method, **params)
        return caught.value

    async def lot(self, *, start: bool = True, **changes: Any) -> str:
        wish = {
            "title": "Teapot",
            "format": "english",
            "currency": "TWD",
            "start_price": 1_000,
            "increment": 100,
            "duration_ms": 60_000,
        }
        lot: str = (await self.call(HOST, "lot.create", **{**wish, **changes}))["lot"]
        if start:
            await self.call(HOST, "lot.start", lot=lot)
        return lot

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not happened():
                self.changed.clear()
                await self.changed.wait()

    def types(self, channel: str) -> list[str]:
        return [message["type"] for heard, message in self.heard if heard == channel]


@asynccontextmanager
async def opened(directory: Path, now: int | None = None) -> AsyncIterator[House]:
    house = House(directory)
    house.now = house.now if now is None else now
    await house.engine.start(house.hear)
    await house.rooms.start()
    try:
        yield house
    finally:
        await house.rooms.close()
        await house.engine.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


# -- a lot from beginning to end ---------------------------------------------------------------


async def test_lot_is_told_to_room_and_bidders(house: House) -> None:
    lot = await house.lot()
    assert await house.call(ANN, "bid.max", lot=lot, max=3_000, key="1") == {
        "seq": 1,
        "price": 1_000,
        "leader": "ann",
        "ends_at": house.now + 60_000,
    }
    await house.call(BEN, "bid.place", lot=lot, amount=5_000, key="1")
    house.now += 60_000
    await house.until(lambda: "lot.sold" in house.types("room:r"))
    assert house.types("room:r") == [
        "lot.created",
        "lot.opened",
        "bid.accepted",
        "bid.accepted",
        "lot.sold",
    ]
    assert house.types("user:r:ann") == ["bid.receipt", "bid.outbid"]
    assert house.types("user:r:ben") == ["bid.receipt", "lot.won"]
    sold = house.heard[-2][1]
    assert (sold["price"], sold["winner"], sold["at"]) == (5_000, "ben", house.now)


async def test_hidden_maximum_reaches_nobody_else(house: House) -> None:
    lot = await house.lot(reserve=2_222)
    await house.call(ANN, "bid.max", lot=lot, max=7_777, key="1")
    await house.call(BEN, "bid.place", lot=lot, amount=3_000, key="1")
    assert (await house.call(ANN, "lot.state", lot=lot))["my_max"] == 7_777
    seen = [message for channel, message in house.heard if channel != "user:r:ann"]
    for caller in (BEN, HOST, Caller("r", "screen", Role.SCREEN)):
        seen.append(await house.call(caller, "lot.state", lot=lot))
        seen.append(await house.call(caller, "room.state"))
    assert "7777" not in json.dumps(seen)
    assert '"reserve": 2222' not in json.dumps(seen)


async def test_silent_raise_tells_only_the_bidder(house: House) -> None:
    lot = await house.lot()
    first = await house.call(ANN, "bid.max", lot=lot, max=3_000, key="1")
    before = house.types("room:r")
    assert await house.call(ANN, "bid.max", lot=lot, max=9_000, key="2") == first
    assert house.types("room:r") == before
    assert house.heard[-1] == (
        "user:r:ann",
        {
            "type": "bid.receipt",
            "at": house.now,
            "lot": lot,
            "seq": 1,
            "kind": "max",
            "amount": 9_000,
            "price": 1_000,
            "leader": "ann",
        },
    )


async def test_buy_now_sells_at_once(house: House) -> None:
    lot = await house.lot(buy_now=5_000)
    reply = await house.call(ANN, "bid.place", lot=lot, amount=9_000, key="1")
    assert (reply["price"], reply["ends_at"]) == (5_000, house.now)
    assert house.types("room:r")[-2:] == ["bid.accepted", "lot.sold"]
    assert (await house.call(BEN, "lot.state", lot=lot))["state"] == "sold"


async def test_cancel_needs_a_reason_and_an_open_lot(house: House) -> None:
    lot = await house.lot()
    for reason in ("", "   ", "a\nb"):
        refused = await house.refused(HOST, "lot.cancel", lot=lot, reason=reason)
        assert refused.reason is Reason.BAD_REQUEST
    assert (await house.refused(HOST, "lot.cancel", lot=lot)).reason is Reason.BAD_REQUEST
    assert await house.call(HOST, "lot.cancel", lot=lot, reason=" broken ") == {"lot": lot}
    assert house.heard[-1][1]["reason"] == "broken"
    refused = await house.refused(HOST, "lot.cancel", lot=lot, reason="again")
    assert refused.reason is Reason.BAD_STATE
    assert (await house.refused(HOST, "lot.start", lot=lot)).reason is Reason.BAD_STATE


async def test_soft_close_moves_the_hammer(house: House) -> None:
    soft = {"window_ms": 10_000, "extend_ms": 10_000, "mode": "reset"}
    lot = await house.lot(soft_close=soft)
    house.now += 55_000
    reply = await house.call(ANN, "bid.place", lot=lot, amount=1_000, key="1")
    assert reply["ends_at"] == house.now + 10_000
    assert house.types("room:r")[-1] == "lot.extended"
    house.now += 9_999
    await house.call(BEN, "bid.place", lot=lot, amount=1_100, key="1")
    house.now += 10_000
    await house.until(lambda: "lot.sold" in house.types("room:r"))


# -- who may -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [r for r in Role if r not in (Role.HOST, Role.ADMIN)])
async def test_lots_are_run_by_hosts_and_admins_only(house: House, role: Role) -> None:
    lot = await house.lot()
    caller = Caller("r", "someone", role)
    for method, params in (
        ("lot.create", {}),
        ("lot.start", {"lot": lot}),
        ("lot.cancel", {"lot": lot, "reason": "x"}),
    ):
        assert (await house.refused(caller, method, **params)).reason is Reason.NOT_ALLOWED


@pytest.mark.parametrize("role", [Role.CAMERA, Role.SCREEN])
async def test_devices_neither_bid_nor_cheer(house: House, role: Role) -> None:
    lot = await house.lot()
    caller = Caller("r", "device", role)
    for method, params in (
        ("bid.place", {"lot": lot, "amount": 1_000, "key": "1"}),
        ("bid.max", {"lot": lot, "max": 1_000, "key": "1"}),
        ("cheer.tap", {"kind": "heart", "count": 1}),
    ):
        assert (await house.refused(caller, method, **params)).reason is Reason.NOT_ALLOWED
    assert (await house.call(caller, "lot.state", lot=lot))["lot"] == lot
    assert await house.call(caller, "clock.now") == {"now": house.now}


async def test_host_bids_on_a_lot_of_another_host_only(house: House) -> None:
    lot = await house.lot()
    params = {"lot": lot, "amount": 1_000, "key": "1"}
    assert (await house.refused(HOST, "bid.place", **params)).reason is Reason.OWN_LOT
    other = Caller("r", "host2", Role.HOST)
    assert (await house.call(other, "bid.place", **params))["leader"] == "host2"


async def test_lot_of_another_room_does_not_exist(house: House) -> None:
    lot = await house.lot()
    for room in ("elsewhere", "nowhere"):
        outsider = Caller(room, "ann", Role.VIEWER)
        assert (await house.refused(outsider, "lot.state", lot=lot)).reason is Reason.NO_LOT
        bid = await house.refused(outsider, "bid.place", lot=lot, amount=1_000, key="1")
        assert bid.reason is Reason.NOT_OPEN
        await house.call(Caller("elsewhere", "h", Role.HOST), "clock.now")
    unknown = await house.refused(HOST, "lot.start", lot="unknown")
    assert unknown.reason is Reason.NO_LOT


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "params", "word"),
    [
        ("bid.place", b"", "missing required field lot"),
        ("bid.place", b"[]", "expected"),
        ("bid.place", b"{", "not valid JSON"),
        ("bid.place", b'{"lot":"\xff"}', "not valid JSON"),
        ("bid.place", b'{"lot":"l","amount":1.0,"key":"k"}', "amount"),
        ("bid.place", b'{"lot":"l","amount":true,"key":"k"}', "amount"),
        ("bid.place", b'{"lot":"l","amount":"1","key":"k"}', "amount"),
        ("bid.place", b'{"lot":"l","amount":9007199254740992,"key":"k"}', "amount"),
        ("bid.max", b'{"lot":"l","max":-9007199254740992,"key":"k"}', "max"),
        ("cheer.tap", b'{"kind":"","count":1}', "kind"),
        ("cheer.tap", b'{"kind":"a b","count":1}', "kind"),
        ("cheer.tap", b'{"kind":"a","count":0}', "count"),
        ("lot.state", b'{"lot":7}', "lot"),
        ("lot.state", b" " * 20_000, "bytes"),
        ("lot.state", b"[" * 10_000, ""),
    ],
)
async def test_bad_parameters_are_named(
    house: House, method: str, params: bytes, word: str
) -> None:
    with pytest.raises(Refused) as caught:
        await house.rooms.rpc(ANN, method, params)
    assert caught.value.reason is Reason.BAD_REQUEST
    assert word.lower() in str(caught.value).lower()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"title": ""}, "title"),
        ({"title": "   "}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"title": "two\nlines"}, "title"),
        ({"format": "dutch"}, "format"),
        ({"currency": "twd"}, "currency"),
        ({"currency": "TWDX"}, "currency"),
        ({"start_price": 0}, "start_price"),
        ({"start_price": True}, "start_price"),
        ({"start_price": 2**53}, "start_price"),
        ({"increment": 0}, "increment"),
        ({"increment": []}, "increment"),
        ({"increment": [[0, 0]]}, "increment"),
        ({"increment": [[0, 5], [0, 6]]}, "increment"),
        ({"increment": [[2_000, 5]]}, "increment"),
        ({"duration_ms": 99}, "duration_ms"),
        ({"duration_ms": 7 * 86_400_000 + 1}, "duration_ms"),
        ({"reserve": 999}, "reserve"),
        ({"buy_now": 1_000}, "buy_now"),
        ({"buy_now": 2_000, "reserve": 3_000}, "buy_now"),
        ({"soft_close": {"window_ms": 0, "extend_ms": 1, "mode": "add"}}, "window_ms"),
        ({"soft_close": {"window_ms": 1, "extend_ms": 1, "mode": "never"}}, "mode"),
        ({"reserv": 5_000}, "reserv"),
    ],
)
async def test_impossible_lot_is_refused_with_the_field(
    house: House, changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(Refused) as caught:
        await house.lot(**changes)
    assert caught.value.reason is Reason.BAD_REQUEST
    assert word in str(caught.value)
    assert house.heard == []


@pytest.mark.parametrize("amount", [0, -1, -(2**53) + 1])
async def test_nothing_and_less_are_too_low(house: House, amount: int) -> None:
    lot = await house.lot()
    refused = await house.refused(ANN, "bid.place", lot=lot, amount=amount, key="k")
    assert (refused.reason, refused.detail) == (Reason.TOO_LOW, {"minimum": 1_000})


@pytest.mark.parametrize("key", ["", "k" * 129, None, 7, ["k"]])
async def test_key_must_have_1_to_128_characters(house: House, key: object) -> None:
    lot = await house.lot()
    refused = await house.refused(ANN, "bid.place", lot=lot, amount=1_000, key=key)
    assert refused.reason is Reason.BAD_KEY


async def test_unknown_method_is_named(house: House) -> None:
    assert (await house.refused(ANN, "lot.sell")).reason is Reason.UNKNOWN_METHOD


# -- keys and limits ---------------------------------------------------------------------------


async def test_repeated_bid_is_answered_alike_even_after_the_hammer(house: House) -> None:
    lot = await house.lot()
    bid = {"lot": lot, "amount": 1_000, "key": "k"}
    first, again = await asyncio.gather(
        house.call(ANN, "bid.place", **bid), house.call(ANN, "bid.place", **bid)
    )
    assert first == again
    await house.call(BEN, "bid.place", lot=lot, amount=2_000, key="k")
    house.now += 60_000
    await house.until(lambda: "lot.sold" in house.types("room:r"))
    assert await house.call(ANN, "bid.place", **bid) == first
    other = await house.refused(ANN, "bid.max", lot=lot, max=1_000, key="k")
    assert other.reason is Reason.BAD_KEY
    assert house.types("room:r").count("bid.accepted") == 2


async def test_repeated_refusal_is_the_same_refusal(house: House) -> None:
    lot = await house.lot()
    await house.call(ANN, "bid.place", lot=lot, amount=1_000, key="a")
    low = {"lot": lot, "amount": 1_050, "key": "k"}
    first = await house.refused(BEN, "bid.place", **low)
    assert (first.reason, first.detail) == (Reason.TOO_LOW, {"minimum": 1_100})
    await house.call(Caller("r", "cat", Role.VIEWER), "bid.place", lot=lot, amount=2_000, key="c")
    again = await house.refused(BEN, "bid.place", **low)
    assert (again.reason, again.detail, str(again)) == (first.reason, first.detail, str(first))
    changed = await house.refused(BEN, "bid.place", lot=lot, amount=3_000, key="k")
    assert changed.reason is Reason.BAD_KEY


async def test_forty_bids_in_a_burst_then_twenty_a_second(house: House) -> None:
    lot = await house.lot()
    outcomes = []
    for number in range(41):
        bid = {"lot": lot, "max": 2_000 + number, "key": f"k{number}"}
        try:
            await house.call(ANN, "bid.max", **bid)
            outcomes.append("taken")
        except Refused as refused:
            outcomes.append(refused.reason)
            assert refused.detail["retry_after_ms"] == 50
    assert outcomes == ["taken"] * 40 + [Reason.RATE_LIMITED]
    # The key comes before the limit, for old keys; and a limited bid may be tried again.
    await house.call(ANN, "bid.max", lot=lot, max=2_000, key="k0")
    await house.call(BEN, "bid.place", lot=lot, amount=5_000, key="k")
    house.now += 50
    await house.call(ANN, "bid.max", lot=lot, max=9_000, key="k40")
    late = await house.refused(ANN, "bid.max", lot=lot, max=9_100, key="k41")
    assert late.reason is Reason.RATE_LIMITED


# -- storage that fails ------------------------------------------------------------------------


async def test_lost_race_is_decided_again(house: House) -> None:
    lot = await house.lot()
    await house.call(ANN, "bid.place", lot=lot, amount=1_000, key="1")
    # Somebody else writes the lot's stream first: what the bids are decided on is gone.
    stream = f"lot:r:{lot}"
    records = await house.engine.read(stream)
    stray = NewRecord(records[-1].kind, records[-1].at_ms, records[-1].data)
    outcomes = await asyncio.gather(
        house.engine.append(stream, len(records), [stray]),
        house.call(BEN, "bid.place", lot=lot, amount=1_100, key="1"),
        house.call(ANN, "bid.place", lot=lot, amount=1_200, key="2"),
        # A refusal that was decided on lost bids is decided again too.
        house.refused(BEN, "bid.place", lot=lot, amount=1, key="3"),
        house.call(BEN, "lot.state", lot=lot),
    )
    assert [o["price"] for o in outcomes[1:3]] == [1_100, 1_200]
    assert outcomes[3].reason is Reason.TOO_LOW
    assert outcomes[4]["price"] in (1_000, 1_100, 1_200)
    assert len(await house.engine.read(stream)) == len(records) + 3
    assert house.rooms.stats()["lots_lost"] == 1


async def test_full_disk_is_busy_and_heals(house: House, tmp_path: Path) -> None:
    lot = await house.lot()
    await house.call(ANN, "bid.place", lot=lot, amount=1_000, key="1")
    heard = len(house.heard)
    writer = house.engine._writer
    assert writer is not None
    writer._db.execute("PRAGMA query_only=ON")  # as a disk that takes no more
    outcomes = await asyncio.gather(
        *(
            house.call(caller, "bid.place", lot=lot, amount=1_100 + 100 * number, key=f"f{number}")
            for number, caller in enumerate([BEN, ANN, BEN, ANN])
        ),
        return_exceptions=True,
    )
    assert [o.reason for o in outcomes if isinstance(o, Refused)] == [Reason.BUSY] * 4
    assert len(house.heard) == heard
    state = await house.call(ANN, "lot.state", lot=lot)
    assert (state["seq"], state["price"], state["leader"]) == (1, 1_000, "ann")
    writer._db.execute("PRAGMA query_only=OFF")
    reply = await house.call(BEN, "bid.place", lot=lot, amount=1_100, key="f0")
    assert (reply["seq"], reply["leader"]) == (2, "ben")
    house.now += 60_000
    await house.until(lambda: "lot.sold" in house.types("room:r"))
    assert [r.line() for r in await asyncio.to_thread(verify, tmp_path) if not r.is_ok] == []


# -- restart -----------------------------------------------------------------------------------


async def test_restart_takes_up_open_lots_and_hammers_overdue_ones(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        long = await house.lot(duration_ms=600_000)
        short = await house.lot()
        listed = await house.lot(start=False)
        await house.call(ANN, "bid.max", lot=long, max=5_000, key="1")
        await house.call(BEN, "bid.place", lot=short, amount=1_500, key="1")
        before = await house.call(ANN, "lot.state", lot=long)
        now = house.now
    async with opened(tmp_path, now + 120_000) as house:
        assert house.types("room:r") == ["lot.sold"]
        assert (await house.call(ANN, "lot.state", lot=short))["winner"] == "ben"
        assert await house.call(ANN, "lot.state", lot=long) == before
        await house.call(HOST, "lot.start", lot=listed)
        house.now = before["ends_at"]
        await house.until(lambda: house.types("room:r").count("lot.sold") == 2)
    async with opened(tmp_path, before["ends_at"] + 1) as house:
        assert house.heard == []
        lots = (await house.call(ANN, "room.state"))["lots"]
        assert [lot["lot"] for lot in lots] == [listed, short, long]
        assert [lot["state"] for lot in lots] == ["unsold", "sold", "sold"]


async def test_room_time_never_runs_backwards(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.lot()
        now = house.now
        house.now -= 5_000
        assert await house.call(ANN, "clock.now") == {"now": now}
    async with opened(tmp_path, now - 10_000) as house:
        assert await house.call(ANN, "clock.now") == {"now": now}
        lot = await house.lot()
        assert (await house.call(ANN, "lot.state", lot=lot))["ends_at"] == now + 60_000


async def test_ended_lots_leave_memory_and_are_read_on_demand(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lot_desk, "MAX_IDLE", 3)
    lots = [await house.lot(buy_now=2_000) for _ in range(8)]
    for number, lot in enumerate(lots):
        bid = {"lot": lot, "amount": 2_000 + number, "key": "k"}
        await house.call(ANN, "bid.place", **bid)
    stats = house.rooms.stats()
    assert (stats["lots_active"], stats["lots_idle"]) == (0, 3)
    for number, lot in enumerate(lots):
        assert (await house.call(BEN, "lot.state", lot=lot))["winner"] == "ann"
        again = await house.call(ANN, "bid.place", lot=lot, amount=2_000 + number, key="k")
        assert again["price"] == 2_000
    assert house.rooms.stats()["lots_idle"] == 3
    assert len((await house.call(BEN, "room.state"))["lots"]) == 8


# -- rooms, cheers, media ----------------------------------------------------------------------


async def test_room_exists_from_a_founders_first_call(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        assert not await house.rooms.ensure_room(ANN)
        assert house.rooms.room_info("r") is None
        assert (await house.call(ANN, "room.state"))["lots"] == []
        assert await house.rooms.ensure_room(Caller("r", "cam", Role.CAMERA))
        assert await house.rooms.ensure_room(ANN)
        info = await house.rooms.create_room(HOST, title=" Tea night ", is_open=False)
        assert (info.title, info.is_open, info.created_at) == ("Tea night", False, house.now)
        with pytest.raises(Refused):
            await house.rooms.create_room(ANN)
    async with opened(tmp_path) as house:
        assert house.rooms.room_info("r") == info
        assert (await house.call(ANN, "room.state"))["title"] == "Tea night"


async def test_cheers_are_capped_counted_and_ticked(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticker, "MIN_INTERVAL_S", 0.01)
    await house.rooms.ensure_room(HOST)
    assert await house.call(ANN, "cheer.tap", kind="heart", count=20, team="red") == {"counted": 20}
    assert await house.call(ANN, "cheer.tap", kind="heart", count=20) == {"counted": 10}
    assert await house.call(BEN, "cheer.tap", kind="star", count=1) == {"counted": 1}
    await house.until(lambda: bool(house.ticks) and "star" in house.ticks[-1][1]["cheers"])
    channel, tick = house.ticks[-1]
    assert channel == "tick:r"
    assert tick == {
        "type": "tick",
        "at": house.now,
        "viewers": 0,
        "cheers": {"heart": 30, "star": 1},
        "teams": {"red": {"heart": 20}},
    }
    house.now += 1_000
    assert await house.call(ANN, "cheer.tap", kind="heart", count=100) == {"counted": 30}
    assert house.rooms.stats()["cheers_dropped"] == 80


async def test_wanted_layers_are_news_for_the_stage_alone(house: House) -> None:
    await house.rooms.ensure_room(HOST)
    house.rooms.camera_live("r", "left", "VP8", True)
    for _ in range(2):
        house.rooms.camera_layers("r", "left", ["q", "h"])
    house.rooms.camera_layers("r", "left", ["q"])
    await house.until(lambda: len(house.heard) == 3)
    assert [(channel, event.get("wanted")) for channel, event in house.heard] == [
        ("room:r", None),
        ("stage:r", ["q", "h"]),
        ("stage:r", ["q"]),
    ]


async def test_media_notices_are_published_once_and_kept_in_the_state(house: House) -> None:
    await house.rooms.ensure_room(HOST)
    for _ in range(2):
        house.rooms.camera_live("r", "left", "VP8", True)
        house.rooms.program_changed("r", "left")
        house.rooms.viewers("r", 7)
    await house.until(lambda: len(house.heard) == 2 and bool(house.ticks))
    house.rooms.camera_offline("r", "left")
    house.rooms.camera_offline("r", "never seen")
    await house.until(lambda: len(house.heard) == 3)
    live, program, offline = [message for _, message in house.heard]
    assert live == {
        "type": "camera.live",
        "at": house.now,
        "camera": "left",
        "video": {"codec": "VP8"},
        "audio": True,
    }
    assert (program["type"], program["camera"]) == ("program.changed", "left")
    assert (offline["type"], offline["camera"]) == ("camera.offline", "left")
    state = await house.call(ANN, "room.state")
    assert (state["program"], state["viewers"]) == ("left", 7)
    assert state["cameras"] == [{"camera": "left", "live": False, "video": None, "audio": False}]
    assert house.ticks[-1][1]["viewers"] == 7


async def test_damaged_lot_harms_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(tmp_path) as house:
        good, bad = await house.lot(), await house.lot()
        records = await house.engine.read(f"lot:r:{bad}")
        stray = NewRecord("bid", house.now, b'{"type":"bid","at":1}')
        await house.engine.append(f"lot:r:{bad}", len(records), [stray])
        now = house.now
    async with opened(tmp_path, now) as house:
        assert f"lot unreadable stream=lot:r:{bad}" in caplog.text
        assert [lot["lot"] for lot in (await house.call(ANN, "room.state"))["lots"]] == [good]
        refused = await house.refused(ANN, "bid.place", lot=bad, amount=1_000, key="1")
        assert refused.reason is Reason.UNAVAILABLE
        assert (await house.call(ANN, "bid.place", lot=good, amount=1_000, key="1"))["seq"] == 1


async def test_nothing_is_answered_or_shown_before_it_is_on_disk(house: House) -> None:
    lot = await house.lot()
    heard = len(house.heard)
    writer = house.engine._writer
    assert writer is not None
    with writer.commit_lock:  # the disk takes its time
        waiting: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(house.call(ANN, "bid.place", lot=lot, amount=1_000, key="1")),
            asyncio.ensure_future(house.call(ANN, "bid.place", lot=lot, amount=1_000, key="1")),
            asyncio.ensure_future(house.call(BEN, "bid.max", lot=lot, max=2_000, key="1")),
            asyncio.ensure_future(house.refused(ANN, "bid.place", lot=lot, amount=5, key="2")),
            asyncio.ensure_future(house.call(BEN, "lot.state", lot=lot)),
            asyncio.ensure_future(house.call(BEN, "room.state")),
        ]
        for _ in range(100):
            await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        assert len(house.heard) == heard
    first, again, second, refused, lot_state, room_state = await asyncio.gather(*waiting)
    assert first == again
    assert (first["seq"], second["seq"]) == (1, 2)
    assert isinstance(refused, Refused)
    assert refused.detail == {"minimum": 1_200}
    assert lot_state["seq"] == room_state["lots"][0]["seq"] == 2


async def test_caller_who_leaves_takes_nobody_along(house: House) -> None:
    lot = await house.lot()
    bid = {"lot": lot, "amount": 1_000, "key": "1"}
    writer = house.engine._writer
    assert writer is not None
    with writer.commit_lock:
        leaver = asyncio.ensure_future(house.call(ANN, "bid.place", **bid))
        again = asyncio.ensure_future(house.call(ANN, "bid.place", **bid))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        leaver.cancel()
    assert (await again)["seq"] == 1
    assert leaver.cancelled()
    assert (await house.call(BEN, "bid.place", lot=lot, amount=1_100, key="1"))["seq"] == 2


async def test_too_much_under_way_is_busy_and_the_key_may_be_sent_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lot_desk, "MAX_IN_FLIGHT", 3)
    lot = await house.lot()
    callers = [Caller("r", f"p{number}", Role.VIEWER) for number in range(6)]
    bids = [
        {"lot": lot, "amount": 1_000 + 100 * number, "key": "k"} for number in range(len(callers))
    ]
    outcomes = await asyncio.gather(
        *(house.call(who, "bid.place", **bid) for who, bid in zip(callers, bids, strict=True)),
        return_exceptions=True,
    )
    assert [o["seq"] for o in outcomes[:3] if isinstance(o, dict)] == [1, 2, 3]
    assert [o.reason for o in outcomes[3:] if isinstance(o, Refused)] == [Reason.BUSY] * 3
    assert (await house.call(callers[5], "bid.place", **bids[5]))["seq"] == 4
