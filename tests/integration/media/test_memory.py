"""What a viewer leaves behind when it goes: nothing, and without help of the cycle collector.

The worker runs it once in millions of packets, so what only it can free is as good as lost.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter

from loadtest.bench.relay_cpu import Sink, Source
from media.peer import Peer, _Dtls, _Wire
from media.srtp import GcmSender, SrtpReceiver
from media.subscriber import OutLine
from media.viewer import Viewer
from tests.integration.media.harness import Worker, eventually, running_worker

OURS = (Peer, _Dtls, _Wire, GcmSender, SrtpReceiver, OutLine, Viewer)
VISITS = 200
AT_ONCE = 10


def held() -> Counter[str]:
    """Our objects that have not been freed, by type."""
    return Counter(type(x).__name__ for x in gc.get_objects() if type(x) in OURS)


async def visit(worker: Worker, number: int) -> None:
    """One viewer: joins, gets packets, leaves by DTLS, by DELETE, or before its handshake."""
    sink = Sink()
    if number % 10 == 9:
        answer = await worker.post("/v1/whep/bench", sink.offer())
        assert answer.status_code == 201
        session = answer.json()["session"]
    else:
        session = await sink.join(worker.http, "bench")
        await eventually(lambda: "" if sink.packets > 20 else f"{sink.packets} packets")
    if number % 2:
        answer = await worker.http.delete(f"/v1/sessions/{session}", params={"room": "bench"})
        assert answer.status_code == 200
    sink.transport.close()


async def test_two_hundred_visits_leave_no_object_behind() -> None:
    async with running_worker() as worker:
        source = Source("burst")
        await source.join(worker.http, "bench")
        sending = asyncio.create_task(source.run())
        gc.collect()
        before = held()
        assert before["Peer"] == 1
        gc.disable()
        try:
            for first in range(0, VISITS, AT_ONCE):
                await asyncio.gather(*(visit(worker, first + i) for i in range(AT_ONCE)))
            # The last to leave are still saying good-bye.
            await eventually(lambda: "" if held() == before else f"{held()}, was {before}")
        finally:
            gc.enable()
            sending.cancel()
        stats = (await worker.stats())["worker"]
        assert stats["sessions"] == 1
        assert stats["opened"]["viewer"] == VISITS
        assert stats["addresses"] == 1
        source.transport.close()
