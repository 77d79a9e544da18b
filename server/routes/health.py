"""Whether the process lives, whether every part can serve, and all the figures."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from interact.engine import EngineUnavailable
from interact.engine_redis import RedisEngine
from interact.protocol import Reason
from server.errors import MediaRefused, RequestError, Unavailable
from server.media_client import MediaWorker
from server.services import Services, Wired
from server.siblings import FIGURES

router = APIRouter(tags=["health"])

ENGINE_TIMEOUT_S: Final = 2.0
_PROBE: Final = "room:readyz"


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> dict[str, str]:
    """Always 200 while the process answers at all."""
    return {"status": "ok"}


@router.get(
    "/readyz", summary="Can every part serve?", responses={503: {"description": "Not ready"}}
)
async def readyz(services: Wired) -> JSONResponse:
    """200 only when the ledger answers and every media worker is connected."""
    can_read, web = await asyncio.gather(_can_read(services), services.siblings.states())
    parts = {"engine": "ok" if can_read else "away", **web}
    for worker in services.media.workers:
        # Its event stream says `ping` every 2 s, so this is never older than a few.
        parts[f"media{worker.index}"] = "ok" if worker.is_connected else "away"
    is_ready = all(state == "ok" for state in parts.values())
    if isinstance(services.engine, RedisEngine) and services.engine.weakness:
        parts["durability"] = "weak"  # chosen by the operator; said, but no reason to stop
    return JSONResponse(
        {"ready": is_ready, "parts": parts},
        200 if is_ready else 503,
        headers={"Cache-Control": "no-store"} | ({} if is_ready else {"Retry-After": "1"}),
    )


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
async def metrics(services: Wired) -> Response:
    """Prometheus text format; a media worker that does not answer is left out."""
    text = await services.siblings.figures(await render(services))
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


@router.get(FIGURES, include_in_schema=False)
async def figures(request: Request, services: Wired) -> Response:
    """One worker's own figures, for the worker that was asked for everybody's."""
    if not services.siblings.is_sibling(request.headers.get("authorization")):
        raise RequestError(Reason.NOT_FOUND)
    return Response(services.metrics.render({}), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def render(services: Services) -> bytes:
    """The text of `/metrics`."""
    workers = services.media.workers
    found = await asyncio.gather(*(_stats_of(worker) for worker in workers))
    stats = {w.index: item for w, item in zip(workers, found, strict=True) if item is not None}
    return services.metrics.render(stats)


async def _can_read(services: Services) -> bool:
    """Whether the ledger's disk and thread answer, or the shared engine's server."""
    if isinstance(services.engine, RedisEngine):
        return services.engine.is_up  # it asks the server every second
    try:
        async with asyncio.timeout(ENGINE_TIMEOUT_S):
            await services.engine.history(_PROBE, None, 0)
    except (EngineUnavailable, TimeoutError):
        return False
    return True


async def _stats_of(worker: MediaWorker) -> dict[str, Any] | None:
    try:
        return await worker.stats()
    except (Unavailable, MediaRefused):
        return None
