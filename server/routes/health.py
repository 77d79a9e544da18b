"""Whether the process lives, whether every part can serve, and all the figures."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from server.errors import MediaRefused, Unavailable
from server.media_client import MediaWorker
from server.services import Services, Wired

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> dict[str, str]:
    """Always 200 while the process answers at all."""
    return {"status": "ok"}


@router.get(
    "/readyz", summary="Can every part serve?", responses={503: {"description": "Not ready"}}
)
async def readyz(services: Wired) -> JSONResponse:
    """200 only when the ledger can be written and every media worker answers."""
    media = await asyncio.gather(*(_stats_of(worker) for worker in services.media.workers))
    parts = {"engine": "ok" if services.engine.stats().get("is_open", 1) else "away"}
    for worker, stats in zip(services.media.workers, media, strict=True):
        is_up = worker.is_connected and stats is not None
        parts[f"media{worker.index}"] = "ok" if is_up else "away"
    is_ready = all(state == "ok" for state in parts.values())
    return JSONResponse(
        {"ready": is_ready, "parts": parts},
        200 if is_ready else 503,
        headers={"Cache-Control": "no-store"} | ({} if is_ready else {"Retry-After": "1"}),
    )


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
async def metrics(services: Wired) -> Response:
    """Prometheus text format; a media worker that does not answer is left out."""
    return Response(await render(services), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def render(services: Services) -> bytes:
    """The text of `/metrics`."""
    workers = services.media.workers
    found = await asyncio.gather(*(_stats_of(worker) for worker in workers))
    stats = {w.index: item for w, item in zip(workers, found, strict=True) if item is not None}
    return services.metrics.render(stats)


async def _stats_of(worker: MediaWorker) -> dict[str, Any] | None:
    try:
        return await worker.stats()
    except (Unavailable, MediaRefused):
        return None
