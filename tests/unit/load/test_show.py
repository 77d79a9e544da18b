"""Bidders' heads: they keep to their purse, leave the leader alone and give way to a person."""

from __future__ import annotations

import random

import pytest

from interact.increments import Increments, increment_problem
from loadtest.show import (
    INCREMENT,
    MAX_ANSWERS_TO_PERSON,
    NAMES,
    OFFERINGS,
    SNIPER_WINDOW_S,
    LotView,
    Mind,
    Temperament,
)
from media.stage.glazes import PRODUCTS

NOW = 1_790_000_000.0
BOTS = frozenset({"bot-0", "bot-1"})


def view(**changes: object) -> LotView:
    lot = LotView("l1", 300_000, 100_000, NOW + 40, None, None)
    for name, value in changes.items():
        setattr(lot, name, value)
    return lot


def mind(temperament: Temperament, seed: int = 1) -> Mind:
    return Mind("bot-0", temperament, random.Random(seed))


@pytest.mark.parametrize("temperament", Temperament)
@pytest.mark.parametrize("seed", range(20))
def test_plan_is_legal_and_within_purse(temperament: Temperament, seed: int) -> None:
    head = mind(temperament, seed)
    lot = view(price=120_000, minimum=130_000, leader="bot-1")
    plan = head.plan(lot, NOW, BOTS)
    if plan is not None:
        assert lot.minimum <= plan.amount <= head.value(lot)
        assert 0 < plan.delay_s < 40


@pytest.mark.parametrize("temperament", Temperament)
def test_leader_and_poor_stay_quiet(temperament: Temperament) -> None:
    head = mind(temperament)
    assert head.plan(view(leader="bot-0"), NOW, BOTS) is None
    assert head.plan(view(minimum=10_000_000), NOW, BOTS) is None
    assert head.plan(view(ends_at_s=NOW + 0.2), NOW, BOTS) is None


def test_person_is_answered_seldom_and_not_for_ever() -> None:
    lot = view(price=120_000, minimum=130_000, leader="guest-1")
    plans = [mind(Temperament.EAGER, s).plan(lot, NOW, BOTS) for s in range(200)]
    assert 60 < sum(p is not None for p in plans) < 140
    assert min(p.delay_s for p in plans if p is not None) > 3
    lot.answers_to_person = MAX_ANSWERS_TO_PERSON
    assert all(mind(Temperament.EAGER, s).plan(lot, NOW, BOTS) is None for s in range(50))


def test_sniper_waits_for_the_end() -> None:
    for seed in range(50):
        plan = mind(Temperament.SNIPER, seed).plan(view(leader="bot-1"), NOW, BOTS)
        if plan is not None:
            assert plan.delay_s >= 40 - SNIPER_WINDOW_S


def test_proxy_sets_one_maximum() -> None:
    head = mind(Temperament.PROXY)
    plan = head.plan(view(leader="bot-1"), NOW, BOTS)
    assert plan is not None
    assert plan.is_max
    head.has_set_max("l1")
    later = head.plan(view(leader="bot-1"), NOW, BOTS)
    assert later is None or not later.is_max


@pytest.mark.parametrize("offering", OFFERINGS, ids=lambda o: str(o.product))
def test_offerings_can_be_sold(offering: object) -> None:
    lot = next(o for o in OFFERINGS if o is offering)
    rows = [(a, b) for a, b in INCREMENT]
    assert increment_problem(rows, lot.start_price) is None
    assert Increments(rows, lot.start_price).step(lot.start_price) > 0
    assert 40 <= lot.duration_s <= 70
    assert lot.estimate > lot.start_price * 2
    assert 0 <= lot.product < len(PRODUCTS)


def test_names_differ() -> None:
    assert len({name for name, _ in NAMES}) == len(NAMES)
