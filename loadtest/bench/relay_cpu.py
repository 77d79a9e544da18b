"""What does one forwarded packet cost the media worker?

    python -m loadtest.bench.relay_cpu [--viewers 50 200] [--seconds 8] [--pace burst spread]

Starts a worker in a process of its own, publishes one 2.5 Mbit/s stream of synthetic VP8
(30 frames a second, 9 packets of 1,150 bytes a frame) by WHIP, and joins viewers by WHEP
(real ICE, DTLS and SRTP; packets are counted, not decrypted). Prints µs of the worker's CPU
per forwarded packet as the operating system counts it, memory per viewer and the share of
packets that arrived.

`burst`: a frame's packets leave the publisher back to back, as browsers do. `spread`: evenly
over the frame's 33 ms, so nearly every packet is a burst of its own: the worst case.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import socket
import statistics
import struct
import subprocess
import sys
import time
from typing import Any, Final

import httpx

from loadtest.offers import Answer, offer, read_answer
from loadtest.transport import Transport
from media.udp import SendMode
from media.worker import WorkerSettings, serve

FRAMES_PER_S: Final = 30
PACKETS_PER_FRAME: Final = 9
PAYLOAD_BYTES: Final = 1138
SECRET: Final = "bench"
SSRC: Final = 0x11223344
_TICKS: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


async def serve_worker(mode: str) -> None:
    """The child: one worker until standard input closes."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    control = socket.create_server(("127.0.0.1", 0))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, stop.set)
    settings = WorkerSettings(0, SECRET, max_sessions=5000, send_mode=SendMode(mode))
    await serve(settings, udp, control, stop, lambda: print(control.getsockname()[1], flush=True))


def cpu_s(pid: int) -> float:
    """User and system seconds of a process so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_kb(pid: int) -> int:
    """Resident memory in kB."""
    with open(f"/proc/{pid}/status") as file:
        return int(next(line for line in file if line.startswith("VmRSS")).split()[1])


class Sink:
    """A viewer that counts what arrives and throws it away."""

    def __init__(self) -> None:
        self.transport = Transport(lambda data, now: None)
        self.transport.srtp_profiles = ("SRTP_AEAD_AES_128_GCM",)
        self.packets = 0
        self._buffer = bytearray(2048)

    def offer(self, *, like_browser: bool = False) -> str:
        """What it would watch."""
        return offer(
            self.transport.local,
            Transport.fingerprint(),
            video=["VP8"],
            audio=True,
            sending=None,
            like_browser=like_browser,
        )

    async def join(self, http: httpx.AsyncClient, room: str, *, like_browser: bool = False) -> str:
        """Join by a worker's control API; the session's id."""
        body = {"sdp": self.offer(like_browser=like_browser), "identity": "bench", "bearer": True}
        response = await http.post(f"/v1/whep/{room}", json=body)
        assert response.status_code == 201, response.text
        await self.watch(read_answer(response.json()["sdp"]))
        return str(response.json()["session"])

    async def watch(self, answer: Answer) -> None:
        """Connect and count from now on."""
        await self.transport.connect(answer)
        sock = self.transport._socket
        assert sock is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        loop.add_reader(sock, self._drain, sock)

    def _drain(self, sock: socket.socket) -> None:
        buffer = self._buffer
        self.transport._consented_at = time.monotonic()
        while True:
            try:
                sock.recv_into(buffer)
            except BlockingIOError:
                return
            if 127 < buffer[0] < 192 and not 192 <= buffer[1] <= 223:
                self.packets += 1


class Source:
    """A publisher of made-up VP8."""

    def __init__(self, pace: str) -> None:
        self.transport = Transport(lambda data, now: None)
        self.sent = 0
        self._pace = pace
        self._seq = 1000
        self._frame = 0

    async def join(self, http: httpx.AsyncClient, room: str) -> None:
        sdp = offer(
            self.transport.local,
            Transport.fingerprint(),
            video=["VP8"],
            audio=False,
            sending=(SSRC, SSRC + 1),
        )
        body = {"sdp": sdp, "identity": "bench", "bearer": True}
        response = await http.post(f"/v1/whip/{room}/main", json=body)
        assert response.status_code == 201, response.text
        await self.transport.connect(read_answer(response.json()["sdp"]))

    def _packet(self, index: int) -> bytes:
        is_key = self._frame % (FRAMES_PER_S * 2) == 0
        start = 0x90 if index == 0 else 0x80
        descriptor = bytes((start, 0x80, 0x80 | self._frame >> 8 & 0x7F, self._frame & 0xFF))
        body = bytes((0 if is_key else 1,)) + secrets.token_bytes(PAYLOAD_BYTES - 5)
        marker = 0x80 if index == PACKETS_PER_FRAME - 1 else 0
        header = struct.pack(
            ">BBHII", 0x80, marker | 96, self._seq & 0xFFFF, self._frame * 3000, SSRC
        )
        self._seq += 1
        return header + descriptor + body

    async def run(self) -> None:
        """Send on a fixed schedule, whatever the worker does."""
        start = time.monotonic()
        gap = 1 / FRAMES_PER_S / PACKETS_PER_FRAME
        while True:
            for index in range(PACKETS_PER_FRAME):
                if self._pace == "spread" or index == 0:
                    due = start + self._frame / FRAMES_PER_S + index * gap
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                self.send(self._packet(index))
                self.sent += 1
            self._frame += 1

    def send(self, packet: bytes) -> None:
        """Send one RTP packet to where it was published."""
        tx = self.transport.tx
        assert tx is not None
        self.transport.send(tx.protect(packet))


async def measure(
    child: subprocess.Popen[bytes],
    viewers: int,
    seconds: float,
    pace: str,
    *,
    like_browser: bool = False,
) -> dict[str, Any]:
    """One worker, one publisher, `viewers` viewers."""
    assert child.stdout is not None
    try:
        port = int(await asyncio.to_thread(child.stdout.readline))
        base = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=30) as http:
            source = Source(pace)
            await source.join(http, "bench")
            sending = asyncio.create_task(source.run())
            await asyncio.sleep(0.3)
            memory_before = memory_kb(child.pid)
            sinks = [Sink() for _ in range(viewers)]
            joined = time.monotonic()
            for i in range(0, viewers, 10):
                await asyncio.gather(
                    *(
                        sink.join(http, "bench", like_browser=like_browser)
                        for sink in sinks[i : i + 10]
                    )
                )
            joined = time.monotonic() - joined
            await asyncio.sleep(1)
            before = (await http.get("/v1/stats")).json()["worker"]
            counts, sent = [sink.packets for sink in sinks], source.sent
            cpu, started = cpu_s(child.pid), time.monotonic()
            await asyncio.sleep(seconds)
            used, wall = cpu_s(child.pid) - cpu, time.monotonic() - started
            sent = source.sent - sent
            got = [sink.packets - n for sink, n in zip(sinks, counts, strict=True)]
            after = (await http.get("/v1/stats")).json()["worker"]
            memory = memory_kb(child.pid)
            sending.cancel()
            for transport in (source.transport, *(sink.transport for sink in sinks)):
                transport.close()
        forwarded = after["packets_forwarded"] - before["packets_forwarded"]
        messages = after["messages_sent"] - before["messages_sent"]
        return {
            "viewers": viewers,
            "pace": pace,
            "mode": after["send_mode"],
            "us_per_packet": round(used / max(forwarded, 1) * 1e6, 2),
            "us_per_arrived": round(used / max(sum(got), 1) * 1e6, 2),
            "core_share": round(used / wall, 3),
            "mbit_s": round(forwarded * (PAYLOAD_BYTES + 12) * 8 / wall / 1e6),
            "packets_per_message": round(forwarded / max(messages, 1), 2),
            "arrived": round(statistics.mean(got) / max(sent, 1), 4),
            "worst_viewer": round(min(got) / max(sent, 1), 4),
            "kb_per_viewer": round((memory - memory_before) / viewers),
            "joins_per_s": round(viewers / joined, 1),
            "loop_lag_ms_max": after["loop_lag_ms_max"],
            "errors": after["send_errors"],
        }
    finally:
        assert child.stdin is not None
        child.stdin.close()
        child.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", metavar="MODE", help=argparse.SUPPRESS)
    parser.add_argument("--viewers", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--pace", nargs="+", default=["burst", "spread"])
    parser.add_argument("--mode", nargs="+", default=["gso"], help="gso, sendmmsg, sendto")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument(
        "--like-browser",
        action="store_true",
        help="viewers agree on RTX and header extensions, which every packet then carries",
    )
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve_worker(options.serve))
        return
    for mode in options.mode:
        for pace in options.pace:
            for viewers in options.viewers:
                child = subprocess.Popen(
                    [sys.executable, "-m", "loadtest.bench.relay_cpu", "--serve", mode],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
                result = asyncio.run(
                    measure(
                        child, viewers, options.seconds, pace, like_browser=options.like_browser
                    )
                )
                print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
