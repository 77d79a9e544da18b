"""The demo's people in a real room: a lot is sold, a person can win, the show goes on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from loadtest.bots import Company
from loadtest.bus import BusClient, Json
from loadtest.show import OFFERINGS
from tests.support.server import Server, running_server

QUICK = [replace(o, duration_s=6, soft_close_ms=300) for o in OFFERINGS[:2]]


def company(server: Server, sold: asyncio.Queue[Json], bidders: int = 4) -> Company:
    async def who(role: str, identity: str, name: str) -> str:
        return server.token("shop", role, identity=identity, name=name)

    return Company(
        server.ws_url,
        "shop",
        bidders,
        who,
        offerings=QUICK,
        pause_s=(0.1, 0.2),
        on_event=lambda event: sold.put_nowait(event) if event["type"] == "lot.sold" else None,
    )


async def test_bots_sell_lots_to_each_other() -> None:
    async with running_server() as server:
        sold: asyncio.Queue[Json] = asyncio.Queue()
        people = company(server, sold)
        task = asyncio.create_task(people.run())
        try:
            first = await asyncio.wait_for(sold.get(), 60)
            second = await asyncio.wait_for(sold.get(), 60)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert [first["title"], second["title"]] == [o.title for o in QUICK]
        assert first["winner"].startswith("bot-")
        assert first["winner_name"]
        assert first["price"] >= QUICK[0].start_price
        assert sum(b.bids for b in people.bidders) >= 2
        assert all(b.bus.counts.gaps == 0 for b in people.bidders)
        unexpected = {r for b in people.bidders for r in b.refusals} - {"too_low", "not_open"}
        assert not unexpected


async def test_person_who_goes_on_bidding_wins() -> None:
    async with running_server() as server:
        sold: asyncio.Queue[Json] = asyncio.Queue()
        people = company(server, sold)

        async def token() -> str:
            return server.token("shop", identity="guest-me", name="Me")

        events: asyncio.Queue[Json] = asyncio.Queue()
        me = BusClient(server.ws_url, token, lambda channel, data, now: events.put_nowait(data))
        tasks = [asyncio.create_task(people.run()), asyncio.create_task(me.run())]
        try:
            async with asyncio.timeout(60):
                number = 0
                while sold.empty():
                    event = await events.get()
                    leader = event.get("leader", "")
                    if event["type"] in ("lot.opened", "bid.accepted") and leader != "guest-me":
                        number += 1
                        fields = {
                            "lot": event["lot"],
                            "amount": event["minimum"],
                            "key": f"k{number}",
                        }
                        await me.call("bid.place", fields)
                result = await sold.get()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert result["winner"] == "guest-me"
        assert number <= 6
