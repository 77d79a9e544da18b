"""The media worker's process: sockets in, `media.worker.serve` until told to stop."""

from __future__ import annotations

import socket

from media.worker import WorkerSettings, serve
from server.children import MediaChild
from server.children.runtime import Runtime, run_child


async def _main(settings: MediaChild, runtime: Runtime) -> None:
    udp = socket.socket(fileno=settings.udp_fd)
    control = socket.socket(fileno=settings.control_fd)
    for sock in (udp, control):
        sock.setblocking(False)
        sock.set_inheritable(False)
    worker = WorkerSettings(
        index=settings.index,
        control_secret=settings.control_secret,
        public_ips=settings.public_ips,
        peers=settings.peers,
    )
    await serve(worker, udp, control, runtime.stop, runtime.ready)


if __name__ == "__main__":
    run_child(MediaChild, _main)
