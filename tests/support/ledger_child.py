"""A process with an engine and a RoomService that speaks JSON lines: made to be killed.

In: `{"id", "identity", "role", "method", "params"}` a line. Out: `{"id", "reply"}` or
`{"id", "refused"}` for each, `{"heard": channel, "offset", "data"}` for each publication
and `{"ready": true}` once calls are taken. The data directory is the one argument.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from interact.engine import Publication
from interact.engine_embedded import EmbeddedEngine
from interact.protocol import Refused, Role
from interact.rooms import Caller, RoomService


def say(message: dict[str, Any]) -> None:
    """One whole line by one system call: a kill cannot cut it short."""
    os.write(1, json.dumps(message).encode() + b"\n")


def hear(publication: Publication) -> None:
    """Tell the test what a phone would have been told."""
    data = publication.data.decode()
    say({"heard": publication.channel, "offset": publication.offset, "data": data})


async def answer(rooms: RoomService, line: bytes) -> None:
    """One call."""
    call = json.loads(line)
    caller = Caller("r", call["identity"], Role(call["role"]), call["identity"].upper())
    params = json.dumps(call["params"]).encode()
    try:
        reply = await rooms.rpc(caller, call["method"], params)
    except Refused as refused:
        say({"id": call["id"], "refused": refused.reason, "detail": refused.detail})
    else:
        say({"id": call["id"], "reply": json.loads(reply)})


async def main() -> None:
    """Serve until the input ends or somebody kills us."""
    engine = EmbeddedEngine(Path(sys.argv[1]))
    await engine.start(hear)
    rooms = RoomService(
        engine,
        clock=lambda: time.time_ns() // 1_000_000,
        on_tick=lambda channel, data: None,
        bids_per_s=1e6,
        bid_burst=1_000_000,
    )
    await rooms.start()
    say({"ready": True})
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with asyncio.TaskGroup() as calls:
        while line := await lines.readline():
            calls.create_task(answer(rooms, line))
    await rooms.close()
    await engine.close()


if __name__ == "__main__":
    asyncio.run(main())
