"""Recovery by (epoch, offset): what a joining reader gets, so that nothing is missed or doubled.

Live publications are buffered while history is read. Both tell of the same channel, each
with offsets; the answer to the client is history up to the position the read saw, and
then the buffered ones after that position. The live feed and the read may run ahead of
each other by any amount; only a hole between them cannot be healed, and is said.

Invariant (property-tested): a client that applies `publications`, then `follow`, then
every later live publication above `top` has seen each offset after its own exactly once,
in order, or was told `recovered=False` and then sees each after `offset` exactly once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from interact.engine import HistoryPage, Position, Publication


@dataclass(frozen=True, slots=True)
class Joined:
    """How a reader enters a channel.

    `offset` goes into the reply: the reader's own when `recovered`, else the channel's
    newest. `publications` go into the reply, `follow` are pushed right after it, and the
    live feed counts from `top` on.
    """

    epoch: str
    offset: int
    recovered: bool
    was_recovering: bool
    publications: tuple[Publication, ...]
    follow: tuple[Publication, ...]
    top: int


def merge(since: Position | None, page: HistoryPage, live: Sequence[Publication]) -> Joined | None:
    """Join a history page read after `since` with what was published meanwhile.

    `since=None`: the reader asks for no recovery and starts at the newest. `live` is in
    order of arrival. None when `live` does not continue the page: read again.
    """
    newest = page.position.offset
    follow: list[Publication] = []
    top = newest
    for publication in live:
        if publication.offset <= top:
            continue
        if publication.offset != top + 1:
            return None
        follow.append(publication)
        top += 1
    missed = _missed(since, page) if since is not None else None
    if since is None or missed is None:
        return Joined(
            epoch=page.position.epoch,
            offset=newest,
            recovered=False,
            was_recovering=since is not None,
            publications=(),
            follow=tuple(follow),
            top=top,
        )
    return Joined(
        epoch=page.position.epoch,
        offset=since.offset,
        recovered=True,
        was_recovering=True,
        publications=missed,
        follow=tuple(follow),
        top=top,
    )


def _missed(since: Position, page: HistoryPage) -> tuple[Publication, ...] | None:
    """Every publication after `since` up to the page's position, or None if any is gone."""
    if not page.recovered or since.epoch != page.position.epoch:
        return None
    if since.offset > page.position.offset:
        return None
    missed = tuple(p for p in page.publications if p.offset > since.offset)
    if len(missed) != page.position.offset - since.offset:
        return None  # cut by the read's limit, or a hole
    if any(p.offset != since.offset + 1 + i for i, p in enumerate(missed)):
        return None
    return missed
