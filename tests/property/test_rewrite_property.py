"""A subscriber's numbering against a model that keeps a list of everything sent."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from media.rtp.rewrite import Moved, Position, Rewriter

STARTS = st.sampled_from((0, 1, 127, 128, 129, 32767, 32768, 32769, 65534, 65535))


class Numbering(RuleBasedStateMachine):
    """Sources count up with losses and late arrivals; the line must stay continuous."""

    @initialize(line=STARTS, sources=st.lists(STARTS, min_size=3, max_size=3))
    def start(self, line: int, sources: list[int]) -> None:
        self.rewriter = Rewriter(line, 4_000_000_000, 90_000)
        self.line_start = line
        self.next = list(sources)
        self.sent: dict[int, tuple[int, int]] = {}  # output number -> (source, number)
        self.moved: dict[tuple[int, int], Moved] = {}  # since that source was last chosen
        self.missing: list[tuple[int, int, int]] = []  # (source, number, output number)
        self.now = -1
        self.last: Position | None = None
        self.top = line - 1  # highest output number sent or set aside for a lost packet
        self.top_ts = -1

    def position(self, source: int) -> Position:
        return Position(self.next[source], self.next[source] * 3000)

    @rule(source=st.integers(0, 2), elapsed=st.floats(0, 5), replay=st.integers(0, 20))
    def switch(self, source: int, elapsed: float, replay: int) -> None:
        first = self.position(source)
        live = Position(first.seq + replay, first.rtp_ts + replay * 3000) if replay else None
        self.rewriter.switch(source, first, self.last, elapsed, live)
        # What was lost after the last packet sent leaves no hole: its number is free again.
        self.top = max(self.sent, default=self.line_start - 1)
        self.missing = [entry for entry in self.missing if entry[2] <= self.top]
        self.now, self.last = source, None

    @rule()
    def send(self) -> None:
        if self.now < 0:
            return
        here = self.position(self.now)
        self.next[self.now] += 1
        moved = self.rewriter.rewrite(self.now, here.seq, here.rtp_ts)
        assert moved is not None
        assert moved.seq == self.top + 1
        assert moved.rtp_ts > self.top_ts
        if here.seq >= self.rewriter.plain_from:
            assert moved.seq == here.seq + self.rewriter.seq_offset
            assert moved.rtp_ts == here.rtp_ts + self.rewriter.ts_offset
        self.sent[moved.seq] = (self.now, here.seq)
        self.moved[(self.now, here.seq)] = moved
        self.top, self.top_ts, self.last = moved.seq, moved.rtp_ts, here

    @rule()
    def drop(self) -> None:
        if self.now < 0:
            return
        self.rewriter.drop(self.next[self.now])
        self.next[self.now] += 1

    @rule()
    def lose(self) -> None:
        if self.now < 0:
            return
        self.top += 1
        self.missing.append((self.now, self.next[self.now], self.top))
        self.next[self.now] += 1

    @rule(which=st.integers(0, 1000))
    def arrive_late(self, which: int) -> None:
        if not self.missing:
            return
        source, seq, out = self.missing.pop(which % len(self.missing))
        moved = self.rewriter.rewrite(source, seq, seq * 3000)
        if out > max(self.sent, default=self.line_start - 1):
            return  # not overtaken yet: as good as newest
        assert moved is not None
        assert moved.seq == out
        assert out not in self.sent
        self.sent[out] = (source, seq)

    @invariant()
    def nacks_find_what_was_sent(self) -> None:
        if self.last is None:
            return
        for out, (source, seq) in list(self.sent.items())[-20:]:
            assert self.rewriter.find(out & 0xFFFF, self.last.seq) == (source, seq)

    @invariant()
    def packets_keep_their_numbers(self) -> None:
        if self.now < 0:
            return
        for (source, seq), moved in list(self.moved.items())[-20:]:
            assert self.rewriter.rewrite(source, seq, seq * 3000) == moved


TestNumbering = Numbering.TestCase
TestNumbering.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
