"""Bids from phones: who wins, what each sees, and what a lost connection does to a tap."""

from __future__ import annotations

import json

from playwright.async_api import Page, WebSocketRoute

from interact.protocol import Role
from tests.support.browser import LAPTOP, ROOM, WALL, Show, has, until


def _token(stage: Show, name: str) -> str:
    return stage.server.token(ROOM, Role.VIEWER, identity=name.lower(), name=name)


async def _bid(page: Page) -> None:
    """Tap the big button once it has shown its amount for long enough to be read."""
    button = page.get_by_test_id("bid")
    await has(button, "data-pending", "false")
    await page.wait_for_timeout(300)
    await button.click()


async def test_two_phones_bid_and_everybody_sees_the_same_winner(stage: Show) -> None:
    ann = await stage.open("v", token=_token(stage, "Ann"))
    ben = await stage.open("v", token=_token(stage, "Ben"), language="ja-JP")
    wall = await stage.open(
        "screen", token=stage.server.token(ROOM, Role.SCREEN, identity="wall"), size=WALL
    )
    await has(ann.get_by_test_id("viewer"), "data-link", "online")
    await has(ben.get_by_test_id("viewer"), "data-link", "online")
    await stage.start_lot(duration_ms=12_000)

    await _bid(ann)
    await has(ann.get_by_test_id("lot"), "data-standing", "leading")
    await has(ben.get_by_test_id("price"), "data-amount", "1000")
    assert await ann.get_by_test_id("bid").is_disabled()

    await _bid(ben)
    await has(ben.get_by_test_id("lot"), "data-standing", "leading")
    await has(ann.get_by_test_id("lot"), "data-standing", "outbid")

    await ann.get_by_test_id("max-open").click()
    await ann.get_by_test_id("max-input").fill("2000")
    await ann.get_by_test_id("max-set").click()
    await has(ann.get_by_test_id("lot"), "data-standing", "leading")
    await has(wall.get_by_test_id("price"), "data-amount", "1200")
    assert "Ann" in await wall.get_by_test_id("leader").inner_text()

    await has(ann.get_by_test_id("lot"), "data-standing", "won")
    await has(ben.get_by_test_id("lot"), "data-standing", "lost")
    await has(wall.get_by_test_id("winner"), "data-winner", "ann")
    for page in (ann, ben):
        assert await page.get_by_test_id("price").get_attribute("data-amount") == "1200"
    assert "Ann" in await ben.get_by_test_id("standing").inner_text()


async def test_the_studio_runs_a_lot_from_form_to_withdrawal(stage: Show) -> None:
    studio = await stage.open("studio", token=stage.host_token(), size=LAPTOP)
    await studio.get_by_test_id("lot-create-start").click()
    assert await studio.get_by_test_id("lot-title-input").get_attribute("aria-invalid") == "true"

    await studio.get_by_test_id("lot-title-input").fill("Indigo scarf")
    await studio.get_by_test_id("lot-currency").select_option("JPY")
    await studio.get_by_test_id("lot-startPrice").fill("3,000")
    await studio.get_by_test_id("lot-create-start").click()
    await studio.get_by_test_id("open-lot").wait_for()

    phone = await stage.open("v", token=_token(stage, "Ann"))
    await has(phone.get_by_test_id("bid"), "data-amount", "3000")
    await _bid(phone)
    await has(studio.get_by_test_id("price"), "data-amount", "3000")
    assert "Ann" in await studio.get_by_test_id("bids").inner_text()

    withdraw = studio.get_by_test_id("open-lot").get_by_test_id("lot-withdraw")
    await withdraw.click()
    await withdraw.click()
    await has(studio.get_by_test_id("lot-row"), "data-state", "cancelled")
    await has(phone.get_by_test_id("lot"), "data-state", "cancelled")


class _Cable:
    """The page's WebSocket, which a test can pull and plug in again."""

    def __init__(self) -> None:
        self.is_plugged = True
        self.sent: list[str] = []
        self._routes: list[WebSocketRoute] = []

    async def attach(self, page: Page) -> None:
        await page.route_web_socket("**/connection/websocket", self._on_socket)

    async def pull(self) -> None:
        self.is_plugged = False
        routes, self._routes = self._routes, []
        for route in routes:
            await route.close(code=1011)

    def plug(self) -> None:
        self.is_plugged = True

    def calls(self, method: str) -> list[dict[str, object]]:
        """Parameters of every call of `method` that left the page."""
        lines = (line for text in self.sent for line in text.splitlines())
        calls = [json.loads(line).get("rpc", {}) for line in lines]
        return [call.get("data", {}) for call in calls if call.get("method") == method]

    async def _on_socket(self, route: WebSocketRoute) -> None:
        if not self.is_plugged:
            await route.close(code=1011)
            return
        server = route.connect_to_server()
        self._routes.append(route)

        def pass_on(message: str | bytes) -> None:
            self.sent.append(str(message))
            server.send(message)

        route.on_message(pass_on)


async def test_a_lost_bus_is_told_recovered_and_a_held_tap_counts_once(stage: Show) -> None:
    cable = _Cable()
    ann = await stage.open("v", token=_token(stage, "Ann"), prepare=cable.attach)
    ben = await stage.open("v", token=_token(stage, "Ben"))
    await has(ann.get_by_test_id("viewer"), "data-link", "online")
    await stage.start_lot(duration_ms=60_000)
    await has(ann.get_by_test_id("bid"), "data-amount", "1000")
    states = len(cable.calls("room.state"))

    await cable.pull()
    await ann.get_by_test_id("link-lost").wait_for()
    await _bid(ben)
    await has(ben.get_by_test_id("lot"), "data-standing", "leading")
    cable.plug()
    # What was missed comes by offset: the price is right and no snapshot was asked for.
    await ann.get_by_test_id("link-back").wait_for()
    await has(ann.get_by_test_id("bid"), "data-amount", "1100")
    assert len(cable.calls("room.state")) == states

    await cable.pull()
    await ann.get_by_test_id("link-lost").wait_for()
    await _bid(ann)
    await has(ann.get_by_test_id("bid"), "data-pending", "true")
    cable.plug()
    await has(ann.get_by_test_id("lot"), "data-standing", "leading")
    await has(ben.get_by_test_id("price"), "data-amount", "1100")
    keys = {str(call["key"]) for call in cable.calls("bid.place")}
    assert len(keys) == 1, keys


async def test_refusals_and_words_follow_the_language(stage: Show) -> None:
    host = await stage.open("v", token=stage.host_token())
    await stage.start_lot(duration_ms=60_000)
    await _bid(host)
    await has(host.get_by_test_id("notice"), "data-reason", "own_lot")
    assert "own lot" in await host.get_by_test_id("notice").inner_text()

    phone = await stage.open("v", language="zh-TW")
    assert await phone.locator("html").get_attribute("lang") == "zh-Hant"
    assert "出價" in await phone.get_by_test_id("bid").inner_text()
    await phone.get_by_test_id("more").click()
    await phone.get_by_test_id("lang-ja").click()
    await until(phone.locator("html"), "lang", lambda seen: seen == "ja", "ja")
    await phone.keyboard.press("Escape")
    assert "入札" in await phone.get_by_test_id("bid").inner_text()
    await phone.reload()
    await phone.get_by_test_id("bid").wait_for()
    assert await phone.locator("html").get_attribute("lang") == "ja"
