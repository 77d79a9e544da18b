"""Which simulcast layer one viewer is sent: four numbers and a few waits. Pure.

    current      what the viewer sees now (told by the caller)
    target       what it shall see as soon as that begins with a key frame
    goal         what it would see if the publisher sent it (a paused layer may be wanted)
    max_allowed  the height that the viewer itself asked for at most; None: any
    max_seen     the highest layer that ever sent, by height

**Down at once**: a layer that costs more than the estimate is left for the best one that
fits; so is one that stopped sending while another sends. **Up slowly**: one layer at a
time, only when it fits with `UP_MARGIN` to spare, `UP_HOLD_S` after the last change, and
not while a hold-off runs. An up-switch that has to be taken back within `FAIL_S` has
failed: the hold-off doubles, `HOLD_OFF_MAX_S` at most, and is forgiven when a climb
has lasted `FORGIVE_S`.

An estimate cannot know of more than has been sent, so before climbing the chooser asks
for **padding** up to what the next layer would cost, for `PROBE_S` at most; a probe that
brought nothing is a failed climb like any other, with no frame lost. Where no padding
can be sent (no RTX agreed), the climb itself is the probe, after `BLIND_S` of quiet.

Below the lowest layer there is nothing to choose: the caller thins the picture
(`Choice.is_thin`), sound goes on.

Invariants: the target is a layer that sends, if any does; it is never above max_allowed
unless every layer is; two climbs are at least UP_HOLD_S apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

UP_MARGIN: Final = 1.15
"""A layer's rate varies by its content: climb only with this much room."""
DOWN_MARGIN: Final = 1.05
"""The present layer may measure this much above the estimate before it is left."""
FALL_MARGIN: Final = 1.2
"""A fall goes to a layer with this much room: queues must drain and losses be resent."""
UP_HOLD_S: Final = 2.0
FAIL_S: Final = 5.0
HOLD_OFF_S: Final = 4.0
HOLD_OFF_MAX_S: Final = 32.0
FORGIVE_S: Final = 30.0
PROBE_S: Final = 3.0
PROBE_GAIN: Final = 1.1
"""A probe that raised the estimate by this factor in its time may go on."""
PROBE_MARGIN: Final = 1.25
BLIND_S: Final = 8.0
STOPPED_S: Final = 0.7
"""A layer this much more silent than the liveliest of its track has stopped."""
THIN_BELOW: Final = 0.6
"""Share of the lowest layer's rate under which its picture is thinned (one false alarm of a
viewer's estimator costs 15 %)..."""
THIN_AFTER_S: Final = 1.5
"""...if it stays there for this long after the lowest layer was chosen..."""
WHOLE_ABOVE: Final = 1.0
"""...and from which on it is sent whole again."""
UNWANTED_S: Final = 10.0
"""A layer is called unwanted after nobody wanted it for this long: encoders that are
switched off and on again cost a key frame and a second of poor picture each time."""


class LayerOffer(NamedTuple):
    """One layer as the chooser sees it."""

    number: int
    """Unique in the worker."""
    height_px: int
    """0 before its size is known."""
    bitrate_bps: float
    """Measured; of a layer that stopped, what it was. 0: never measured."""
    silent_s: float
    """Since its last packet."""


class Choice(NamedTuple):
    """What to do now."""

    target: int | None
    """The layer to aim at; None: nothing sends."""
    probe_bps: float
    """Send padding until this much is sent altogether; 0: none."""
    is_thin: bool
    """Not even the lowest layer fits."""


@dataclass(frozen=True, slots=True)
class Want:
    """The layers that one subscriber of a track needs: by number, None where there is none."""

    current: int | None
    target: int | None
    goal: int | None


class LayerChooser:
    """The choice for one viewer's picture. Owned by its session."""

    __slots__ = (
        "_climbed_at",
        "_held_until",
        "_hold_off_s",
        "_probe_base_bps",
        "_probe_from",
        "changed_at",
        "climbs",
        "failures",
        "goal",
        "is_thin",
        "max_allowed",
        "max_seen",
        "target",
    )

    def __init__(self) -> None:
        self.max_allowed: int | None = None
        """In pixels of height. Written by the owner."""
        self.max_seen = 0
        self.target: int | None = None
        self.goal: int | None = None
        self.is_thin = False
        self.climbs = 0
        self.failures = 0
        self.changed_at: float | None = None
        self._climbed_at: float | None = None
        self._hold_off_s = HOLD_OFF_S
        self._held_until = 0.0
        self._probe_from: float | None = None
        self._probe_base_bps = 0.0

    def restart(self) -> None:
        """Another camera: choose afresh. What was learnt about climbing stays."""
        self.target = None
        self.goal = None
        self.is_thin = False
        self.changed_at = None
        self._climbed_at = None
        self._probe_from = None

    def forget_wait(self) -> None:
        """The viewer itself asked for another quality: climb now if there is room."""
        self.changed_at = None
        self._held_until = 0.0

    def choose(
        self,
        offers: Sequence[LayerOffer],
        estimate_bps: float,
        now: float,
        *,
        is_known: bool = True,
        can_probe: bool = True,
    ) -> Choice:
        """Decide. `is_known` False: the estimate is a guess, no reason to go down.

        Called on each feedback and some ten times a second.
        """
        ladder = sorted(offers, key=lambda o: (o.height_px, o.bitrate_bps, o.number))
        if not ladder:
            self.target = self.goal = None
            self.is_thin = False
            return Choice(None, 0, False)
        liveliest = min(o.silent_s for o in ladder)
        sending = {o.number for o in ladder if o.silent_s <= liveliest + STOPPED_S}
        self.max_seen = max(self.max_seen, *(o.height_px for o in ladder if o.number in sending))
        cap = self.max_allowed
        allowed = [o for o in ladder if cap is None or o.height_px <= cap] or ladder[:1]
        usable = [o for o in allowed if o.number in sending]
        if not usable:
            usable = [next(o for o in ladder if o.number in sending)]
        self.goal = _best(allowed, estimate_bps, UP_MARGIN).number
        current = next((o for o in usable if o.number == self.target), None)
        if current is None:
            # The first choice, a new cap, or the layer stopped: the best that fits, at once.
            self._move(_best(usable, estimate_bps, 1.0), now)
            return self._result(usable, estimate_bps, now, is_known)
        is_too_much = is_known and current.bitrate_bps > estimate_bps * DOWN_MARGIN
        if is_too_much and current is not usable[0]:
            if self._climbed_at is not None and now - self._climbed_at < FAIL_S:
                self._fail(now)
            self._move(_best(usable, estimate_bps, FALL_MARGIN), now)
            return self._result(usable, estimate_bps, now, is_known)
        if self._climbed_at is not None and now - self._climbed_at > FORGIVE_S:
            self._hold_off_s = HOLD_OFF_S
        return self._consider_climb(
            allowed, usable, current, estimate_bps, now, is_known, can_probe
        )

    def _consider_climb(
        self,
        allowed: list[LayerOffer],
        usable: list[LayerOffer],
        current: LayerOffer,
        estimate_bps: float,
        now: float,
        is_known: bool,
        can_probe: bool,
    ) -> Choice:
        thin = self._result(usable, estimate_bps, now, is_known)
        if thin.is_thin:
            self._probe_from = None
            return thin
        above = allowed[allowed.index(current) + 1 :] if current in allowed else []
        is_new = self.changed_at is not None and now - self.changed_at < UP_HOLD_S
        rested = not is_new and now >= self._held_until
        if not above or not rested:
            self._probe_from = None
            return self._result(usable, estimate_bps, now, is_known)
        step = next((o for o in above if o in usable), above[0])
        if step.bitrate_bps * UP_MARGIN <= estimate_bps:
            if step in usable:
                self._climb(step, now)
            return self._result(usable, estimate_bps, now, is_known)
        if not can_probe:
            quiet_since = max(self.changed_at or now - BLIND_S, self._held_until)
            if step in usable and now - quiet_since >= BLIND_S:
                self._climb(step, now)
            return self._result(usable, estimate_bps, now, is_known)
        if self._probe_from is None or (
            now - self._probe_from > PROBE_S and estimate_bps > self._probe_base_bps * PROBE_GAIN
        ):
            self._probe_from = now
            self._probe_base_bps = estimate_bps
        elif now - self._probe_from > PROBE_S:
            self._fail(now)
            return self._result(usable, estimate_bps, now, is_known)
        return self._result(usable, estimate_bps, now, is_known, step.bitrate_bps * PROBE_MARGIN)

    def _result(
        self,
        usable: list[LayerOffer],
        estimate_bps: float,
        now: float,
        is_known: bool,
        probe_bps: float = 0.0,
    ) -> Choice:
        lowest = usable[0]
        if lowest.number != self.target or not is_known:
            self.is_thin = False
        elif estimate_bps < lowest.bitrate_bps * THIN_BELOW:
            is_new = self.changed_at is not None and now - self.changed_at < THIN_AFTER_S
            self.is_thin = self.is_thin or not is_new
        elif estimate_bps >= lowest.bitrate_bps * WHOLE_ABOVE:
            self.is_thin = False
        return Choice(self.target, probe_bps, self.is_thin)

    def _move(self, to: LayerOffer, now: float) -> None:
        if to.number != self.target:
            self.target = to.number
            self.changed_at = now
        self._climbed_at = None
        self._probe_from = None

    def _climb(self, to: LayerOffer, now: float) -> None:
        self._move(to, now)
        self.climbs += 1
        self._climbed_at = now

    def _fail(self, now: float) -> None:
        self.failures += 1
        self._held_until = now + self._hold_off_s
        self._hold_off_s = min(self._hold_off_s * 2, HOLD_OFF_MAX_S)
        self._probe_from = None


def _best(ladder: Sequence[LayerOffer], estimate_bps: float, margin: float) -> LayerOffer:
    """The highest that fits, else the lowest."""
    fitting = [o for o in ladder if o.bitrate_bps * margin <= estimate_bps]
    return fitting[-1] if fitting else ladder[0]


def wanted_layers(numbers: Sequence[int], wants: Iterable[Want]) -> frozenset[int]:
    """The layers of a track, given from the lowest to the highest, that somebody needs.

    The lowest is always wanted: the next viewer's first picture comes from it.
    """
    wanted = set(numbers[:1])
    for want in wants:
        wanted.update(n for n in numbers if n in (want.current, want.target, want.goal))
    return frozenset(wanted)


class WantedLayers:
    """What a publisher was told last, with a wait before a layer is called unwanted."""

    __slots__ = ("_seen_at", "told")

    def __init__(self) -> None:
        self.told: tuple[str, ...] | None = None
        self._seen_at: dict[str, float] = {}

    def update(
        self, rids: Sequence[str], wanted: Iterable[str], now: float
    ) -> tuple[str, ...] | None:
        """The wanted rids in the order of `rids` if they differ from what was told, or None.

        A rid that was never judged before counts as wanted now. Call about once a second.
        """
        fresh = set(wanted)
        for rid in rids:
            if rid in fresh or rid not in self._seen_at:
                self._seen_at[rid] = now
        current = tuple(rid for rid in rids if now - self._seen_at[rid] < UNWANTED_S)
        if current == self.told:
            return None
        self.told = current
        return current
