"""aiortc publishes and plays through a real worker: pictures are decoded, not counted."""

from __future__ import annotations

import pytest

from tests.integration.media.harness import (
    eventually,
    publish,
    running_worker,
    watch,
)


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_picture_and_sound_arrive_decoded(codec: str) -> None:
    async with running_worker() as worker:
        publishing = await publish(worker, codec=codec)
        watching = await watch(worker)
        await watching.frames_after(30)
        await eventually(lambda: "" if watching.sounds > 20 else f"{watching.sounds} sounds")
        assert watching.sizes == [(320, 240)]
        assert watching.pts == sorted(watching.pts)
        details = await worker.session("shop", watching.session)
        assert details["state"] == "connected"
        assert {t["codec"] for t in details["tracks"]} == {codec, "opus"}
        await watching.close()
        await publishing.close()
