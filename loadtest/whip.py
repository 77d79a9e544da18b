"""**Shell**: a publisher by real WHIP, sending what a feed has encoded. It encodes nothing.

Packets leave as they are made; a ring of protected packets answers NACKs; PLI and FIR ask
the feed for a key frame; sender reports map both tracks to one clock, so sound and picture
stay together. When the session dies (a media worker restarted), it publishes again by
itself, with back-off.

RFC 9725 (WHIP), RFC 3550 §6.4 (SR), RFC 4585 (NACK, PLI), RFC 5104 (FIR).
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from struct import Struct
from typing import Final
from urllib.parse import urljoin

import httpx

from loadtest.offers import AUDIO_PT, H264_FMTP, VIDEO_PT, BadAnswer, offer, read_answer
from loadtest.packetize import h264_payloads, vp8_payloads
from loadtest.transport import ConnectFailed, SrtpError, Transport
from media.rtp.rtcp import (
    Fir,
    Nack,
    Pli,
    build_bye,
    build_sdes,
    build_sr,
    ntp_from_unix,
    parse_compound,
)
from media.stage.feed import Kind, Unit

VIDEO_CLOCK: Final = 90_000
AUDIO_CLOCK: Final = 48_000
REPORT_S: Final = 1.0
RING_PACKETS: Final = 1024
BACKOFF_S: Final = (0.3, 5.0)
"""First and longest wait before publishing again."""
_HEADER = Struct(">BBHII")

log = logging.getLogger(__name__)


class Refusal(Exception):
    """The server refused, with its problem document's reason."""

    def __init__(self, status: int, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s


def refusal(response: httpx.Response) -> Refusal:
    """The refusal that `response` is."""
    try:
        reason = str(response.json().get("reason", response.reason_phrase))
    except (ValueError, AttributeError):
        reason = response.reason_phrase
    after = response.headers.get("retry-after", "")
    return Refusal(response.status_code, reason, float(after) if after.isdigit() else None)


class Track:
    """One outgoing RTP stream: numbers, ring, counters. Numbers go on across sessions."""

    def __init__(self, clock_rate: int, ring: int) -> None:
        self.ssrc = secrets.randbits(31) + 1
        self.clock_rate = clock_rate
        self.packets = 0
        self.octets = 0
        self.resent = 0
        self._seq = secrets.randbits(14)
        self._offset = secrets.randbits(32)
        self._ring_size = ring
        self._ring: dict[int, bytes] = {}

    def timestamp(self, at_s: float) -> int:
        """RTP timestamp of the moment `at_s` (Unix seconds)."""
        return int(at_s * self.clock_rate) + self._offset & 0xFFFFFFFF

    def send(
        self,
        transport: Transport,
        payload_type: int,
        payloads: list[bytes],
        at_s: float,
        unmarked: bool = False,
    ) -> None:
        """Send the payloads of one frame, the marker on the last unless `unmarked`."""
        protect = transport.tx
        if protect is None:
            return
        rtp_ts = self.timestamp(at_s)
        last = len(payloads) - 1
        for index, payload in enumerate(payloads):
            seq = self._seq = self._seq + 1 & 0xFFFF
            marker = 0x80 if (index == last and not unmarked) else 0
            header = _HEADER.pack(0x80, marker | payload_type, seq, rtp_ts, self.ssrc)
            packet = protect.protect(header + payload)
            self._ring[seq] = packet
            self.packets += 1
            self.octets += len(payload)
            transport.send(packet)
        while len(self._ring) > self._ring_size:
            del self._ring[next(iter(self._ring))]

    def resend(self, transport: Transport, seqs: tuple[int, ...]) -> None:
        """Send asked-for packets again, byte for byte."""
        for seq in seqs:
            packet = self._ring.get(seq)
            if packet is not None:
                self.resent += 1
                transport.send(packet)

    def new_session(self) -> None:
        """Keys changed: what was protected with the old ones is of no use."""
        self._ring.clear()

    def report(self, now_s: float) -> bytes:
        """Sender report and source description."""
        report = build_sr(
            self.ssrc, ntp_from_unix(now_s), self.timestamp(now_s), self.packets, self.octets
        )
        return report + build_sdes(self.ssrc, "livehouse")


class Publisher:
    """One camera, published until closed. All methods on the loop's thread."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        token: Callable[[], str],
        *,
        codec: str = "H264",
        video: bool = True,
        audio: bool = True,
        fmtp: str = H264_FMTP,
        request_key: Callable[[], None] = lambda: None,
        on_state: Callable[[str], None] = lambda state: None,
        spread_s: float = 0.0,
    ) -> None:
        """`spread_s` paces the packets of a picture over that time; 0 sends them at once.

        `url` is the WHIP address, `token` gives a fresh one for each request; `on_state`
        hears "live" and "away: REASON"."""
        self._client = client
        self._url = url
        self._token = token
        self._codec = codec
        self._sends_video, self._sends_audio = video, audio
        self._fmtp = fmtp
        self._request_key = request_key
        self._on_state = on_state
        self._spread_s = spread_s
        self.video = Track(VIDEO_CLOCK, RING_PACKETS)
        self.audio = Track(AUDIO_CLOCK, RING_PACKETS // 8)
        self.sessions = 0
        self.key_requests = 0
        self.nacks = 0
        self.is_live = False
        self.transport: Transport | None = None
        self._picture_id = secrets.randbits(14)
        self._waits_for_key = True

    async def run(self) -> None:
        """Publish, and again whenever the session is lost. Ends only by cancellation.

        A refusal that no waiting can change (401, 403) is raised as `Refusal`.
        """
        wait = BACKOFF_S[0]
        try:
            while True:
                try:
                    await self._session()
                    wait = BACKOFF_S[0]
                except (httpx.HTTPError, ConnectFailed, BadAnswer, OSError) as error:
                    self._away(str(error) or type(error).__name__)
                except Refusal as error:
                    if error.status in (401, 403):
                        raise
                    self._away(str(error))
                    wait = max(wait, error.retry_after_s or 0)
                await asyncio.sleep(wait * random.uniform(0.7, 1.3))
                wait = min(wait * 2, BACKOFF_S[1])
        finally:
            self.is_live = False

    def feed(self, unit: Unit) -> None:
        """Send one unit of this camera's feed, if the session is up."""
        transport = self.transport
        if transport is None or not self.is_live:
            return
        if unit.kind is Kind.AUDIO:
            if self._sends_audio:
                self.audio.send(transport, AUDIO_PT, [unit.data], unit.at_s, unmarked=True)
            return
        if self._waits_for_key:
            # Packets before the first key frame help nobody.
            if not unit.is_key:
                return
            self._waits_for_key = False
        if self._codec == "VP8":
            self._picture_id = self._picture_id + 1 & 0x7FFF
            payloads = vp8_payloads(unit.data, self._picture_id)
        else:
            payloads = h264_payloads(unit.data)
        pt = VIDEO_PT[self._codec]
        if not self._spread_s or len(payloads) < 2:
            self.video.send(transport, pt, payloads, unit.at_s)
            return
        loop, last = asyncio.get_running_loop(), len(payloads) - 1
        for index, payload in enumerate(payloads):
            loop.call_later(
                index * self._spread_s / len(payloads),
                self.video.send,
                transport,
                pt,
                [payload],
                unit.at_s,
                index != last,
            )

    async def _session(self) -> None:
        transport = Transport(self._arrived)
        location = ""
        try:
            response = await self._client.post(
                self._url,
                content=offer(
                    transport.local,
                    Transport.fingerprint(),
                    video=[self._codec] if self._sends_video else [],
                    audio=self._sends_audio,
                    sending=(self.video.ssrc, self.audio.ssrc),
                    fmtp=self._fmtp,
                ),
                headers={
                    "Content-Type": "application/sdp",
                    "Authorization": f"Bearer {self._token()}",
                },
            )
            if response.status_code != 201:
                raise refusal(response)
            location = urljoin(self._url, response.headers["location"])
            await transport.connect(read_answer(response.text))
            self.video.new_session()
            self.audio.new_session()
            self._waits_for_key = True
            self._request_key()
            self.transport = transport
            self.is_live = True
            self.sessions += 1
            self._on_state("live")
            reports = asyncio.create_task(self._report(transport))
            try:
                reason = await asyncio.shield(transport.closed)
            finally:
                reports.cancel()
            self._away(reason)
        except asyncio.CancelledError:
            await self._goodbye(transport, location)
            raise
        finally:
            self.is_live = False
            self.transport = None
            transport.close()

    async def _goodbye(self, transport: Transport, location: str) -> None:
        if transport.tx is not None:
            transport.send(transport.tx.protect_rtcp(build_bye([self.video.ssrc, self.audio.ssrc])))
        if location:
            with suppress(httpx.HTTPError):  # the server may be gone before us
                await self._client.delete(
                    location, headers={"Authorization": f"Bearer {self._token()}"}, timeout=2
                )

    def _away(self, reason: str) -> None:
        if self.is_live:
            self.is_live = False
        self._on_state(f"away: {reason}")

    async def _report(self, transport: Transport) -> None:
        while True:
            now_s = time.time()
            for track, sends in ((self.video, self._sends_video), (self.audio, self._sends_audio)):
                if sends and transport.tx is not None:
                    transport.send(transport.tx.protect_rtcp(track.report(now_s)))
            await asyncio.sleep(REPORT_S)

    def _arrived(self, data: bytes, now: float) -> None:
        transport = self.transport
        if transport is None or transport.rx is None or not 192 <= data[1] <= 223:
            return
        try:
            plain = transport.rx.unprotect_rtcp(data)
        except SrtpError:
            return
        for item in parse_compound(plain):
            match item:
                case Pli():
                    self.key_requests += 1
                    self._request_key()
                case Fir():
                    self.key_requests += 1
                    self._request_key()
                case Nack(media_ssrc=ssrc, seqs=seqs):
                    self.nacks += len(seqs)
                    track = self.video if ssrc == self.video.ssrc else self.audio
                    track.resend(transport, seqs)
                case _:
                    pass
