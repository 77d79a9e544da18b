"""The pages' protocol.ts says the same as interact/protocol.py and what lots publish."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec
import pytest

from interact import lot_messages
from interact.protocol import (
    Event,
    Reason,
    Role,
    room_channel,
    stage_channel,
    tick_channel,
    user_channel,
)

SOURCE: Final = (
    Path(__file__).resolve().parents[2] / "clients" / "web" / "src" / "shared" / "protocol.ts"
).read_text(encoding="utf-8")


def words_of(constant: str) -> list[str]:
    """The strings of `export const NAME = [...]`."""
    found = re.search(rf"export const {constant} = \[(.*?)\] as const", SOURCE, re.DOTALL)
    assert found, f"protocol.ts has no {constant}"
    return re.findall(r'"([^"]+)"', found[1])


def fields_of(name: str) -> set[str]:
    """Field names of an exported interface, or of a message type (`at` comes from Stamped)."""
    found = re.search(
        rf"export (?:interface {name} |type {name} = (?:Stamped & )?)\{{(.*?)\n?\}};?\n",
        SOURCE,
        re.DOTALL,
    )
    assert found, f"protocol.ts has no {name}"
    names = set(re.findall(r"(?:^|[;{]|\n)\s*(\w+)\??:", found[1]))
    return names | ({"at"} if f"type {name} = Stamped" in SOURCE else set())


@pytest.mark.parametrize(
    ("constant", "vocabulary"), [("REASONS", Reason), ("ROLES", Role), ("EVENT_TYPES", Event)]
)
def test_pages_know_the_same_words(
    constant: str, vocabulary: type[Reason] | type[Role] | type[Event]
) -> None:
    words = words_of(constant)
    assert len(words) == len(set(words))
    assert set(words) == {member.value for member in vocabulary}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LotCreated", lot_messages._LotCreatedMessage),
        ("LotOpened", lot_messages._LotOpenedMessage),
        ("LotExtended", lot_messages._LotExtendedMessage),
        ("LotSold", lot_messages._LotSoldMessage),
        ("LotUnsold", lot_messages._LotUnsoldMessage),
        ("LotCancelled", lot_messages._LotCancelledMessage),
        ("BidAccepted", lot_messages._BidAcceptedMessage),
        ("BidReceipt", lot_messages._BidReceiptMessage),
        ("BidOutbid", lot_messages._BidOutbidMessage),
        ("LotWon", lot_messages._LotWonMessage),
        ("BidRow", lot_messages.ShownBid),
    ],
)
def test_pages_read_the_fields_that_lots_publish(name: str, message: type[msgspec.Struct]) -> None:
    assert fields_of(name) == set(message.__struct_fields__)


def test_a_snapshot_has_the_servers_fields_and_one_of_the_pages() -> None:
    own = {"winner_name"}  # kept from lot.sold; a snapshot does not carry it
    assert fields_of("LotSnapshot") - own == set(lot_messages.LotSnapshot.__struct_fields__)


@pytest.mark.parametrize(
    ("name", "channel"),
    [
        ("roomChannel", room_channel("R")),
        ("tickChannel", tick_channel("R")),
        ("stageChannel", stage_channel("R")),
        ("userChannel", user_channel("R", "I")),
    ],
)
def test_channels_are_named_alike(name: str, channel: str) -> None:
    found = re.search(rf"{name} = \(.*?\) => `(.*?)`", SOURCE)
    assert found, f"protocol.ts has no {name}"
    assert found[1].replace("${room}", "R").replace("${identity}", "I") == channel
