"""One stream to many viewers: this relay and Janus, in the same run with the same viewers.

    python -m loadtest.bench.relay_vs_janus [--viewers 50 100 200] [--janus-libsrtp DIR]

Needs the program `janus` (Debian: `apt install janus`), as Janus WebRTC Server 1.x with its
streaming plugin and HTTP transport. Janus gets its best setting: one event loop, ICE-lite,
AES-128-GCM, only the two modules that are used. Debian's libsrtp protects with NSS, which is
slow; `--janus-libsrtp DIR` names a folder with a `libsrtp2.so.1` built on OpenSSL
(https://github.com/cisco/libsrtp, `-DENABLE_OPENSSL=ON -DBUILD_SHARED_LIBS=ON`).

The stream and the viewers are those of `relay_cpu`: 270 packets of 1,150 bytes a second, paced
over the frame, real ICE, DTLS and SRTP, packets counted. Janus takes the stream as plain RTP,
which spares it the work of opening SRTP. CPU is what the operating system says of the
server's process, divided by the packets that arrived at viewers. Both servers are measured
`--rounds` times in turns; the table has the median.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx

from loadtest.bench.relay_cpu import Sink, Source, cpu_s, measure, memory_kb
from loadtest.offers import read_answer
from loadtest.report import machine
from loadtest.transport import ConnectFailed, Transport

MISSING: Final = "no program `janus` here: `apt install janus` (1.x), then run this again"
MODULE_FOLDERS: Final = (
    "/usr/lib/x86_64-linux-gnu/janus",
    "/usr/lib/aarch64-linux-gnu/janus",
    "/usr/lib/janus",
    "/opt/janus/lib/janus",
)
JOINS_AT_ONCE: Final = 5
JOIN_TRIES: Final = 4
_START_S: Final = 15.0


def config(folder: Path, modules: Path, http_port: int, rtp_port: int) -> None:
    """Write Janus' configuration: one video mountpoint, nothing else."""
    for kind, name in (("plugins", "streaming"), ("transports", "http")):
        (folder / kind).mkdir()
        library = f"libjanus_{name}.so"
        (folder / kind / library).symlink_to(modules / kind / library)
    files = {
        "janus.jcfg": f"""
general: {{
  configs_folder = "{folder}"
  plugins_folder = "{folder}/plugins"
  transports_folder = "{folder}/transports"
  debug_level = 2
  session_timeout = 0
  event_loops = 1
}}
nat: {{ ice_lite = true }}
media: {{ }}
""",
        "janus.transport.http.jcfg": f"""
general: {{
  base_path = "/janus"
  http = true
  port = {http_port}
  ip = "127.0.0.1"
  https = false
}}
admin: {{ admin_http = false }}
""",
        "janus.plugin.streaming.jcfg": f"""
general: {{ }}
bench: {{
  type = "rtp"
  id = 1
  audio = false
  video = true
  videoport = {rtp_port}
  videopt = 96
  videocodec = "vp8"
}}
""",
    }
    for name, text in files.items():
        (folder / name).write_text(text)


def find_modules() -> Path:
    """Where Janus' plugins and transports are."""
    for name in MODULE_FOLDERS:
        if Path(name, "plugins").is_dir():
            return Path(name)
    raise SystemExit("Janus' modules were not found in " + ", ".join(MODULE_FOLDERS))


def free_port(kind: socket.SocketKind) -> int:
    """A port that nobody has at the moment."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def answer_to(offered: str, transport: Transport) -> str:
    """A viewer's answer to Janus' offer of one video line."""
    mid = next((x[6:] for x in offered.splitlines() if x.startswith("a=mid:")), "0")
    lines = [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        f"a=group:BUNDLE {mid}",
        "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "c=IN IP4 0.0.0.0",
        f"a=mid:{mid}",
        f"a=ice-ufrag:{transport.local.ufrag}",
        f"a=ice-pwd:{transport.local.pwd}",
        f"a=fingerprint:sha-256 {Transport.fingerprint()}",
        "a=setup:passive",
        "a=recvonly",
        "a=rtcp-mux",
        "a=rtpmap:96 VP8/90000",
        # Janus begins nothing without a candidate; where our checks come from is what counts.
        "a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host",
        "a=end-of-candidates",
    ]
    return "".join(line + "\r\n" for line in lines)


class Janus:
    """A session of Janus' JSON API over HTTP."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._base = "/janus"
        self._events: dict[int, asyncio.Queue[dict[str, Any]]] = {}

    async def open(self) -> None:
        """Make the session; raises when Janus does not come up."""
        deadline = time.monotonic() + _START_S
        while True:
            try:
                reply = await self._ask("/janus", janus="create")
                break
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)
        self._base = f"/janus/{reply['data']['id']}"

    async def _ask(self, path: str, **body: Any) -> dict[str, Any]:
        body["transaction"] = secrets.token_hex(6)
        reply: dict[str, Any] = (await self._http.post(path, json=body)).json()
        if reply["janus"] == "error":
            raise RuntimeError(f"janus: {reply['error']}")
        return reply

    async def poll(self) -> None:
        """Hand out events for ever."""
        while True:
            found = (await self._http.get(self._base, params={"maxev": 10}, timeout=60)).json()
            for event in found if isinstance(found, list) else [found]:
                queue = self._events.get(event.get("sender", 0))
                if queue is not None:
                    queue.put_nowait(event)

    async def seat(self) -> Sink:
        """One viewer of the mountpoint; a join that times out is tried again."""
        for _ in range(JOIN_TRIES - 1):
            sink = Sink()
            with contextlib.suppress(ConnectFailed):
                await self.watch(sink)
                return sink
        sink = Sink()
        await self.watch(sink)
        return sink

    async def watch(self, sink: Sink) -> None:
        """Connect a viewer to the mountpoint."""
        reply = await self._ask(self._base, janus="attach", plugin="janus.plugin.streaming")
        handle = int(reply["data"]["id"])
        events = self._events[handle] = asyncio.Queue()
        path = f"{self._base}/{handle}"
        await self._ask(path, janus="message", body={"request": "watch", "id": 1})
        offered = ""
        while not offered:
            event = await asyncio.wait_for(events.get(), 10)
            offered = event.get("jsep", {}).get("sdp", "")
        jsep = {"type": "answer", "sdp": answer_to(offered, sink.transport)}
        await self._ask(path, janus="message", body={"request": "start"}, jsep=jsep)
        # It offers actpass and is left to begin, since it repeats what gets lost.
        await sink.watch(dataclasses.replace(read_answer(offered), is_dtls_server=False))


class PlainSource(Source):
    """The same stream as plain RTP to a port of this machine."""

    def __init__(self, pace: str, port: int) -> None:
        super().__init__(pace)
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.connect(("127.0.0.1", port))

    def send(self, packet: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # Janus not there yet
            self._sock.send(packet)

    def close(self) -> None:
        """End it."""
        self._sock.close()


@contextlib.asynccontextmanager
async def running_janus(program: str, libsrtp: str) -> AsyncIterator[tuple[int, Janus, int]]:
    """(process id, session, RTP port) of a Janus of its own."""
    modules = find_modules()
    folder = Path(tempfile.mkdtemp(prefix="livehouse-janus-"))
    http_port, rtp_port = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    config(folder, modules, http_port, rtp_port)
    environment = dict(os.environ)
    if libsrtp:
        environment["LD_LIBRARY_PATH"] = libsrtp
    process = await asyncio.create_subprocess_exec(
        program,
        *("-F", str(folder), "-C", str(folder / "janus.jcfg")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    try:
        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{http_port}", trust_env=False, timeout=30, limits=limits
        ) as http:
            janus = Janus(http)
            await janus.open()
            polling = asyncio.create_task(janus.poll())
            try:
                yield process.pid, janus, rtp_port
            finally:
                polling.cancel()
                await asyncio.gather(polling, return_exceptions=True)
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()
        shutil.rmtree(folder, ignore_errors=True)


async def measure_janus(
    program: str, libsrtp: str, viewers: int, seconds: float, pace: str
) -> dict[str, Any]:
    """What `relay_cpu.measure` says of our own relay, of Janus."""
    async with running_janus(program, libsrtp) as (pid, janus, rtp_port):
        source = PlainSource(pace, rtp_port)
        sending = asyncio.create_task(source.run())
        await asyncio.sleep(0.3)
        memory_before = memory_kb(pid)
        sinks: list[Sink] = []
        joined = time.monotonic()
        while len(sinks) < viewers:
            more = min(JOINS_AT_ONCE, viewers - len(sinks))
            sinks += await asyncio.gather(*(janus.seat() for _ in range(more)))
        joined = time.monotonic() - joined
        await asyncio.sleep(1)
        counts, sent = [sink.packets for sink in sinks], source.sent
        cpu = cpu_s(pid)
        await asyncio.sleep(seconds)
        used = cpu_s(pid) - cpu
        got = [sink.packets - n for sink, n in zip(sinks, counts, strict=True)]
        sent = source.sent - sent
        memory = memory_kb(pid)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        source.close()
        for sink in sinks:
            sink.transport.close()
    return {
        "us_per_arrived": round(used / max(sum(got), 1) * 1e6, 2),
        "core_share": round(used / seconds, 3),
        "arrived": round(statistics.mean(got) / max(sent, 1), 4),
        "worst_viewer": round(min(got) / max(sent, 1), 4),
        "kb_per_viewer": round((memory - memory_before) / viewers),
        "joins_per_s": round(viewers / joined, 1),
    }


def measure_ours(viewers: int, seconds: float, pace: str) -> dict[str, Any]:
    """Our worker, in a process of its own."""
    child = subprocess.Popen(
        [sys.executable, "-m", "loadtest.bench.relay_cpu", "--serve", "gso"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    return asyncio.run(measure(child, viewers, seconds, pace))


def main() -> None:
    """Measure both in turns and print one table; exit 2 where Janus is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--viewers", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pace", choices=["spread", "burst"], default="spread")
    parser.add_argument("--janus", default="janus", help="the program")
    parser.add_argument("--janus-libsrtp", default="", metavar="DIR")
    options = parser.parse_args()
    program = shutil.which(options.janus)
    if program is None:
        print(MISSING, file=sys.stderr)
        raise SystemExit(2)
    what = "the libsrtp given" if options.janus_libsrtp else "the system's libsrtp"
    print(f"{machine()}; Janus with {what}; packets {options.pace}; {options.rounds} rounds\n")
    print("| viewers | server | µs a packet | of Janus' | core | arrived | kB a viewer | joins/s |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|", flush=True)
    for viewers in options.viewers:
        runs: dict[str, list[dict[str, Any]]] = {"janus": [], "livehouse": []}
        for _ in range(options.rounds):
            runs["janus"].append(
                asyncio.run(
                    measure_janus(
                        program, options.janus_libsrtp, viewers, options.seconds, options.pace
                    )
                )
            )
            runs["livehouse"].append(measure_ours(viewers, options.seconds, options.pace))
        medians = {
            name: {
                key: statistics.median(one[key] for one in found)
                for key in (
                    *("us_per_arrived", "core_share", "arrived", "kb_per_viewer", "joins_per_s"),
                )
            }
            for name, found in runs.items()
        }
        base = medians["janus"]["us_per_arrived"]
        for name, row in medians.items():
            print(
                f"| {viewers} | {name} | {row['us_per_arrived']:.1f} | "
                f"{row['us_per_arrived'] / base:.0%} | {row['core_share']:.2f} | "
                f"{row['arrived']:.2%} | {row['kb_per_viewer']:.0f} | {row['joins_per_s']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
