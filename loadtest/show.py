"""What the demo sells, and how its bidders think: **core**, no I/O, chance comes from outside.

Amounts are TWD in minor units (1 dollar = 100). Temperaments decide when a bot bids, its
private value decides how far; towards a person, bots hold back, so a visitor who wants a lot
can have it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

CURRENCY: Final = "TWD"
INCREMENT: Final = [[0, 5_000], [100_000, 10_000], [300_000, 20_000], [800_000, 50_000]]
MAX_ANSWERS_TO_PERSON: Final = 2
"""Times all bots together outbid a person on one lot."""


@dataclass(frozen=True, slots=True)
class Offering:
    """One thing for sale: title in two languages on one line, and which pot it is."""

    title: str
    product: int
    start_price: int
    estimate: int
    duration_s: int
    soft_close_ms: int = 8_000


OFFERINGS: Final = (
    Offering("雨過天青梅瓶 · Celadon, after rain", 0, 120_000, 320_000, 50),
    Offering("青花玉壺春瓶 · Blue-and-white bottle", 1, 88_000, 260_000, 45),
    Offering("金継ぎの茶壺 · Kintsugi tea jar", 2, 150_000, 480_000, 60),
    Offering("夕燒葫蘆瓶 · Sunset gourd", 3, 68_000, 190_000, 45),
    Offering("夜の鶴 · Cranes by night", 4, 100_000, 300_000, 55),
    Offering("霽紅金帶瓶 · Oxblood with gold", 5, 96_000, 280_000, 50),
)


class Temperament(StrEnum):
    """How a bidder goes about it."""

    EAGER = "eager"
    STEADY = "steady"
    PROXY = "proxy"
    SNIPER = "sniper"
    DREAMER = "dreamer"


@dataclass(frozen=True, slots=True)
class Habit:
    """Reaction time in seconds (least, most), and value as a share of the estimate."""

    reacts_s: tuple[float, float]
    appetite: tuple[float, float]
    jumps: float
    """Chance of bidding one step more than needed."""


HABITS: Final = {
    Temperament.EAGER: Habit((1.2, 4.0), (0.70, 1.05), 0.22),
    Temperament.STEADY: Habit((3.0, 8.0), (0.80, 1.15), 0.06),
    Temperament.PROXY: Habit((4.0, 14.0), (0.85, 1.20), 0.0),
    Temperament.SNIPER: Habit((1.5, 4.5), (0.75, 1.10), 0.1),
    Temperament.DREAMER: Habit((5.0, 12.0), (0.40, 0.70), 0.0),
}
SNIPER_WINDOW_S: Final = 14.0

NAMES: Final = (
    ("小美", Temperament.EAGER),
    ("Kenji", Temperament.STEADY),
    ("阿宏", Temperament.PROXY),
    ("Sora", Temperament.SNIPER),
    ("Mei-Ling", Temperament.DREAMER),
    ("さくら", Temperament.EAGER),
    ("大雄", Temperament.STEADY),
    ("Ava", Temperament.SNIPER),
    ("雅婷", Temperament.PROXY),
    ("Noah", Temperament.DREAMER),
    ("ひなた", Temperament.STEADY),
    ("志明", Temperament.EAGER),
)


@dataclass(slots=True)
class LotView:
    """What every bot in the hall knows about the lot on the block. Times in Unix seconds."""

    lot: str
    estimate: int
    minimum: int
    ends_at_s: float
    price: int | None = None
    leader: str | None = None
    bids: int = 0
    answers_to_person: int = 0


@dataclass(slots=True)
class Plan:
    """What a bidder will do: after `delay_s`, an open bid or an automatic maximum."""

    delay_s: float
    amount: int
    is_max: bool


@dataclass
class Mind:
    """One bidder's head. Decides, never acts."""

    identity: str
    temperament: Temperament
    chance: random.Random
    _value: dict[str, int] = field(default_factory=dict)
    _has_max: set[str] = field(default_factory=set)

    def value(self, lot: LotView) -> int:
        """The most this bidder would pay for the lot; private, the same all along."""
        if lot.lot not in self._value:
            if len(self._value) > 50:
                self._value.clear()
                self._has_max.clear()
            low, high = HABITS[self.temperament].appetite
            raw = lot.estimate * self.chance.uniform(low, high)
            self._value[lot.lot] = int(raw) // 5_000 * 5_000
        return self._value[lot.lot]

    def plan(self, lot: LotView, now_s: float, bots: frozenset[str]) -> Plan | None:
        """What to do about the lot as it stands, or None: wait for it to change."""
        left_s = lot.ends_at_s - now_s
        if lot.leader == self.identity or lot.minimum > self.value(lot) or left_s < 0.7:
            return None
        habit = HABITS[self.temperament]
        delay = self.chance.uniform(*habit.reacts_s)
        if lot.leader is not None and lot.leader not in bots:
            # A person leads: think longer, and give up soon.
            if lot.answers_to_person >= MAX_ANSWERS_TO_PERSON or self.chance.random() < 0.5:
                return None
            delay += 2.5
        if self.temperament is Temperament.SNIPER and left_s > SNIPER_WINDOW_S:
            delay = left_s - SNIPER_WINDOW_S + self.chance.uniform(0, 5)
        if delay >= left_s - 0.4:
            return None
        if self.temperament is Temperament.PROXY and lot.lot not in self._has_max:
            return Plan(delay, max(self.value(lot), lot.minimum), True)
        amount = lot.minimum
        if self.chance.random() < habit.jumps:
            step = max(lot.minimum - lot.price, 5_000) if lot.price is not None else 10_000
            amount = min(lot.minimum + step, self.value(lot))
        return Plan(delay, max(amount, lot.minimum), False)

    def has_set_max(self, lot: str) -> None:
        """An automatic maximum was accepted; one a lot is enough."""
        self._has_max.add(lot)
