"""The receiving end of one publisher's stream: numbers, losses, requests, statistics.

`Receiver` turns 16- and 32-bit numbers into extended ones, keeps the list of what is
missing, says which packets to ask for again and when to stop asking (then only a key
frame helps), and makes reception reports. `TransportRecorder` notes arrival times by
transport-wide number and writes the feedback that a browser's bandwidth estimate needs.

A missing packet is asked for at once, unless the path was seen to reorder: then only
after the time that late packets took lately (at most 20 ms). It is asked for again once
a round trip, at most ten times and for one second; after that a viewer's decoder would
have stalled longer than a key frame takes.

RFC 3550 §A.1 (restart of a source), §A.3 (loss), §A.8 (jitter); RFC 4585 §6.2.1 (NACK);
draft-holmer-rmcat-transport-wide-cc-extensions-01.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from media.rtp.rtcp import ReceptionReport, middle_ntp
from media.rtp.seq import extend_seq, extend_ts
from media.rtp.twcc import TWCC_MAX_PACKETS, build_twcc

MAX_MISSING: Final = 512
MAX_JUMP: Final = 3000
"""RFC 3550 §A.1, MAX_DROPOUT: a larger step is a new start or a stray packet."""
MAX_LATE: Final = 2048
MAX_TRIES: Final = 10
MAX_AGE_S: Final = 1.0
MAX_REORDER_S: Final = 0.020
MIN_ROUND_TRIP_S: Final = 0.010
TWCC_INTERVAL_S: Final = 0.1


class _Missing:
    __slots__ = ("asked", "due", "since", "tries")

    def __init__(self, since: float, due: float) -> None:
        self.since = since
        self.due = due
        self.asked = 0.0
        self.tries = 0


class Requests(NamedTuple):
    """What to send now: a NACK for `seqs`, and a PLI if `needs_key_frame`."""

    seqs: list[int]
    needs_key_frame: bool


class Receiver:
    """State of one received SSRC. Owned by the relay's track; one call a packet."""

    __slots__ = (
        "_bad_seq",
        "_has_first",
        "_last_sr",
        "_last_sr_at",
        "_missing",
        "_needs_key_frame",
        "_reorder_s",
        "_reported_expected",
        "_reported_received",
        "_start_seq",
        "_transit",
        "_wants_resend",
        "clock_rate",
        "duplicates",
        "given_up",
        "highest_seq",
        "highest_ts",
        "jitter",
        "octets",
        "packets",
        "recovered",
        "restarts",
        "ssrc",
    )

    def __init__(self, ssrc: int, clock_rate: int, *, wants_resend: bool) -> None:
        """`wants_resend`: whether NACK was agreed on. `clock_rate` in Hz."""
        self.ssrc = ssrc
        self.clock_rate = clock_rate
        self._wants_resend = wants_resend
        self._has_first = False
        self._start_seq = 0
        self._bad_seq = -1
        self._missing: dict[int, _Missing] = {}
        self._needs_key_frame = False
        self._reorder_s = 0.0
        self._transit = 0.0
        self._last_sr = 0
        self._last_sr_at = 0.0
        self._reported_expected = 0
        self._reported_received = 0
        self.highest_seq = 0  # extended
        self.highest_ts = 0  # extended, of the newest packet
        self.jitter = 0.0  # RTP ticks
        self.packets = 0
        self.octets = 0
        self.duplicates = 0
        self.recovered = 0  # missing ones that came after all
        self.given_up = 0
        self.restarts = 0

    def receive(
        self, seq: int, rtp_ts: int, size: int, now: float, *, is_resent: bool = False
    ) -> tuple[int, int] | None:
        """Count one packet; return its extended (number, timestamp).

        `size` is the payload in bytes, `now` monotonic seconds; `is_resent` marks one
        taken out of an RTX packet. Returns None for a duplicate, a packet too old to be
        of use, and a stray one after a jump (RFC 3550 §A.1). After a restart of the
        source numbers go on upwards and `restarts` has risen: whoever renumbers must
        switch, and a key frame is asked for.
        """
        if not self._has_first:
            self._has_first = True
            self._start_seq = self.highest_seq = seq
            self.highest_ts = rtp_ts
            self._transit = now * self.clock_rate - rtp_ts
            self.packets = 1
            self.octets = size
            return seq, rtp_ts
        highest = self.highest_seq
        step = ((seq - highest + 0x8000) & 0xFFFF) - 0x8000
        ext_ts = extend_ts(rtp_ts, self.highest_ts)
        if step == 1:
            ext_seq = highest + 1
        elif 1 < step <= MAX_JUMP:
            ext_seq = highest + step
            self._note_gap(highest + 1, ext_seq, now)
        elif step <= 0 and step > -MAX_LATE:
            return self._receive_late(highest + step, ext_ts, size, now, is_resent)
        elif is_resent:
            return None
        elif seq != self._bad_seq:
            self._bad_seq = seq + 1 & 0xFFFF
            return None
        else:
            ext_seq = highest + (step & 0xFFFF)
            self._restart(ext_seq)
        self.highest_seq = ext_seq
        self.packets += 1
        self.octets += size
        if ext_ts != self.highest_ts:
            # One sample a frame: the packets of a frame share a timestamp, not a moment.
            transit = now * self.clock_rate - ext_ts
            self.jitter += (abs(transit - self._transit) - self.jitter) / 16
            self._transit = transit
            self.highest_ts = ext_ts
        return ext_seq, ext_ts

    def poll(self, now: float, round_trip_s: float) -> Requests:
        """What to ask the publisher for now. Call when `next_deadline` says so."""
        seqs: list[int] = []
        wait = max(round_trip_s, MIN_ROUND_TRIP_S)
        hopeless: list[int] = []
        for seq, missing in self._missing.items():
            if missing.due > now:
                continue
            if missing.tries >= MAX_TRIES or now - missing.since > MAX_AGE_S:
                hopeless.append(seq)
                continue
            missing.tries += 1
            missing.asked = now
            missing.due = now + wait
            seqs.append(seq)
        for seq in hopeless:
            del self._missing[seq]
        if hopeless:
            self.given_up += len(hopeless)
            self._needs_key_frame = True
        needs_key_frame, self._needs_key_frame = self._needs_key_frame, False
        seqs.sort()
        return Requests(seqs, needs_key_frame)

    def next_deadline(self) -> float | None:
        """When `poll` has something to say, in monotonic seconds; None: nothing is missing."""
        if self._needs_key_frame:
            return 0.0
        if not self._missing:
            return None
        return min(missing.due for missing in self._missing.values())

    def key_frame_arrived(self, seq: int) -> None:
        """Nothing before the key frame at `seq` is worth asking for any more."""
        self._needs_key_frame = False
        for old in [missing for missing in self._missing if missing < seq]:
            del self._missing[old]

    @property
    def missing(self) -> list[int]:
        """Extended numbers now missing, for tests and statistics."""
        return sorted(self._missing)

    @property
    def lost(self) -> int:
        """Packets expected and not received (RFC 3550 §A.3); negative with duplicates."""
        return self.highest_seq - self._start_seq + 1 - self.packets if self._has_first else 0

    def note_sender_report(self, ntp: int, now: float) -> None:
        """Remember the newest SR (64-bit NTP), so that the sender can take the round trip."""
        self._last_sr = middle_ntp(ntp)
        self._last_sr_at = now

    def report(self, now: float) -> ReceptionReport:
        """One reception report for the time since the last one (RFC 3550 §6.4.1)."""
        expected = self.highest_seq - self._start_seq + 1 if self._has_first else 0
        expected_since = expected - self._reported_expected
        received_since = self.packets - self._reported_received
        self._reported_expected = expected
        self._reported_received = self.packets
        lost_since = expected_since - received_since
        fraction = min(255, lost_since * 256 // expected_since) if lost_since > 0 else 0
        return ReceptionReport(
            self.ssrc,
            fraction,
            self.lost,
            self.highest_seq & 0xFFFFFFFF,
            int(self.jitter),
            self._last_sr,
            int((now - self._last_sr_at) * 65536) if self._last_sr else 0,
        )

    def _receive_late(
        self, ext_seq: int, ext_ts: int, size: int, now: float, is_resent: bool
    ) -> tuple[int, int] | None:
        missing = self._missing.pop(ext_seq, None)
        if missing is None:
            if self._wants_resend or ext_seq == self.highest_seq:
                self.duplicates += 1
                return None
        else:
            self.recovered += 1
            late = now - missing.since
            if not is_resent and (not missing.tries or now - missing.asked < MIN_ROUND_TRIP_S / 2):
                # It came by itself: this path reorders, so ask less hastily.
                self._reorder_s = min(MAX_REORDER_S, max(late, self._reorder_s))
            else:
                self._reorder_s *= 0.95
        self.packets += 1
        self.octets += size
        return ext_seq, ext_ts

    def _note_gap(self, first: int, end: int, now: float) -> None:
        if not self._wants_resend:
            return
        if len(self._missing) + end - first > MAX_MISSING:
            self.given_up += len(self._missing) + end - first
            self._missing.clear()
            self._needs_key_frame = True
            return
        due = now + self._reorder_s
        for seq in range(first, end):
            self._missing[seq] = _Missing(now, due)

    def _restart(self, ext_seq: int) -> None:
        self.restarts += 1
        self._bad_seq = -1
        self._missing.clear()
        self._needs_key_frame = self._wants_resend
        self._start_seq = ext_seq - self.packets  # what was lost before is forgotten
        self._reported_expected = self.packets
        self._reported_received = self.packets


class TransportRecorder:
    """Arrival times by transport-wide number, for one transport (all its streams)."""

    __slots__ = (
        "_arrivals",
        "_count",
        "_first_new",
        "_highest",
        "_next_at",
        "_origin",
        "_unreported",
    )

    def __init__(self) -> None:
        self._arrivals: dict[int, float] = {}
        self._highest: int | None = None
        self._first_new: int | None = None
        self._unreported = 0  # one beyond the last number that a feedback covered
        self._count = 0
        self._next_at = 0.0
        self._origin = 0.0

    def record(self, seq: int, now: float) -> None:
        """Note that the 16-bit `seq` arrived `now`. Called once per packet."""
        highest = self._highest
        if highest is None:
            self._origin = now - 1.0
            self._next_at = now + TWCC_INTERVAL_S
            self._highest = self._first_new = self._unreported = ext = seq
        else:
            ext = extend_seq(seq, highest)
            if ext > highest:
                self._highest = ext
            elif ext in self._arrivals:
                return
        self._arrivals[ext] = now
        if self._first_new is None or ext < self._first_new:
            self._first_new = ext

    def next_deadline(self) -> float | None:
        """When feedback is due, in monotonic seconds; None while nothing new has arrived."""
        return None if self._first_new is None else self._next_at

    def feedback(self, sender_ssrc: int, media_ssrc: int, now: float) -> bytes | None:
        """The feedback packet for what arrived since the last one; None if nothing did.

        Numbers missing between the last feedback and the first new arrival are reported
        too, so no loss goes unseen.
        """
        first, highest = self._first_new, self._highest
        self._next_at = now + TWCC_INTERVAL_S
        if first is None or highest is None:
            return None
        first = max(min(first, self._unreported), highest - TWCC_MAX_PACKETS // 2)
        arrivals = self._arrivals
        origin = self._origin
        packet = build_twcc(
            sender_ssrc,
            media_ssrc,
            first,
            self._count,
            [
                arrivals[seq] - origin if seq in arrivals else None
                for seq in range(first, highest + 1)
            ],
        )
        self._count = self._count + 1 & 0xFF
        self._first_new = None
        self._unreported = highest + 1
        oldest = highest - TWCC_MAX_PACKETS // 4
        if len(arrivals) > TWCC_MAX_PACKETS // 2:
            self._arrivals = {s: at for s, at in arrivals.items() if s > oldest}
        return packet
