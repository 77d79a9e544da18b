"""A phone that comes and goes, over a store that restarts and forgets, misses nothing."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from interact import channel_rings, ledger_writer
from interact.engine import Outgoing, Position, Publication
from interact.engine_embedded import EmbeddedEngine

CHANNEL = "other:r"
KEPT, RING = 12, 4


class Phone:
    """Merges what it recovers with what it hears live, as a bus connection does for it."""

    def __init__(self) -> None:
        self.position: Position | None = None
        self.is_connected = False
        self.messages: dict[int, bytes] = {}

    def hear(self, publication: Publication) -> None:
        if self.is_connected and self.position is not None:
            assert publication.offset == self.position.offset + 1
            self.take(publication)

    def take(self, publication: Publication) -> None:
        assert publication.offset not in self.messages
        self.messages[publication.offset] = publication.data
        assert self.position is not None
        self.position = Position(self.position.epoch, publication.offset)

    async def connect(self, engine: EmbeddedEngine, oldest_kept: int) -> None:
        page = await engine.history(CHANNEL, self.position, -1)
        if self.position is None or not page.recovered:
            if self.position is not None:
                assert self.position.offset + 1 < oldest_kept
            self.messages.clear()
            page = await engine.history(CHANNEL, None, -1)
            assert page.recovered
            first = page.publications[0].offset if page.publications else page.position.offset + 1
            self.position = Position(page.position.epoch, first - 1)
        for publication in page.publications:
            self.take(publication)
        assert self.position == page.position
        self.is_connected = True


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 6)),
        st.tuples(st.sampled_from(["connect", "leave", "restart"]), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_phone_has_every_message_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        mock.patch.object(ledger_writer, "_KEPT_OTHERWISE", KEPT),
        mock.patch.object(channel_rings, "_SIZE_OTHERWISE", RING),
    ):
        asyncio.run(run(steps, Path(directory)))


async def run(steps: list[tuple[str, int]], directory: Path) -> None:
    phone = Phone()
    published: list[bytes] = []
    engine = EmbeddedEngine(directory)
    await engine.start(phone.hear)
    for step, number in [*steps, ("connect", 0)]:
        if step == "publish":
            for _ in range(number):
                data = b"%d" % len(published)
                published.append(data)
                await engine.publish([Outgoing(CHANNEL, data)])
        elif step == "connect" and not phone.is_connected:
            await phone.connect(engine, len(published) - KEPT + 1)
        elif step == "leave":
            phone.is_connected = False
        elif step == "restart":
            phone.is_connected = False
            await engine.close()
            engine = EmbeddedEngine(directory)
            await engine.start(phone.hear)
    await engine.close()
    offsets = list(phone.messages)
    assert offsets == list(range(len(published) - len(offsets) + 1, len(published) + 1))
    assert len(offsets) >= min(len(published), KEPT)
    assert all(published[offset - 1] == data for offset, data in phone.messages.items())
