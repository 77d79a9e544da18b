"""**Shell**: one client session's UDP socket with ICE, DTLS and SRTP, cheap enough for many.

A full ICE agent facing a lite one: it is always controlling, checks each of the server's
candidates, nominates the first that answers, and goes on checking for consent. aiortc's
`RTCDtlsTransport` does DTLS over this socket and leaves its libsrtp sessions behind; after
that no task and no queue is on a packet's way, only the loop's reader callback.

A session is over when the server says so (DTLS close, a signed STUN error from a worker that
was restarted and does not know it) or when consent has not been renewed for CONSENT_LOST_S.

RFC 8445 (ICE), RFC 7675 (consent), RFC 5764 (DTLS-SRTP), RFC 7983 (first byte).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from struct import error as StructError
from typing import Final

from aioice import stun
from aiortc import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters, RTCIceTransport
from aiortc.rtcdtlstransport import RTCDtlsTransport
from OpenSSL import SSL
from pylibsrtp import Error as SrtpError
from pylibsrtp import Session

from loadtest.offers import Answer, Credentials

CHECK_S: Final = 0.05
CONNECT_TIMEOUT_S: Final = 8.0
CONSENT_S: Final = 2.0
CONSENT_LOST_S: Final = 8.0
_BURST: Final = 64
"""Datagrams read before other sockets get their turn."""
_RECEIVE_BUFFER_BYTES: Final = 1 << 20
_EARLY_PACKETS: Final = 1024
"""Kept while the server has its keys and our handshake task has not run yet: media follows
the server's last flight at once, and the first of it is the key frame."""

log = logging.getLogger(__name__)

OnPacket = Callable[[bytes, float], None]
"""Takes one SRTP or SRTCP packet as it came, and the monotonic time."""


class ConnectFailed(Exception):
    """No path, or no keys: the session never came up."""


class _DtlsPipe:
    """What `RTCDtlsTransport` needs of an ICE transport."""

    role = "controlling"

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.arrived: asyncio.Queue[bytes | None] = asyncio.Queue(64)
        self._deliver = send

    async def _recv(self) -> bytes:
        data = await self.arrived.get()
        if data is None:
            raise ConnectionError
        return data

    async def _send(self, data: bytes) -> None:
        self._deliver(data)


class Transport:
    """One session's path to the server. Make, `connect`, then `send` and get packets."""

    _certificate: RTCCertificate | None = None

    def __init__(self, on_packet: OnPacket) -> None:
        self.local = Credentials(secrets.token_hex(4), secrets.token_hex(12))
        self.on_packet = on_packet
        self.srtp_profiles: tuple[str, ...] = ()
        """Names of the only SRTP profiles to agree to; empty: all."""
        self.closed = asyncio.get_running_loop().create_future()
        """Done, with the reason in a word, when the session is over."""
        self.connected_at = 0.0
        self.send_drops = 0
        self.rx: Session | None = None
        self.tx: Session | None = None
        self._socket: socket.socket | None = None
        self._loop = asyncio.get_running_loop()
        self._checks: dict[bytes, tuple[str, int]] = {}
        self._selected: asyncio.Future[tuple[str, int]] = self._loop.create_future()
        self._consented_at = 0.0
        self._pipe = _DtlsPipe(self._send_plain)
        self._early: list[tuple[bytes, float]] = []
        self._dtls: RTCDtlsTransport | None = None
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    def certificate(cls) -> RTCCertificate:
        """One certificate for every session of this process."""
        if cls._certificate is None:
            cls._certificate = RTCCertificate.generateCertificate()
        return cls._certificate

    @classmethod
    def fingerprint(cls) -> str:
        """SHA-256 of the certificate, for the offer."""
        return next(
            f.value for f in cls.certificate().getFingerprints() if f.algorithm == "sha-256"
        )

    async def connect(self, answer: Answer) -> None:
        """Find a path and agree on keys. Raises `ConnectFailed`."""
        host, _ = answer.candidates[0]
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        candidates = [c for c in answer.candidates if (":" in c[0]) == (family == socket.AF_INET6)]
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._remote = answer.remote
        self._loop.add_reader(self._socket, self._read_checks)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                while not self._selected.done():
                    for address in candidates:
                        self._check(address)
                    await asyncio.wait([self._selected], timeout=CHECK_S)
                self._loop.remove_reader(self._socket)
                self._socket.connect(self._selected.result())
                # Every candidate was nominated, each from the source address of its own
                # interface; the last word says which path it is to be.
                self._check(None)
                self._consented_at = time.monotonic()
                self._loop.add_reader(self._socket, self._read)
                self._check(None)
                await self._handshake(answer)
        except (TimeoutError, OSError) as error:
            self.close("connect_failed")
            raise ConnectFailed(f"no answer from {candidates}") from error
        self.connected_at = time.monotonic()
        for data, now in self._early:
            self.on_packet(data, now)
        self._early.clear()
        self._watch = asyncio.create_task(self._keep_consent())

    async def _handshake(self, answer: Answer) -> None:
        pipe: object = self._pipe
        assert isinstance(pipe, _DtlsPipe)
        dtls = RTCDtlsTransport(_as_ice(pipe), [self.certificate()])
        if self.srtp_profiles:
            dtls._srtp_profiles = [
                p for p in dtls._srtp_profiles if p.openssl_profile.decode() in self.srtp_profiles
            ]
        dtls._set_role("client" if answer.is_dtls_server else "server")
        algorithm, value = answer.fingerprint
        parameters = RTCDtlsParameters(
            fingerprints=[RTCDtlsFingerprint(algorithm=algorithm, value=value)]
        )
        self._dtls = dtls
        await dtls.start(parameters)
        if dtls.state != "connected":
            self.close("dtls_failed")
            raise ConnectFailed("DTLS failed")
        self.rx, self.tx = dtls._rx_srtp, dtls._tx_srtp
        dtls.on("statechange", self._dtls_changed)

    def _dtls_changed(self) -> None:
        if self._dtls is not None and self._dtls.state in ("closed", "failed"):
            self.close("closed_by_server")

    def send(self, data: bytes) -> None:
        """Send one protected packet; a full socket drops and counts it."""
        if self._socket is None:
            return
        try:
            self._socket.send(data)
        except OSError:
            # Full, or ICMP says that nobody listens: the worker is between two lives, and
            # consent decides whether it comes back.
            self.send_drops += 1

    def _send_plain(self, data: bytes) -> None:
        self.send(data)

    def close(self, reason: str = "closed") -> None:
        """End the session at once; say goodbye if keys were agreed on."""
        if self._watch is not None and self._watch is not asyncio.current_task():
            self._watch.cancel()
        dtls, self._dtls = self._dtls, None
        if dtls is not None:
            task = getattr(dtls, "_task", None)
            if task is not None:
                task.cancel()
            if dtls.state == "connected" and dtls._ssl is not None:
                with suppress(SSL.Error):
                    dtls._ssl.shutdown()
                    self._send_plain(dtls._ssl.bio_read(1500))
        with suppress(asyncio.QueueFull):
            self._pipe.arrived.put_nowait(None)
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if not self.closed.done():
            self.closed.set_result(reason)

    # ICE.

    def _check(self, address: tuple[str, int] | None) -> None:
        request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{self._remote.ufrag}:{self.local.ufrag}"
        request.attributes["PRIORITY"] = 1845501695
        request.attributes["ICE-CONTROLLING"] = random.getrandbits(64)
        if address is None:  # the path is chosen: regular nomination, RFC 8445 §8.1.1
            request.attributes["USE-CANDIDATE"] = None
        request.add_message_integrity(self._remote.pwd.encode())
        request.add_fingerprint()
        data = bytes(request)
        self._checks[request.transaction_id] = address or ("", 0)
        while len(self._checks) > 256:
            self._checks.pop(next(iter(self._checks)))
        if address is None:
            self.send(data)
        elif self._socket is not None:
            with suppress(OSError):  # the next check may find it
                self._socket.sendto(data, address)

    def _read_checks(self) -> None:
        assert self._socket is not None
        for _ in range(_BURST):
            try:
                data, address = self._socket.recvfrom(2048)
            except OSError:
                return
            if not data or data[0] > 3:
                continue
            if self._asked(data, address):
                continue
            if self._answered(data) and not self._selected.done():
                self._selected.set_result((address[0], address[1]))

    def _answered(self, data: bytes) -> bool:
        """Whether a STUN message is the server's signed yes to one of our checks."""
        try:
            message = stun.parse_message(data)
        except (ValueError, IndexError, StructError):
            return False
        if not message.check_message_integrity(self._remote.pwd.encode()):
            return False
        if self._checks.pop(message.transaction_id, None) is None:
            return False
        if message.message_class is stun.Class.ERROR:
            self.close("unknown_to_server")
            return False
        return message.message_class is stun.Class.RESPONSE

    def _asked(self, data: bytes, address: tuple[str, int] | None) -> bool:
        """Answer a check of the server's own (`address`: where it came from, None: the chosen
        path). Ours makes none, but full agents do; False: it is no request. RFC 8445 §7.3."""
        if data[:2] != b"\0\1" or self._socket is None:
            return False
        try:
            request = stun.parse_message(data)
        except (ValueError, IndexError, StructError):
            return True
        if not request.check_message_integrity(self.local.pwd.encode()):
            return True
        reply = stun.Message(
            message_method=stun.Method.BINDING,
            message_class=stun.Class.RESPONSE,
            transaction_id=request.transaction_id,
        )
        peer = address or self._socket.getpeername()
        reply.attributes["XOR-MAPPED-ADDRESS"] = (peer[0], peer[1])
        reply.add_message_integrity(self.local.pwd.encode())
        reply.add_fingerprint()
        if address is None:
            self.send(bytes(reply))
        else:
            with suppress(OSError):  # it asks again
                self._socket.sendto(bytes(reply), address)
        return True

    async def _keep_consent(self) -> None:
        while not self.closed.done():
            await asyncio.sleep(CONSENT_S * random.uniform(0.8, 1.2))
            if time.monotonic() - self._consented_at > CONSENT_LOST_S:
                self.close("consent_lost")
                return
            self._check(None)

    def _read(self) -> None:
        """Everything that arrives once the path is chosen."""
        now = time.monotonic()
        for _ in range(_BURST):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(2048)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error from a restart; consent decides
            if not data:
                continue
            first = data[0]
            if 127 < first < 192:
                if self.rx is not None:
                    self.on_packet(data, now)
                elif len(self._early) < _EARLY_PACKETS:
                    self._early.append((data, now))
            elif first < 4:
                if not self._asked(data, None) and self._answered(data):
                    self._consented_at = now
            elif 19 < first < 64:
                with suppress(asyncio.QueueFull):  # DTLS sends its flights again
                    self._pipe.arrived.put_nowait(data)


def _as_ice(pipe: _DtlsPipe) -> RTCIceTransport:
    """The pipe, as the type that aiortc's signature names; only its duck methods are used."""
    ice: RTCIceTransport = pipe  # type: ignore[assignment]  # duck-typed adapter
    return ice


__all__ = ["ConnectFailed", "OnPacket", "SrtpError", "Transport"]
