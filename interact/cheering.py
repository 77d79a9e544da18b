"""Cheers: taps counted by kind and team. Counters, not money: kept in memory only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from interact.limits import TokenBuckets
from interact.protocol import Reason, Refused

TAPS_PER_S: Final = 30
"""Taps of one identity that count in a second: faster than two thumbs."""

MAX_KINDS: Final = 32
MAX_TEAMS: Final = 32

_BETWEEN: Final = "\x1f"
"""Between team and kind in a counter's name; neither can hold a control character."""


class Cheers:
    """The totals of one room."""

    def __init__(self) -> None:
        self.by_kind: dict[str, int] = {}
        self.by_team: dict[str, dict[str, int]] = {}
        self.dropped = 0  # taps over the cap, for /metrics
        self._caps = TokenBuckets(TAPS_PER_S, TAPS_PER_S)

    def tap(self, now: int, identity: str, kind: str, count: int, team: str | None) -> int:
        """Count taps; gives how many counted. Over the cap they are dropped, not refused.

        Refused with BAD_REQUEST where a room would have more than 32 kinds or teams.
        """
        if kind not in self.by_kind and len(self.by_kind) >= MAX_KINDS:
            raise Refused(Reason.BAD_REQUEST, f"kind: a room has at most {MAX_KINDS} of them")
        if team is not None and team not in self.by_team and len(self.by_team) >= MAX_TEAMS:
            raise Refused(Reason.BAD_REQUEST, f"team: a room has at most {MAX_TEAMS} of them")
        counted = self._caps.take(identity, now, count)
        self.dropped += count - counted
        if counted:
            self.by_kind[kind] = self.by_kind.get(kind, 0) + counted
            if team is not None:
                kinds = self.by_team.setdefault(team, {})
                kinds[kind] = kinds.get(kind, 0) + counted
        return counted

    def hear(self, totals: Mapping[str, int]) -> None:
        """Take in what all workers counted together, by `counter_name`."""
        for name, total in totals.items():
            team, _, kind = name.rpartition(_BETWEEN)
            kinds = self.by_team.setdefault(team, {}) if team else self.by_kind
            # Own taps are shown before they were added up: never go back.
            kinds[kind] = max(total, kinds.get(kind, 0))


def counter_name(kind: str, team: str | None = None) -> str:
    """The shared counter of a kind, or of a kind within a team."""
    return kind if team is None else f"{team}{_BETWEEN}{kind}"
