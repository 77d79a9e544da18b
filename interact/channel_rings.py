"""The newest publications of each channel in memory, whatever engine stores them.

A thousand phones that reconnect at once are answered from here, so none of them makes
anybody read a disk or ask another server.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import islice
from typing import Final

from interact.engine import HistoryPage, Position, Publication

_SIZE: Final = {"room": 1_000, "user": 50}
_SIZE_OTHERWISE: Final = 100
"""Newest publications of a channel kept in memory, by the channel's first word."""

MAX_RINGS: Final = 10_000
"""Channels with something in memory; the longest unused is forgotten first."""


class Ring:
    """A channel's newest offset and its newest publications, without a gap between."""

    __slots__ = ("head", "items")

    def __init__(self, channel: str, head: int) -> None:
        self.head = head
        size = _SIZE.get(channel.partition(":")[0], _SIZE_OTHERWISE)
        self.items: deque[Publication] = deque(maxlen=size)

    def page(
        self, epoch: str, since: Position | None, limit: int, *, reverse: bool
    ) -> HistoryPage | None:
        """The page that Engine.history would give, or None where memory does not reach."""
        position = Position(epoch, self.head)
        if since is None:
            if limit == 0:
                return HistoryPage(position, (), True)
            has_all = len(self.items) == self.head
            if not has_all and not (reverse and 0 < limit <= len(self.items)):
                return None
            first = 0
        else:
            if since.epoch != epoch or since.offset > self.head:
                return HistoryPage(position, (), False)
            first = since.offset - (self.head - len(self.items))
            if first < 0:
                return None
        count = len(self.items) - first if limit < 0 else limit
        if reverse:
            newest = islice(reversed(self.items), min(count, len(self.items) - first))
            return HistoryPage(position, tuple(newest), True)
        return HistoryPage(position, tuple(islice(self.items, first, first + count)), True)

    def newer(self, head: int) -> list[Publication] | None:
        """What came after offset `head`, or None where memory does not reach back to it."""
        newer = [item for item in self.items if item.offset > head]
        return newer if self.head - head <= len(newer) else None


class Rings:
    """The rings of every channel heard of lately. Use from the event loop only."""

    def __init__(self) -> None:
        self._rings: OrderedDict[str, Ring] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rings)

    def get(self, channel: str) -> Ring | None:
        """The channel's ring, if there is one."""
        return self._rings.get(channel)

    def channels(self) -> list[str]:
        """Every channel with a ring."""
        return list(self._rings)

    def remember(self, publication: Publication) -> None:
        """Take in the channel's next publication."""
        channel = publication.channel
        ring = self._rings.get(channel)
        if ring is None:
            ring = self.open(channel, publication.offset)
        else:
            self._rings.move_to_end(channel)
            if publication.offset != ring.head + 1:
                ring.items.clear()  # a group whose commit failed half-known; never a gap
        ring.head = publication.offset
        ring.items.append(publication)

    def open(self, channel: str, head: int) -> Ring:
        """Begin a ring whose newest offset is `head`."""
        ring = self._rings[channel] = Ring(channel, head)
        if len(self._rings) > MAX_RINGS:
            self._rings.popitem(last=False)
        return ring

    def forget(self, channel: str) -> None:
        """The ring is not to be trusted any more."""
        self._rings.pop(channel, None)
