"""From datagrams to sessions: the receive loop of the worker.

The loop's reader callback takes bursts until the socket is empty (bounded, so that the
control API gets its turn), tells protocols apart by their first byte, finds the peer by
the address it proved with an authentic STUN check, takes SRTP off in place, and hands
packets to the peer's session. After each burst every layer that got something is fanned
out, and one flush sends it all. Nothing here waits, logs per packet or raises for what
a peer sends.

State grows only with accepted sessions: an address enters the table by a check signed
with a session's password, at most `MAX_ADDRESSES` a peer.

RFC 7983 (first byte), RFC 5761 §4 (RTP or RTCP), RFC 8445 (ICE-lite).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Any, Final

from media.drops import DropReason, Drops, count_drop
from media.peer import Peer, PeerState
from media.rtp.rtcp import parse_compound
from media.srtp import SrtpStatus, slot_pointers
from media.stun import IceLite, StunError
from media.track import Layer
from media.udp import RECEIVE_SLOTS, SLOT_BYTES, UdpPort

logger = logging.getLogger("media.intake")

MAX_BURSTS: Final = 4
"""Bursts taken in one go before other work of the loop has its turn: 256 datagrams."""

MAX_ADDRESSES: Final = 8
"""Addresses one peer may prove: its interfaces and their NAT bindings."""

STRANGER_REPLIES_PER_S: Final = 200
"""Signed refusals for checks of sessions that are gone (after a restart of the worker)."""

MAX_HANDSHAKE_QUEUE: Final = 4096
"""DTLS datagrams waiting for their turn; more are dropped, and the peer sends them again."""

_LOG_INTERVAL_S: Final = 1.0


class Intake:
    """One worker's peers by fragment and address, and the loop that feeds them."""

    def __init__(self, port: UdpPort, ice: IceLite) -> None:
        self.port = port
        self.ice = ice
        self.dirty: set[Layer] = set()
        """Layers with a burst waiting to be fanned out; publishers add to it."""
        self.drops: Drops = {}
        self.forwarded = 0
        """Packets sent to viewers, resends not counted."""
        self.bursts = 0
        self.largest_burst = 0
        self.checks = 0
        self.stranger_checks = 0
        self._by_ufrag: dict[str, tuple[Peer, str]] = {}
        self._by_address: dict[bytes, Peer] = {}
        self._pointers = slot_pointers(port.store, SLOT_BYTES)
        self._stranger_budget = float(STRANGER_REPLIES_PER_S)
        self._stranger_budget_at = 0.0
        self._logged_at = -_LOG_INTERVAL_S
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handshakes: deque[tuple[Peer, bytes, bytes]] = deque()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        loop.add_reader(self.port.sock.fileno(), self._on_readable)

    def stop(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self.port.sock.fileno())
            self._loop = None

    # The table of peers.

    def add(self, peer: Peer) -> None:
        """Expect checks for `peer` by its present fragments."""
        self._by_ufrag[peer.ufrag] = (peer, peer.remote_ufrag)

    def restart(self, peer: Peer, ufrag: str, remote_ufrag: str) -> None:
        """Give `peer` new credentials. Those it had stay good until the next restart.

        Its old path is checked and used until the new one works (RFC 8445 §9); an error
        answer there would make a browser give up what still carries its picture.
        """
        old = peer.ufrag
        for known in [u for u, (p, _) in self._by_ufrag.items() if p is peer and u != old]:
            del self._by_ufrag[known]
        peer.ufrag = ufrag
        peer.remote_ufrag = remote_ufrag
        peer.is_nominated = False
        self.add(peer)

    def remove(self, peer: Peer) -> None:
        """Forget a closed peer."""
        for ufrag in [u for u, (known, _) in self._by_ufrag.items() if known is peer]:
            del self._by_ufrag[ufrag]
        for key in peer.keys:
            if self._by_address.get(key) is peer:
                del self._by_address[key]
        peer.keys.clear()

    @property
    def addresses(self) -> int:
        return len(self._by_address)

    # The loop.

    def _on_readable(self) -> None:
        port = self.port
        for _ in range(MAX_BURSTS):
            count = port.receive()
            if not count:
                break
            self._take(count)
            if count < RECEIVE_SLOTS:
                break
        port.flush()

    def _take(self, count: int) -> None:
        """Handle one received burst and fan out what it brought."""
        self.bursts += 1
        if count > self.largest_burst:
            self.largest_burst = count
        now = time.monotonic()
        port = self.port
        slots, lengths, keys = port.slots, port.lengths, port.keys
        for i in range(count):
            length = lengths[i]
            if not length:
                continue
            first = slots[i][0]
            try:
                if 128 <= first <= 191:
                    self._take_srtp(i, slots[i], length, keys[i], now)
                elif 20 <= first <= 63:
                    self._take_dtls(bytes(slots[i][:length]), keys[i])
                elif first < 4:
                    self._take_stun(bytes(slots[i][:length]), keys[i], now)
                else:
                    count_drop(self.drops, DropReason.UNKNOWN_PROTOCOL)
            except Exception:
                # A fault of ours must cost one packet, not everybody's picture.
                self.note_fault(now)
        self.fan_out(now)

    def fan_out(self, now: float) -> None:
        """Send what a burst brought, from this port or a pull's, to everybody who watches."""
        dirty = self.dirty
        if dirty:
            port = self.port
            for layer in dirty:
                try:
                    self.forwarded += layer.fan_out(port, now)
                except Exception:
                    self.note_fault(now)
            dirty.clear()

    def _take_srtp(self, slot: int, data: memoryview, length: int, key: bytes, now: float) -> None:
        peer = self._by_address.get(key)
        if peer is None:
            count_drop(self.drops, DropReason.UNKNOWN_PEER)
            return
        self.take_srtp(peer, self._pointers[slot], data, length, now)

    def take_srtp(
        self, peer: Peer, pointer: Any, data: memoryview, length: int, now: float
    ) -> None:
        """Open one packet of `peer`, which lies at `pointer` and in `data`, in place."""
        receiver = peer.receiver
        owner = peer.owner
        if receiver is None or owner is None:
            count_drop(self.drops, DropReason.TOO_EARLY)
            return
        if length < 2:
            count_drop(self.drops, DropReason.MALFORMED)
            return
        is_rtcp = 192 <= data[1] <= 223
        if is_rtcp:
            size = receiver.unprotect_rtcp(pointer, length)
        else:
            size = receiver.unprotect(pointer, length)
        if size < 0:
            self._refuse(owner.drops, -size)
            return
        peer.heard_at = now
        if is_rtcp:
            owner.handle_rtcp(parse_compound(bytes(data[:size])), now, time.time())
        else:
            owner.handle_rtp(data, size, now)

    @staticmethod
    def _refuse(drops: Drops, status: int) -> None:
        if status in (SrtpStatus.REPLAY_FAIL, SrtpStatus.REPLAY_OLD):
            count_drop(drops, DropReason.REPLAYED)
        elif status == SrtpStatus.AUTH_FAIL:
            count_drop(drops, DropReason.NOT_AUTHENTIC)
        else:
            count_drop(drops, DropReason.MALFORMED)

    def _take_dtls(self, data: bytes, key: bytes) -> None:
        """Queue a handshake's datagram. One is worth up to 3 ms of work, so a rush of joins
        is taken a step at a time with packets in between."""
        peer = self._by_address.get(key)
        if peer is None:
            count_drop(self.drops, DropReason.UNKNOWN_PEER)
        elif len(self._handshakes) >= MAX_HANDSHAKE_QUEUE:
            count_drop(self.drops, DropReason.DTLS_QUEUE_FULL)
        else:
            if not self._handshakes and self._loop is not None:
                self._loop.call_soon(self._step_handshakes)
            self._handshakes.append((peer, data, key))

    def _step_handshakes(self) -> None:
        if not self._handshakes:
            return
        peer, data, key = self._handshakes.popleft()
        if peer.destination is None or peer.destination.key != key:
            # A peer that nominates every address it tries (aggressive nomination, as before
            # RFC 8445) shows by its handshake which one it means. The address is proven.
            peer.destination = self.port.destination(key)
        if not peer.handle_dtls(data):
            count_drop(self.drops, DropReason.DTLS_QUEUE_FULL)
        if self._handshakes and self._loop is not None:
            self._loop.call_soon(self._step_handshakes)

    def _take_stun(self, data: bytes, key: bytes, now: float) -> None:
        destination = self._by_address.get(key)
        to = (
            destination.destination
            if destination is not None
            and destination.destination is not None
            and destination.destination.key == key
            else self.port.destination(key)
        )
        try:
            check = self.ice.receive(data, (to.address[0], to.address[1]), self._is_known)
        except StunError:
            count_drop(self.drops, DropReason.BAD_STUN)
            return
        if check is None:
            return
        if not check.is_known:
            self.stranger_checks += 1
            if self._may_answer_stranger(now):
                self.port.send(to, check.reply)
            return
        self.checks += 1
        peer, _ = self._by_ufrag[check.local_ufrag]
        if peer.state is PeerState.CLOSED:
            return
        self._learn(peer, key)
        is_current = check.local_ufrag == peer.ufrag
        if is_current and (peer.destination is None or check.is_nominated or not peer.is_nominated):
            if peer.destination is None or peer.destination.key != key:
                peer.destination = to
            peer.is_nominated = peer.is_nominated or check.is_nominated
        peer.heard_at = now
        self.port.send(to, check.reply)
        if peer.state is PeerState.NEW:
            peer.start(now)

    def _is_known(self, local_ufrag: str, remote_ufrag: str) -> bool:
        entry = self._by_ufrag.get(local_ufrag)
        return entry is not None and entry[1] == remote_ufrag

    def _learn(self, peer: Peer, key: bytes) -> None:
        """Note that `peer` is at this address now, whoever was there before."""
        before = self._by_address.get(key)
        if before is peer:
            return
        if before is not None:
            before.keys.discard(key)
        if len(peer.keys) >= MAX_ADDRESSES:
            current = peer.destination.key if peer.destination is not None else b""
            old = next(k for k in peer.keys if k != current)
            peer.keys.discard(old)
            self._by_address.pop(old, None)
        peer.keys.add(key)
        self._by_address[key] = peer

    def _may_answer_stranger(self, now: float) -> bool:
        earned = (now - self._stranger_budget_at) * STRANGER_REPLIES_PER_S
        self._stranger_budget_at = now
        self._stranger_budget = min(STRANGER_REPLIES_PER_S, self._stranger_budget + earned)
        if self._stranger_budget < 1:
            return False
        self._stranger_budget -= 1
        return True

    def note_fault(self, now: float) -> None:
        """Count a fault of ours, from within its `except`; logged once a second."""
        count_drop(self.drops, DropReason.INTERNAL)
        if now - self._logged_at >= _LOG_INTERVAL_S:
            self._logged_at = now
            faults = self.drops[DropReason.INTERNAL]
            logger.exception("intake.fault count=%d", faults)

    def stats(self) -> dict[str, Any]:
        """Counters of the socket and the table."""
        port = self.port
        return {
            "send_mode": port.mode.value,
            "gso": port.mode.value == "gso",
            "datagrams_received": port.received,
            "datagrams_sent": port.sent,
            "messages_sent": port.sent_messages,
            "flushes": port.flushes,
            "send_errors": {error.value: n for error, n in port.errors.items() if n},
            "packets_forwarded": self.forwarded,
            "bursts": self.bursts,
            "largest_burst": self.largest_burst,
            "stun_checks": self.checks,
            "stun_stranger_checks": self.stranger_checks,
            "addresses": self.addresses,
            "drops": {reason.value: n for reason, n in self.drops.items()},
        }
