"""The program and the cameras of a room."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interact.protocol import Reason, Refused
from media.rooms import FORGET_AFTER_S, MAX_CAMERAS, Room, Rooms, Sighting, pick_program


def go_live(room: Room[Any, Any], name: str, now: float) -> list[str]:
    camera = room.camera(name)
    camera.publisher = object()
    return [e["type"] for e in room.went_live(camera, f"s-{name}", "VP8", True, now)]


def leave(room: Room[Any, Any], name: str) -> list[str]:
    camera = room.camera(name)
    camera.publisher = None
    return [e["type"] for e in room.went_offline(camera)]


def cut_to(room: Room[Any, Any], name: str | None, at: int) -> list[str]:
    return [e["camera"] for e in room.set_choice(name, at) if e["type"] == "program.changed"]


def test_first_live_camera_is_the_program_and_stays_it() -> None:
    room: Room[Any, Any] = Room("shop", 0)
    assert go_live(room, "a", 1) == ["camera.live", "program.changed"]
    assert go_live(room, "b", 2) == ["camera.live"]
    assert room.program == "a"
    assert leave(room, "a") == ["camera.offline", "program.changed"]
    assert room.program == "b"
    assert go_live(room, "a", 3) == ["camera.live"]
    assert room.program == "b", "it never jumps back by itself"


def test_program_waits_for_its_camera_when_nobody_is_live() -> None:
    room: Room[Any, Any] = Room("shop", 0)
    go_live(room, "a", 1)
    assert leave(room, "a") == ["camera.offline"]
    assert room.program == "a"
    assert go_live(room, "a", 2) == ["camera.live"]


def test_directors_choice_holds_until_it_is_given_back() -> None:
    room: Room[Any, Any] = Room("shop", 0)
    go_live(room, "a", 1)
    go_live(room, "b", 2)
    assert cut_to(room, "b", 1) == ["b"]
    assert leave(room, "b") == ["camera.offline"]
    assert room.program == "b"
    assert cut_to(room, "a", 1) == [], "older than what is in force"
    assert cut_to(room, None, 2) == ["a"]


def test_choice_may_name_a_camera_that_is_yet_to_come() -> None:
    room: Room[Any, Any] = Room("shop", 0)
    go_live(room, "a", 1)
    assert cut_to(room, "later", 1) == ["later"]
    assert room.resolve(None) is None
    go_live(room, "later", 2)
    assert room.resolve(None) is room.camera("later")


def test_program_counts_cameras_of_other_workers() -> None:
    room: Room[Any, Any] = Room("shop", 0)
    go_live(room, "b", 5)
    far = room.camera("a")
    assert [e["camera"] for e in room.sight(far, Sighting("there", "s1", 3))] == ["a"]
    assert not far.is_live
    assert room.describe()["cameras"]["a"]["elsewhere"] == "there"
    assert [e["camera"] for e in room.sight(far, None)] == ["b"]


@given(
    order=st.permutations([(3.0, "b"), (3.0, "a"), (1.0, "c"), (2.0, "d")]),
    known=st.integers(0, 4),
)
def test_workers_that_know_the_same_agree(order: list[tuple[float, str]], known: int) -> None:
    here, there = order[:known], order[:known][::-1]
    assert pick_program(None, here, "x") == pick_program(None, there, "x")
    assert pick_program(None, order, "x") == "c"
    assert pick_program("d", here, "x") == "d"


def test_wish_resolves_to_a_known_camera_or_the_program() -> None:
    room: Room[Any, Any] = Room("shop", 0)
    assert room.resolve(None) is None
    go_live(room, "a", 1)
    assert room.resolve(None) is room.camera("a")
    assert room.resolve("b") is None


def test_cameras_of_a_room_are_bounded() -> None:
    room: Room[Any, Any] = Room("shop", 0)
    for i in range(MAX_CAMERAS):
        room.camera(f"c{i}")
    with pytest.raises(Refused) as refused:
        room.camera("one-more")
    assert refused.value.reason is Reason.FULL


def test_wanted_layers_are_told_while_live_and_forgotten_with_the_session() -> None:
    room: Room[Any, Any] = Room("shop", 0)
    camera = room.camera("a")
    assert room.wants_layers(camera, ("q",)) == []
    go_live(room, "a", 1)
    assert "wanted" not in camera.describe()
    assert room.wants_layers(camera, ("q", "h")) == [
        {"type": "camera.layers", "room": "shop", "camera": "a", "wanted": ["q", "h"]}
    ]
    assert camera.describe()["wanted"] == ["q", "h"]
    room.went_live(camera, "another", "VP8", True, 2)
    assert "wanted" not in camera.describe()


def test_viewer_count_is_told_when_it_changed() -> None:
    room: Room[Any, Any] = Room("shop", 0)
    assert room.viewer_count_event() is None
    room.viewers["x"] = object()
    event = room.viewer_count_event()
    assert event is not None
    assert event["n"] == 1
    assert room.viewer_count_event() is None


def test_only_idle_rooms_are_forgotten() -> None:
    rooms: Rooms[Any, Any] = Rooms()
    go_live(rooms.open("busy", 0), "a", 0)
    rooms.open("idle", 0)
    rooms.forget_idle(FORGET_AFTER_S - 1)
    assert {room.name for room in rooms} == {"busy", "idle"}
    rooms.forget_idle(FORGET_AFTER_S + 1)
    assert {room.name for room in rooms} == {"busy"}
