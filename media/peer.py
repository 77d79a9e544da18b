"""One remote party behind the shared UDP port: its address, DTLS and SRTP keys.

The only module that knows aiortc, private hooks included (pinned by version and held by
a contract test): `RTCDtlsTransport` runs unchanged over an object with `role`, `_recv`
and `_send`, here a bounded queue fed by the worker and the port's send buffer. We
replace two of its methods' effects: the SRTP profiles it offers are ordered by our cost,
and instead of opening libsrtp sessions it hands over the exported keys.

Life of a peer: NEW (credentials known, no address) → CONNECTING (an authentic binding
request came) → CONNECTED (fingerprint verified, keys there) → CLOSED. CLOSED is final
and reported once.

RFC 8445 §2.7 (lite), RFC 5764 (DTLS-SRTP), RFC 8122 (fingerprints).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Final

from aiortc import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters
from aiortc.rtcdtlstransport import (
    SRTP_PROFILES,
    RTCDtlsTransport,
    SRTPProtectionProfile,
    State,
    certificate_digest,
)
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from media.srtp import PROFILES, SrtpReceiver, SrtpSender, make_sender, split_keys
from media.udp import Destination, UdpPort

logger = logging.getLogger("media.peer")

HANDSHAKE_TIMEOUT_S: Final = 15.0
"""From the first authentic binding request to SRTP keys; then the peer is given up."""

_DTLS_QUEUE: Final = 32
"""Datagrams waiting for the handshake task; a flight is at most a handful."""

_EXPORTER_LABEL: Final = b"EXTRACTOR-dtls_srtp"
_PROFILE_BY_NAME: Final = {profile.name: profile for profile in PROFILES}
_OPENSSL_PROFILES: Final = sorted(
    (p for p in SRTP_PROFILES if p.openssl_profile.decode() in _PROFILE_BY_NAME),
    key=lambda p: [q.name for q in PROFILES].index(p.openssl_profile.decode()),
)


class PeerState(StrEnum):
    """Where a peer stands; only ever moves down this list."""

    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSED = "closed"


class CloseReason(StrEnum):
    """Why a peer is gone."""

    BY_PEER = "by_peer"
    BY_US = "by_us"
    DTLS_FAILED = "dtls_failed"
    TIMEOUT = "timeout"


class Certificate:
    """The worker's DTLS identity: one key, certificate and OpenSSL context for all peers.

    Sharing the context saves some 30 kB and 0.3 ms a peer against one for each.
    """

    def __init__(self) -> None:
        self.rtc = _SharedCertificate.generateCertificate()
        self.fingerprint = certificate_digest(self.rtc._cert, "sha-256")
        """SHA-256 of the certificate, as SDP writes it."""


class _SharedCertificate(RTCCertificate):
    def __init__(self, key: ec.EllipticCurvePrivateKey, cert: Any) -> None:
        super().__init__(key, cert)
        self._context: SSL.Context | None = None

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        if self._context is None:
            self._context = super()._create_ssl_context(srtp_profiles)
        return self._context


class _Wire:
    """What `RTCDtlsTransport` takes for an ICE transport."""

    role = "controlled"

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.arrived: asyncio.Queue[bytes | None] = asyncio.Queue(_DTLS_QUEUE)
        self._deliver = send

    async def _recv(self) -> bytes:
        data = await self.arrived.get()
        if data is None:
            raise ConnectionError
        return data

    async def _send(self, data: bytes) -> None:
        self._deliver(data)


class _Dtls(RTCDtlsTransport):
    """aiortc's DTLS, with the keys handed over instead of put into its own sessions."""

    def __init__(self, wire: _Wire, certificate: Certificate) -> None:
        super().__init__(wire, [certificate.rtc])  # type: ignore[arg-type]  # duck-typed, see above
        self._srtp_profiles = list(_OPENSSL_PROFILES)
        self.material: tuple[str, bytes] | None = None

    def _setup_srtp(self) -> None:
        assert self._ssl is not None
        name = self._ssl.get_selected_srtp_profile().decode()
        profile = _PROFILE_BY_NAME.get(name)
        if profile is None:
            self._set_state(State.FAILED)
            return
        length = 2 * (profile.key_bytes + profile.salt_bytes)
        self.material = (name, self._ssl.export_keying_material(_EXPORTER_LABEL, length))


class Peer:
    """One remote party. Made for an accepted offer; the worker feeds it datagrams.

    `on_connected` and `on_closed` are called on the loop, at most once each.
    """

    __slots__ = (
        "_certificate",
        "_dtls",
        "_fingerprints",
        "_is_dtls_server",
        "_on_closed",
        "_on_connected",
        "_port",
        "_task",
        "_wire",
        "connected_at",
        "created_at",
        "destination",
        "dtls_dropped",
        "first_binding_at",
        "heard_at",
        "is_nominated",
        "keys",
        "owner",
        "profile",
        "receiver",
        "remote_ufrag",
        "sender",
        "state",
        "ufrag",
    )

    def __init__(
        self,
        port: UdpPort,
        certificate: Certificate,
        *,
        ufrag: str,
        remote_ufrag: str,
        fingerprints: Sequence[tuple[str, str]],
        is_dtls_server: bool,
        now: float,
        on_connected: Callable[[Peer], None],
        on_closed: Callable[[Peer, CloseReason], None],
    ) -> None:
        self.ufrag = ufrag
        """Our own fragment: how binding requests name this peer. Changes with an ICE restart."""
        self.remote_ufrag = remote_ufrag
        self.state = PeerState.NEW
        self.destination: Destination | None = None
        """Where to send: the nominated address, or the latest authentic one before."""
        self.keys: set[bytes] = set()
        """Every address that proved itself for this peer. Written by the worker only."""
        self.is_nominated = False
        self.created_at = now
        self.first_binding_at: float | None = None
        self.connected_at: float | None = None
        self.heard_at = now
        """When an authentic packet last came."""
        self.receiver: SrtpReceiver | None = None
        self.sender: SrtpSender | None = None
        self.profile = ""
        self.dtls_dropped = 0
        self.owner: Any = None
        """The session this peer carries. Written by the relay only."""
        self._port = port
        self._certificate = certificate
        self._fingerprints = tuple(fingerprints)
        self._is_dtls_server = is_dtls_server
        self._on_connected = on_connected
        self._on_closed = on_closed
        self._wire: _Wire | None = None
        self._dtls: _Dtls | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, now: float) -> None:
        """Begin DTLS: the address is known now. Called by the worker at the first binding."""
        if self.state is not PeerState.NEW:
            return
        self.state = PeerState.CONNECTING
        self.first_binding_at = now
        self._wire = _Wire(self._send_now)
        self._dtls = _Dtls(self._wire, self._certificate)
        self._dtls._set_role("server" if self._is_dtls_server else "client")
        self._task = asyncio.get_running_loop().create_task(self._run(self._dtls))

    def handle_dtls(self, datagram: bytes) -> bool:
        """Take one DTLS datagram; False when it had to be dropped (no handshake, queue full)."""
        if self._wire is None or self.state is PeerState.CLOSED:
            self.dtls_dropped += 1
            return False
        try:
            self._wire.arrived.put_nowait(datagram)
        except asyncio.QueueFull:
            self.dtls_dropped += 1
            return False
        return True

    def send(self, data: bytes) -> None:
        """Queue one datagram to the peer; it leaves with the port's next flush."""
        if self.destination is not None:
            self._port.send(self.destination, data)

    def send_rtcp(self, packet: bytes) -> None:
        """Protect and queue one RTCP compound packet; nothing before the keys are there."""
        if self.sender is not None and self.destination is not None:
            self._port.send(self.destination, self.sender.protect_rtcp(packet))

    def flush(self) -> None:
        """Let what is queued leave now: for a peer that is alone on its port."""
        self._port.flush()

    def close(self, reason: CloseReason = CloseReason.BY_US) -> None:
        """End it: DTLS close_notify if it got that far, then `on_closed`. Idempotent."""
        if self.state is PeerState.CLOSED:
            return
        self.state = PeerState.CLOSED
        if self._task is not None:
            self._task.cancel()
        if self._dtls is not None and self._dtls._ssl is not None and self.destination is not None:
            self._shut_down(self._dtls)
        self.sender = None
        self.receiver = None
        self._let_go()
        self._on_closed(self, reason)

    def _let_go(self) -> None:
        """Break the circles peer → DTLS → wire → peer and object → task → frame → object.

        With them a closed peer, its OpenSSL connection included (some 90 kB), stays until
        the cycle collector comes by, which in this process is almost never.
        """
        if self._dtls is not None and self._dtls._task is not None:
            self._dtls._task.cancel()
            self._dtls._task = None
        self._dtls = self._wire = self._task = None

    def _shut_down(self, dtls: _Dtls) -> None:
        """Queue close_notify. Done by hand since aiortc's `stop` is a coroutine."""
        ssl = dtls._ssl
        assert ssl is not None
        try:
            ssl.shutdown()
            self._send_now(ssl.bio_read(1500))
        except SSL.Error:
            return  # the handshake was not far enough for an alert

    async def _run(self, dtls: _Dtls) -> None:
        """Shake hands, hand over the keys, then wait for the peer's close_notify."""
        parameters = RTCDtlsParameters(
            fingerprints=[RTCDtlsFingerprint(name, value) for name, value in self._fingerprints]
        )
        reason = CloseReason.DTLS_FAILED
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await dtls.start(parameters)
            receiving = dtls._task
            if dtls._state is State.CONNECTED and dtls.material is not None and receiving:
                self._connected(*dtls.material)
                dtls.material = None
                await receiving
                reason = CloseReason.BY_PEER
        except TimeoutError:
            reason = CloseReason.TIMEOUT
        finally:
            # Whatever ended it, a fault of ours included: the session must not linger.
            if dtls._task is not None:
                dtls._task.cancel()
                dtls._task = None
            if self.state is not PeerState.CLOSED:
                logger.info("peer.end ufrag=%s reason=%s", self.ufrag, reason)
                self.close(reason)

    def _connected(self, profile_name: str, material: bytes) -> None:
        profile = _PROFILE_BY_NAME[profile_name]
        receive, send = split_keys(profile, material, is_server=self._is_dtls_server)
        self.receiver = SrtpReceiver(receive)
        self.sender = make_sender(send)
        self.profile = profile_name
        self.state = PeerState.CONNECTED
        self.connected_at = asyncio.get_running_loop().time()
        self._on_connected(self)

    def _send_now(self, data: bytes) -> None:
        if data and self.destination is not None:
            self._port.send(self.destination, data)
            self._port.flush()
