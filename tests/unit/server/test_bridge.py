"""Media events to room notices, without sockets."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from server.bridge import WorkerView, _event_decoder


class Notices:
    """What the rooms would know."""

    def __init__(self) -> None:
        self.live: dict[tuple[str, str], tuple[str | None, bool]] = {}
        self.program: dict[str, str | None] = {}
        self.counts: dict[str, int] = {}
        self.said: list[str] = []

    def camera_live(self, room: str, camera: str, video: str | None, audio: bool) -> None:
        if self.live.get((room, camera)) != (video, audio):
            self.said.append(f"live {room}/{camera}")
        self.live[room, camera] = (video, audio)

    def camera_offline(self, room: str, camera: str) -> None:
        if self.live.pop((room, camera), None) is not None:
            self.said.append(f"offline {room}/{camera}")

    def program_changed(self, room: str, camera: str | None) -> None:
        self.program[room] = camera

    def camera_layers(self, room: str, camera: str, wanted: list[str]) -> None:
        self.said.append(f"layers {room}/{camera} {','.join(wanted)}")

    def viewers(self, room: str, count: int) -> None:
        self.counts[room] = count


def view() -> tuple[WorkerView, Notices]:
    notices = Notices()
    return WorkerView(notices, notices.viewers), notices


def tell(worker: WorkerView, **event: Any) -> None:
    worker.apply(_event_decoder.decode(msgspec.json.encode(event)))


def snapshot(worker: WorkerView, epoch: str = "e1", **rooms: Any) -> None:
    tell(worker, type="snapshot", epoch=epoch, rooms=rooms)


def camera(codec: str = "VP8", *, live: bool = True) -> dict[str, Any]:
    return {"live": live, "video": {"codec": codec}, "audio": True, "session": "s0b_x"}


def test_snapshot_tells_what_is_live_and_on_air() -> None:
    worker, notices = view()
    cameras = {"left": camera(), "old": camera(live=False)}
    snapshot(worker, shop={"program": "left", "cameras": cameras, "viewers": 3})
    assert notices.live == {("shop", "left"): ("VP8", True)}
    assert notices.program == {"shop": "left"}
    assert notices.counts == {"shop": 3}


def test_events_after_the_snapshot_are_followed() -> None:
    worker, notices = view()
    snapshot(worker)
    tell(worker, type="camera.live", room="shop", camera="a", video={"codec": "H264"}, audio=False)
    tell(worker, type="program.changed", room="shop", camera="a")
    tell(worker, type="viewers", room="shop", viewers=2)
    assert notices.live == {("shop", "a"): ("H264", False)}
    tell(worker, type="camera.offline", room="shop", camera="a")
    tell(worker, type="viewers", room="shop", viewers=0)
    assert notices.live == {}
    assert (notices.program, notices.counts) == ({"shop": "a"}, {"shop": 0})


def test_reconnect_to_the_same_state_says_nothing_new() -> None:
    worker, notices = view()
    for _ in range(3):
        snapshot(worker, shop={"program": "a", "cameras": {"a": camera()}, "viewers": 1})
    assert notices.said == ["live shop/a"]


def test_new_epoch_without_a_camera_takes_it_offline() -> None:
    worker, notices = view()
    snapshot(worker, shop={"program": "a", "cameras": {"a": camera()}, "viewers": 1})
    snapshot(worker, "e2")
    assert notices.said == ["live shop/a", "offline shop/a"]
    assert (notices.program, notices.counts) == ({"shop": None}, {"shop": 0})


def test_lost_worker_takes_everything_offline_once() -> None:
    worker, notices = view()
    snapshot(worker, shop={"program": "a", "cameras": {"a": camera()}, "viewers": 1})
    worker.lose()
    worker.lose()
    assert notices.said == ["live shop/a", "offline shop/a"]
    assert notices.counts == {"shop": 0}


def test_wanted_layers_reach_the_rooms_by_event_and_by_snapshot() -> None:
    worker, notices = view()
    tell(worker, type="camera.layers", room="shop", camera="a", wanted=["q", "h"])
    snapshot(worker, shop={"cameras": {"a": {**camera(), "wanted": ["q"]}, "b": camera()}})
    assert [said for said in notices.said if "layers" in said] == [
        "layers shop/a q,h",
        "layers shop/a q",
    ]


def test_events_of_a_later_version_are_passed_over() -> None:
    worker, notices = view()
    tell(worker, type="something.new", room="shop", colour="blue")
    tell(worker, type="ping")
    assert notices.said == []


_ROOMS = st.dictionaries(
    st.sampled_from(["r1", "r2"]),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.booleans(), max_size=3),
)


@given(states=st.lists(_ROOMS, min_size=1, max_size=6))
def test_after_any_snapshots_the_rooms_know_the_last(
    states: list[dict[str, dict[str, bool]]],
) -> None:
    worker, notices = view()
    for number, state in enumerate(states):
        rooms = {
            room: {"cameras": {name: camera(live=live) for name, live in cameras.items()}}
            for room, cameras in state.items()
        }
        snapshot(worker, str(number), **rooms)
    last = {(room, name) for room, c in states[-1].items() for name, live in c.items() if live}
    assert set(notices.live) == last == worker.live
