"""One continuous output stream out of many sources: a subscriber's line.

A viewer's line keeps one SSRC for its whole life, while its source changes (camera cut,
simulcast layer) and packets are left out (slow viewer, padding). Receivers take a jump
in sequence numbers for loss and a jump in timestamps for a stall, so both are moved.

**Steady state is two additions.** Between changes every packet of the source moves by
the same amounts, and the relay applies them itself in its batched loop:

    if seq >= line.plain_from:                  # extended numbers of the source
        out_seq = seq + line.seq_offset         # & 0xFFFF on the wire
        out_ts = rtp_ts + line.ts_offset        # & 0xFFFFFFFF on the wire
    else:                                       # late, or replayed from the cache
        moved = line.rewrite(source, seq, rtp_ts)

with `picture_offset` and `tl0_offset` for VP8 and VP9 (0 until the first switch). Methods
run only when something changes. What was sent under which number is kept as segments
(source, first, last, offsets), the newest 128, which also answers NACKs.

**Joining late.** A replayed key frame may be seconds old. If its frames kept their
spacing, the receiver would play that far behind for ever. So `switch` takes the point
where live begins, and frames before it are squeezed: `SQUEEZE` times closer together,
the newest at the time it would have had. The decoder runs through them at full speed
and shows the present.

Invariants: output numbers of a line rise by one a packet, with no gap and no repeat; a
packet keeps its number however often it is asked for (until its source is chosen again
and replayed); output timestamps rise across a switch.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from media.rtp.history import Packet
from media.rtp.keyframe import picture_ids
from media.rtp.seq import extend_seq

SQUEEZE: Final = 30
"""3,000 ticks between frames become 100: still distinct, three seconds become 0.1 s."""
MAX_SEGMENTS: Final = 128


class Position(NamedTuple):
    """Where a source stands: a packet's extended numbers and its picture numbers."""

    seq: int
    rtp_ts: int
    picture_id: int = -1
    """Of 7 or 15 bits; -1 where the codec has none."""
    tl0: int = -1


def position_of(packet: Packet, codec: str) -> Position:
    """The position of a kept packet; `codec` by the names of media/negotiation.py."""
    picture_id, _, tl0, _ = picture_ids(codec, packet.payload, 0, len(packet.payload))
    return Position(packet.seq, packet.rtp_ts, picture_id, tl0)


class Moved(NamedTuple):
    """A packet's numbers on the line (extended), and what its picture numbers move by."""

    seq: int
    rtp_ts: int
    picture_offset: int
    tl0_offset: int


class Segment:
    """A run of source packets that all moved by the same amounts."""

    __slots__ = (
        "first",
        "last",
        "live_ts",
        "picture_offset",
        "plain_from",
        "seq_offset",
        "source",
        "tl0_offset",
        "ts_offset",
    )

    def __init__(
        self,
        source: int,
        first: int,
        seq_offset: int,
        ts_offset: int,
        plain_from: int,
        live_ts: int,
        picture_offset: int,
        tl0_offset: int,
    ) -> None:
        self.source = source
        self.first = first
        self.last: int | None = None  # None: still running
        self.seq_offset = seq_offset
        self.ts_offset = ts_offset
        self.plain_from = plain_from  # packets before it are squeezed in time
        self.live_ts = live_ts  # towards this timestamp
        self.picture_offset = picture_offset
        self.tl0_offset = tl0_offset

    def timestamp(self, seq: int, rtp_ts: int) -> int:
        """The output timestamp of a source packet in this segment."""
        if seq >= self.plain_from:
            return rtp_ts + self.ts_offset
        live = self.live_ts
        return live + self.ts_offset - (live - rtp_ts) // SQUEEZE


class Rewriter:
    """The numbers of one output line. Owned by the relay's subscriber; plain attributes.

    `source` names the stream now forwarded (the relay's number for a track's layer); it
    is -1 until the first switch.
    """

    __slots__ = (
        "_base",
        "_first_seq",
        "_first_ts",
        "_segments",
        "clock_rate",
        "picture_offset",
        "plain_from",
        "seq_offset",
        "source",
        "tl0_offset",
        "ts_offset",
    )

    def __init__(self, first_seq: int, first_ts: int, clock_rate: int) -> None:
        """`first_seq` (16 bits) and `first_ts` (32 bits) are drawn at random by the caller."""
        self._first_seq = first_seq
        self._first_ts = first_ts
        self._segments: deque[Segment] = deque(maxlen=MAX_SEGMENTS)
        # The last output before the running source, for a switch before anything was sent.
        self._base: Position | None = None
        self.clock_rate = clock_rate
        self.source = -1
        self.plain_from = 0
        self.seq_offset = 0
        self.ts_offset = 0
        self.picture_offset = 0
        self.tl0_offset = 0

    def switch(
        self,
        source: int,
        first: Position,
        last: Position | None = None,
        elapsed_s: float = 0.0,
        live: Position | None = None,
    ) -> None:
        """From now on forward `source`, beginning with the packet at `first`.

        `last` is the newest packet of the former source that was sent on this line (None
        if none was since the last switch), `elapsed_s` the time since this line last sent
        anything, in seconds. `live` is the newest packet that the new source already has,
        when packets from `first` up to it are replayed from the cache; None when `first`
        is the live packet itself.
        """
        segments = self._segments
        sent = None if last is None else self._segment(self.source, last.seq)
        if sent is not None and last is not None:
            sent.last = last.seq
            self._base = Position(
                last.seq + sent.seq_offset,
                sent.timestamp(last.seq, last.rtp_ts),
                -1 if last.picture_id < 0 else last.picture_id + sent.picture_offset,
                -1 if last.tl0 < 0 else last.tl0 + sent.tl0_offset,
            )
        base = self._base
        # Numbers that were set aside and never sent are free again.
        while segments and (
            base is None or segments[-1].first + segments[-1].seq_offset > base.seq
        ):
            segments.pop()
        live_ts = first.rtp_ts if live is None else max(live.rtp_ts, first.rtp_ts)
        lead = (live_ts - first.rtp_ts) // SQUEEZE
        picture_offset = tl0_offset = 0
        if base is None:
            out_seq = self._first_seq
            out_live = self._first_ts + lead
        else:
            out_seq = base.seq + 1
            out_live = base.rtp_ts + max(1 + lead, round(elapsed_s * self.clock_rate))
            if base.picture_id >= 0 and first.picture_id >= 0:
                picture_offset = base.picture_id + 1 - first.picture_id
            if base.tl0 >= 0 and first.tl0 >= 0:
                tl0_offset = base.tl0 + 1 - first.tl0
        self.source = source
        self.plain_from = first.seq if live is None else max(live.seq + 1, first.seq)
        self.seq_offset = out_seq - first.seq
        self.ts_offset = out_live - live_ts
        self.picture_offset = picture_offset
        self.tl0_offset = tl0_offset
        segments.append(
            Segment(
                source,
                first.seq,
                self.seq_offset,
                self.ts_offset,
                self.plain_from,
                live_ts,
                picture_offset,
                tl0_offset,
            )
        )

    def drop(self, seq: int) -> None:
        """Leave out the running source's packet `seq`; later ones close the gap.

        `seq` must be newer than every packet of the source that was sent on this line; a
        late packet is simply not sent (its number stays a hole). A run of drops costs one
        segment.
        """
        if not self._segments or seq < (now := self._segments[-1]).first:
            return
        self.seq_offset -= 1
        self.plain_from = max(self.plain_from, seq + 1)
        if now.first == seq:
            now.first = seq + 1
            now.seq_offset -= 1
            return
        now.last = seq - 1
        self._segments.append(
            Segment(
                now.source,
                seq + 1,
                now.seq_offset - 1,
                now.ts_offset,
                now.plain_from,
                now.live_ts,
                now.picture_offset,
                now.tl0_offset,
            )
        )

    def rewrite(self, source: int, seq: int, rtp_ts: int) -> Moved | None:
        """Where any packet of any source goes, or None if it has no place on this line.

        For late, replayed and resent packets; the same answer every time it is asked.
        """
        segment = self._segment(source, seq)
        if segment is None:
            return None
        return Moved(
            seq + segment.seq_offset,
            segment.timestamp(seq, rtp_ts),
            segment.picture_offset,
            segment.tl0_offset,
        )

    def find(self, out_seq: int, newest: int) -> tuple[int, int] | None:
        """The (source, source number) that was sent as the 16-bit `out_seq`, for a NACK.

        `newest` is the newest source number sent on this line from the running source.
        None when it is older than the segments reach or in nobody's range.
        """
        wanted = extend_seq(out_seq, newest + self.seq_offset)
        for segment in reversed(self._segments):
            seq = wanted - segment.seq_offset
            if seq >= segment.first:
                if segment.last is None or seq <= segment.last:
                    return segment.source, seq
                return None
        return None

    def _segment(self, source: int, seq: int) -> Segment | None:
        for segment in reversed(self._segments):
            if (
                segment.source == source
                and seq >= segment.first
                and (segment.last is None or seq <= segment.last)
            ):
                return segment
        return None
