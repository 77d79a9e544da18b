"""**Shell**: a viewer by real WHEP that counts and does not decode.

The first packets are all authenticated and decrypted, later ones in samples (every
`SAMPLE`th, and every RTCP packet): numbers, times and sizes are read from the RTP header,
which SRTP leaves in clear. So a process holds hundreds of viewers, and the report says how
many packets were authenticated.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from struct import Struct
from typing import Any, Final
from urllib.parse import urljoin

import httpx

from loadtest.counting import StreamCount
from loadtest.offers import AUDIO_PT, offer, read_answer
from loadtest.transport import SrtpError, Transport
from loadtest.whip import REPORT_S, refusal
from media.rtp.keyframe import KEY_START
from media.rtp.packet import parse_header
from media.rtp.rtcp import (
    ReceptionReport,
    SenderReport,
    build_pli,
    build_rr,
    middle_ntp,
    parse_compound,
)

FULL_PACKETS: Final = 500
SAMPLE: Final = 32
_SEQ_TS_SSRC = Struct(">HII").unpack_from


@dataclass(frozen=True, slots=True)
class ViewerReport:
    """One viewer's life. Times in milliseconds since the POST was sent; None: never came."""

    post_ms: float
    connected_ms: float
    first_packet_ms: float | None
    first_key_ms: float | None
    seconds: float
    packets: int
    octets: int
    frames: int
    lost: int
    duplicates: int
    audio_packets: int
    audio_lost: int
    longest_gap_ms: float
    jitter_ms: float
    authenticated: int
    forged: int
    ended: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Viewer:
    """One viewer session: `start`, then leave it alone, then `stop`."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        token: str,
        *,
        codecs: tuple[str, ...] = ("H264", "VP8"),
        audio: bool = True,
        full: bool = False,
    ) -> None:
        """`full`: authenticate every packet, not a sample."""
        self._client = client
        self._url = url
        self._token = token
        self._codecs = codecs
        self._audio = audio
        self._full = full
        self.video = StreamCount(90_000)
        self.sound = StreamCount(48_000)
        self.authenticated = 0
        self.forged = 0
        self.got_picture = asyncio.get_running_loop().create_future()
        """Done when the first key frame's first packet came."""
        self._seen = 0
        self._transport: Transport | None = None
        self._location = ""
        self._reports: asyncio.Task[None] | None = None
        self._start = self._posted = self._connected = 0.0
        self._first_key_at: float | None = None
        self._key_tests: dict[int, Any] = {}
        self._sender_reports: dict[int, tuple[int, float]] = {}
        self.clocks: dict[int, SenderReport] = {}
        """The latest sender report of each stream: which RTP time is which moment."""

    @property
    def closed(self) -> asyncio.Future[str]:
        """Done, with a reason, when the session is over."""
        assert self._transport is not None
        return self._transport.closed

    @property
    def location(self) -> str:
        """The session's address, for PUT, PATCH and DELETE."""
        return self._location

    async def start(self) -> None:
        """Join. Raises `Refusal`, `ConnectFailed`, `BadAnswer` or httpx's errors."""
        transport = self._transport = Transport(self._arrived)
        self._start = time.monotonic()
        response = await self._client.post(
            self._url,
            content=offer(
                transport.local,
                Transport.fingerprint(),
                video=list(self._codecs),
                audio=self._audio,
                sending=None,
            ),
            headers={"Content-Type": "application/sdp", "Authorization": f"Bearer {self._token}"},
        )
        self._posted = time.monotonic()
        if response.status_code != 201:
            transport.close("refused")
            raise refusal(response)
        self._location = urljoin(self._url, response.headers["location"])
        answer = read_answer(response.text)
        for line in answer.lines:
            for pt, name in line.payload_types.items():
                if name in KEY_START:
                    self._key_tests[pt] = KEY_START[name]
        await transport.connect(answer)
        self._connected = time.monotonic()
        self._reports = asyncio.create_task(self._report())

    async def stop(self) -> ViewerReport:
        """Leave, and say how it was."""
        if self._reports is not None:
            self._reports.cancel()
        seconds = time.monotonic() - self._start
        ended = ""
        if self._transport is not None:
            if self._transport.closed.done():
                ended = self._transport.closed.result()
            self._transport.close("stopped")
        if self._location:
            with suppress(httpx.HTTPError):  # counted already; the server may be gone
                await self._client.delete(
                    self._location, headers={"Authorization": f"Bearer {self._token}"}, timeout=5
                )

        def since_start(at: float | None) -> float | None:
            return None if at is None else (at - self._start) * 1000

        return ViewerReport(
            (self._posted - self._start) * 1000,
            (self._connected - self._start) * 1000,
            since_start(self.video.first_at),
            since_start(self._first_key_at),
            seconds,
            self.video.packets,
            self.video.octets,
            self.video.frames,
            self.video.lost,
            self.video.duplicates,
            self.sound.packets,
            self.sound.lost,
            self.video.longest_gap_s * 1000,
            self.video.jitter_ms,
            self.authenticated,
            self.forged,
            ended,
        )

    def request_key(self) -> None:
        """Ask for a key frame, as a decoder that lost its picture would."""
        transport = self._transport
        if transport is not None and transport.tx is not None:
            transport.send(transport.tx.protect_rtcp(build_pli(1, self.video.ssrc)))

    def _arrived(self, data: bytes, now: float) -> None:
        transport = self._transport
        assert transport is not None
        kind = data[1]
        if 192 <= kind <= 223:
            self._rtcp(transport, data, now)
            return
        self._seen += 1
        seq, rtp_ts, ssrc = _SEQ_TS_SSRC(data, 2)
        stream = self.sound if kind & 0x7F == AUDIO_PT else self.video
        if self._full or self._seen <= FULL_PACKETS or not self._seen % SAMPLE:
            if transport.rx is None:
                return
            try:
                plain = transport.rx.unprotect(data)
            except SrtpError:
                self.forged += 1
                return
            self.authenticated += 1
            if self._first_key_at is None and stream is self.video:
                self._look_for_key(plain, now)
        stream.count(seq, rtp_ts, ssrc, len(data) - 12, now)

    def _look_for_key(self, plain: bytes, now: float) -> None:
        header = parse_header(plain, len(plain))
        if header is None:
            return
        test = self._key_tests.get(header[0])
        if test is not None and test(plain, header[6], header[7]):
            self._first_key_at = now
            if not self.got_picture.done():
                self.got_picture.set_result(now)

    def _rtcp(self, transport: Transport, data: bytes, now: float) -> None:
        if transport.rx is None:
            return
        try:
            plain = transport.rx.unprotect_rtcp(data)
        except SrtpError:
            self.forged += 1
            return
        self.authenticated += 1
        for item in parse_compound(plain):
            if isinstance(item, SenderReport):
                self.clocks[item.ssrc] = item
                self._sender_reports[item.ssrc] = (middle_ntp(item.ntp), now)

    async def _report(self) -> None:
        transport = self._transport
        assert transport is not None
        while True:
            await asyncio.sleep(REPORT_S)
            now = time.monotonic()
            blocks = []
            for stream in (self.video, self.sound):
                if stream.first_at is None:
                    continue
                middle, at = self._sender_reports.get(stream.ssrc, (0, now))
                blocks.append(
                    ReceptionReport(
                        stream.ssrc,
                        0,
                        stream.lost,
                        stream.highest,
                        int(stream.jitter),
                        middle,
                        int((now - at) * 65536),
                    )
                )
            if transport.tx is not None:
                transport.send(transport.tx.protect_rtcp(build_rr(1, blocks)))
