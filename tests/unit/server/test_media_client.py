"""Which media worker a room or session belongs to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interact.protocol import Reason
from server.children import MediaPeer
from server.errors import MediaRefused
from server.media_client import MediaPool, MediaWorker, needs_bearer


def pool(count: int) -> MediaPool:
    return MediaPool(
        [MediaWorker(MediaPeer(i, "http://127.0.0.1:1"), "secret") for i in range(count)]
    )


def test_rooms_spread_and_stay() -> None:
    workers = pool(3)
    found = [workers.for_room(f"room-{i}").index for i in range(300)]
    assert found == [workers.for_room(f"room-{i}").index for i in range(300)]
    assert min(found.count(index) for index in range(3)) > 60


def test_session_id_names_its_worker_and_kind() -> None:
    workers = pool(12)
    assert workers.for_session("s11b_abcdefghijklmnopqrstuv").index == 11
    assert needs_bearer("s0b_abc")
    assert not needs_bearer("s0q_abc")


TWO = pool(2)


@given(st.text(max_size=40))
def test_any_session_text_finds_a_worker_or_is_refused(text: str) -> None:
    try:
        assert TWO.for_session(text).index in (0, 1)
    except MediaRefused as refused:
        assert refused.reason is Reason.NO_SESSION


@pytest.mark.parametrize("session", ["", "s", "s_", "sb_", "s٣b_x", "s2b_x", "x0b_x", "s0z_x"])
def test_nonsense_is_no_session(session: str) -> None:
    with pytest.raises(MediaRefused):
        TWO.for_session(session)
