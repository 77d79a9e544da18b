"""Media events of several workers to room notices, without sockets."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from server.media_view import MediaView, event_decoder


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


def view(workers: int = 1) -> tuple[MediaView, Notices]:
    notices = Notices()
    return MediaView(range(workers), notices, notices.viewers), notices


def tell(media: MediaView, index: int = 0, /, **event: Any) -> None:
    media.apply(index, event_decoder.decode(msgspec.json.encode(event)))


def snapshot(media: MediaView, epoch: str = "e1", index: int = 0, **rooms: Any) -> None:
    tell(media, index, type="snapshot", epoch=epoch, rooms=rooms)


def camera(codec: str = "VP8", *, live: bool = True, since: float = 1.0) -> dict[str, Any]:
    video = {"codec": codec}
    return {"live": live, "video": video, "audio": True, "session": "s0b_x", "since": since}


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
    worker.lose(0)
    worker.lose(0)
    assert notices.said == ["live shop/a", "offline shop/a"]
    assert notices.counts == {"shop": 0}


def test_wanted_layers_reach_the_rooms_by_event_and_by_snapshot() -> None:
    worker, notices = view()
    tell(worker, type="camera.live", room="shop", camera="a", **_sent(since=1))
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
        snapshot(worker, str(number), 0, **rooms)
    last = {(room, name) for room, c in states[-1].items() for name, live in c.items() if live}
    assert set(notices.live) == last == set(worker.workers[0].live)


def test_viewers_of_all_workers_add_up_and_the_oldest_camera_is_on_air() -> None:
    media, notices = view(2)
    snapshot(media, index=0, shop={"cameras": {"new": camera(since=9)}, "viewers": 2})
    snapshot(media, index=1, shop={"cameras": {"old": camera(since=3)}, "viewers": 3})
    assert notices.counts == {"shop": 5}
    assert notices.program == {"shop": "old"}
    tell(media, 1, type="camera.offline", room="shop", camera="old")
    assert notices.program == {"shop": "new"}


def test_camera_that_moves_to_another_worker_in_time_does_not_flicker() -> None:
    media, notices = view(2)
    snapshot(media, index=0, shop={"cameras": {"a": camera(since=1)}, "viewers": 0})
    snapshot(media, index=1)
    tell(media, 1, type="camera.live", room="shop", camera="a", **_sent(since=2))
    assert media.home("shop", "a") == 1
    media.lose(0)
    assert notices.said == ["live shop/a"]
    assert notices.program == {"shop": "a"}


def _sent(since: float) -> dict[str, Any]:
    return {"video": {"codec": "VP8"}, "audio": True, "since": since}


def test_newest_choice_holds_whoever_tells_it_and_is_remembered() -> None:
    media, notices = view(2)
    both = {"a": camera(since=1), "b": camera(since=2)}
    snapshot(media, index=0, shop={"cameras": both, "viewers": 0})
    media.choose("shop", "b", 10)
    assert notices.program == {"shop": "b"}
    tell(media, 0, type="program.choice", room="shop", camera=None, at=20)
    assert notices.program == {"shop": "a"}
    media.choose("shop", "b", 15)
    assert notices.program == {"shop": "a"}, "said before what is in force"
    snapshot(media, "e2", 0, shop={"cameras": both, "viewers": 0})
    assert media.choices == {"shop": (20, None)}


def test_presence_is_where_cameras_or_viewers_are() -> None:
    media, _ = view(3)
    snapshot(media, index=0, shop={"cameras": {"a": camera()}, "viewers": 0})
    snapshot(media, index=1, shop={"cameras": {}, "viewers": 1})
    snapshot(media, index=2, shop={"cameras": {}, "viewers": 0})
    assert media.present("shop") == {0, 1}
