"""One camera pulled from another media worker: ICE, DTLS and packets in, a publisher inside.

Each pull has a socket of its own, because the other end tells peers apart by address and
all of ours would share one. The socket is bound to no port or address in particular, so
between machines only the pulled worker's media port must be reachable.

The pulled camera is a `PulledPublisher`: what it received is fanned out by the worker's own
port like any other, NACK, PLI and reports go back over the pull, and its layers are found by
the SSRCs of the answer instead of by header extensions.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from media.feed import PullAnswer
from media.ice_client import Address, IceClient, IceState
from media.intake import MAX_BURSTS, Intake
from media.negotiation import Line, PublishPlan, Remote
from media.peer import CloseReason, Peer
from media.publisher import Publisher
from media.srtp import slot_pointers
from media.track import Layer
from media.udp import RECEIVE_SLOTS, SLOT_BYTES, SOCKET_BUFFER_BYTES, SendMode, open_port

if TYPE_CHECKING:
    import random

    from media.rooms import Camera, Room


EARLY_PACKETS: Final = 1024
"""Kept until our handshake task has run: the other worker has its keys first, and what
follows its last flight at once is the key frame."""


class PulledPublisher(Publisher):
    """A camera that another worker receives; `origin` says which, for people."""

    is_pull = True

    def __init__(
        self,
        session_id: str,
        room: Room[Publisher, Any],
        camera: Camera[Publisher],
        answer: PullAnswer,
        origin: str,
        own_ssrc: int,
        cname: str,
        on_stream: Callable[[Publisher, Layer], None],
        on_bye: Callable[[Publisher], None],
    ) -> None:
        lines: dict[str, Line] = {}
        self.rids: dict[int, str] = {}
        self.repairs: dict[int, int] = {}
        for track in answer.tracks:
            groups = []
            for line in track.lines:
                self.rids[line.ssrc] = line.rid
                if line.rtx_ssrc:
                    self.repairs[line.rtx_ssrc] = line.ssrc
                    groups.append(("FID", (line.ssrc, line.rtx_ssrc)))
            lines[track.kind] = Line(
                track.kind,
                track.kind,
                tuple(track.codecs),
                {},
                tuple(line.rid for line in track.lines if line.rid),
                tuple(s for line in track.lines for s in (line.ssrc, line.rtx_ssrc) if s),
                tuple(groups),
            )
        remote = Remote(answer.ufrag, answer.pwd, tuple(answer.fingerprints), (), True)
        plan = PublishPlan("", remote, lines.get("video"), lines.get("audio"))
        super().__init__(session_id, room, camera, "pull", plan, own_ssrc, cname, on_stream, on_bye)
        self.origin = origin
        self.way: PullSocket
        """Set by the relay at once."""
        self.failure = ""

    def fail(self, why: str) -> None:
        """The way to the other worker is gone."""
        self.failure = why
        self.peer.close(CloseReason.TIMEOUT)

    def stats(self, now: float) -> dict[str, Any]:
        way = {"origin": self.origin, "path": self.way.path, "hop_rtt_ms": self.way.round_trip_ms}
        return way | super().stats(now)

    def feed_back(self, now: float) -> None:
        super().feed_back(now)
        self.peer.flush()

    def _ask_key_frame(self, layer: Layer) -> None:
        super()._ask_key_frame(layer)
        self.peer.flush()  # the timer would cost a joining viewer another 20 ms

    def rid_of(self, data: memoryview, ssrc: int, extensions: int, start: int, rid_id: int) -> str:
        return self.rids.get(ssrc, "")

    def repaired_ssrc(self, ssrc: int) -> int | None:
        return self.repairs.get(ssrc)


class PullSocket:
    """The way to the other worker: one socket, its checks, its handshake, its packets."""

    def __init__(
        self,
        answer: PullAnswer,
        intake: Intake,
        local_ufrag: str,
        rng: random.Random,
        on_failed: Callable[[str], None],
    ) -> None:
        """Raises OSError, and ValueError for an answer without a usable candidate.

        `on_failed` is called once, on the loop, when there is no path or it went silent.
        """
        family, candidates = _usable(answer.candidates)
        self._sock = socket.socket(family, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self._sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
        self._sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
        # Little goes out this way; packets come in by the batch.
        self.port = open_port(self._sock, best=SendMode.SENDMMSG)
        self.peer: Peer
        self._intake = intake
        self._pointers = slot_pointers(self.port.store, SLOT_BYTES)
        self._ice = IceClient(
            local_ufrag, answer.ufrag, answer.pwd, candidates, time.monotonic(), rng
        )
        self._on_failed = on_failed
        self._early: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to check. `peer` must have been set."""
        self._loop.add_reader(self._sock.fileno(), self._on_readable)
        self._poll()

    def close(self) -> None:
        """Send what is queued and let the socket go. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self.port.flush()
            self._sock.close()

    @property
    def path(self) -> str:
        """Where packets come from, for people."""
        return "{}:{}".format(*self._ice.selected) if self._ice.selected else ""

    @property
    def round_trip_ms(self) -> float | None:
        """Of the latest check, in milliseconds."""
        trip = self._ice.round_trip_s
        return round(trip * 1000, 2) if trip is not None else None

    def take_early(self) -> None:
        """The keys are there: open what came before them. Not called during a burst."""
        early, self._early = self._early, []
        slot, now = self.port.slots[0], time.monotonic()
        for data in early:
            slot[: len(data)] = data
            self._intake.take_srtp(self.peer, self._pointers[0], slot, len(data), now)
        self._intake.fan_out(now)
        self._intake.port.flush()

    def _poll(self) -> None:
        """Send the checks that are due."""
        self._timer = None
        if self._sock.fileno() < 0:
            return
        now = time.monotonic()
        for data, address in self._ice.poll(now):
            try:
                self._sock.sendto(data, address)
            except OSError:
                continue  # no route, or nobody there now: the timeout decides
        self._settle(now)

    def _settle(self, now: float) -> None:
        """Act on what the agent decided, and be woken when it has more to do."""
        ice = self._ice
        if ice.state is IceState.FAILED:
            self._on_failed(ice.failure)
            return
        deadline = ice.next_deadline()
        if deadline is not None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(max(0.0, deadline - now), self._poll)

    def _on_readable(self) -> None:
        port = self.port
        now = time.monotonic()
        for _ in range(MAX_BURSTS):
            count = port.receive()
            for i in range(count):
                length = port.lengths[i]
                try:
                    if length:
                        self._take(i, length, port.keys[i], now)
                except Exception:
                    self._intake.note_fault(now)
                if self._sock.fileno() < 0:
                    return
            self._intake.fan_out(now)
            if count < RECEIVE_SLOTS:
                break
        port.flush()
        self._intake.port.flush()

    def _take(self, slot: int, length: int, key: bytes, now: float) -> None:
        port = self.port
        first = port.slots[slot][0]
        peer = self.peer
        to = peer.destination
        if first < 4:
            found = port.destination(key)
            address = (str(found.address[0]), int(found.address[1]))
            if self._ice.receive(bytes(port.slots[slot][:length]), address, now):
                if self._ice.state is IceState.CONNECTED:
                    peer.destination = found
                    peer.heard_at = now
                    self._poll()  # the path is named before the handshake takes it
                    peer.start(now)
                else:
                    self._settle(now)
            peer.heard_at = max(peer.heard_at, self._ice.heard_at)
        elif to is None or to.key != key:
            return  # not from where the checks were answered
        elif 128 <= first <= 191:
            if peer.receiver is None and len(self._early) < EARLY_PACKETS:
                self._early.append(bytes(port.slots[slot][:length]))
                return
            self._intake.take_srtp(peer, self._pointers[slot], port.slots[slot], length, now)
        elif 20 <= first <= 63:
            peer.handle_dtls(bytes(port.slots[slot][:length]))


def _usable(candidates: list[tuple[str, int]]) -> tuple[socket.AddressFamily, list[Address]]:
    """The candidates of one address family, IPv4 where there is any."""
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        found = [(ip, port) for ip, port in candidates if ip_address(ip).version == version]
        if found:
            return family, found
    raise ValueError("no candidate")
