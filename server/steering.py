"""Which media worker takes a viewer or a publisher. Pure.

A viewer goes to the least busy worker that is up. Busy is counted in sessions: those that a
worker told of and those placed there since; a core more than half used, or a loop that
runs late, counts as more sessions, so that streams heavier than usual are noticed. Nobody
is moved once placed, and figures below their thresholds count nothing, so no measure can
make placements swing. A worker that has nothing of the room yet costs a pull more.

A publisher goes where its camera is live or was just accepted, so that the newest takes
over at once; else to the least busy worker.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from server.media_view import Load

PULL_COST: Final = 2.0
"""Sessions that one more pull weighs: a feed there, a publisher here."""

BUSY_CPU: Final = 0.5
"""Share of a core up to which sessions alone decide."""

CPU_STEP: Final = 0.1
SESSIONS_PER_CPU_STEP: Final = 50
"""Viewers of a usual stream that take a tenth of a core (docs/benchmarks.md)."""

LATE_MS: Final = 40.0
LAG_STEP_MS: Final = 20.0
SESSIONS_PER_LAG_STEP: Final = 5

SMOOTHING: Final = 0.3
"""Weight of the newest second."""

ACCEPTED_S: Final = 10.0
"""How long a camera's place is kept for it between its offer and its first packet."""

MAX_ACCEPTED: Final = 10_000


@dataclass(slots=True)
class _Worker:
    is_up: bool = False
    sessions: int = 0
    placed: int = 0
    """Since the last report."""
    cpu: float = 0.0
    lag_ms: float = 0.0

    def busy(self) -> float:
        cpu_steps = max(0, math.floor((self.cpu - BUSY_CPU) / CPU_STEP))
        lag_steps = max(0, math.floor((self.lag_ms - LATE_MS) / LAG_STEP_MS))
        return (
            self.sessions
            + self.placed
            + cpu_steps * SESSIONS_PER_CPU_STEP
            + lag_steps * SESSIONS_PER_LAG_STEP
        )


class Steering:
    """Every worker's load, and the order in which to ask them."""

    def __init__(self, indices: Sequence[int]) -> None:
        self._workers = {index: _Worker() for index in indices}
        self._accepted: dict[tuple[str, str], tuple[int, float]] = {}

    def up(self, index: int) -> None:
        """A worker is there, perhaps anew."""
        self._workers[index] = _Worker(is_up=True)

    def down(self, index: int) -> None:
        """A worker is gone."""
        self._workers[index].is_up = False

    def report(self, index: int, load: Load) -> None:
        """A worker told how busy it was."""
        worker = self._workers[index]
        worker.sessions, worker.placed = load.sessions, 0
        worker.cpu += (load.cpu - worker.cpu) * SMOOTHING
        worker.lag_ms += (load.lag_ms - worker.lag_ms) * SMOOTHING

    def placed(self, index: int) -> None:
        """A session was made on a worker."""
        self._workers[index].placed += 1

    def accepted(self, room: str, camera: str, index: int, now: float) -> None:
        """A publisher's offer was answered by a worker."""
        self._accepted.pop((room, camera), None)
        self._accepted[room, camera] = (index, now)
        if len(self._accepted) > MAX_ACCEPTED:
            del self._accepted[next(iter(self._accepted))]

    def expected(self, room: str, now: float) -> list[int]:
        """Workers that took a publisher of the room a moment ago."""
        return [
            index
            for (in_room, _), (index, at) in self._accepted.items()
            if in_room == room and now - at < ACCEPTED_S
        ]

    def for_viewer(self, present: set[int]) -> list[int]:
        """Workers that are up, the best first; `present` have something of the room."""
        return self._least_busy(present)

    def for_publisher(self, room: str, camera: str, home: int | None, now: float) -> list[int]:
        """Workers that are up, the best first; `home` is where the camera is live."""
        order = self._least_busy(set(self._workers))
        accepted, at = self._accepted.get((room, camera), (None, 0.0))
        if home is None and accepted is not None and now - at < ACCEPTED_S:
            home = accepted
        if home in order:
            order.remove(home)
            order.insert(0, home)
        return order

    def _least_busy(self, present: set[int]) -> list[int]:
        def cost(index: int) -> tuple[float, int]:
            pull = 0.0 if index in present or not present else PULL_COST
            return self._workers[index].busy() + pull, index

        return sorted((i for i, worker in self._workers.items() if worker.is_up), key=cost)
