"""The web worker's side of a media worker's private control API.

Sessions live and die with their worker, so a request that lost its connection may be
sent again: the process that could have acted on the first one is gone. While a worker
restarts, its listener stays open in the supervisor and the request simply waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from interact.protocol import Reason
from server.children import MediaPeer
from server.errors import STATUS, MediaRefused, Unavailable
from server.media_view import MediaView
from server.steering import Steering

REQUEST_TIMEOUT_S: Final = 5.0
MAX_TRIES: Final = 3
"""Workers asked for one new session."""

STREAM_SILENCE_S: Final = 6.0
"""The event stream says `ping` every 2 s; three missing ones mean it is dead."""


class Created(msgspec.Struct, frozen=True):
    """A session the worker made. `sdp` is the answer."""

    session: str
    sdp: str
    etag: str


class Patched(msgspec.Struct, frozen=True):
    """What an ICE restart changed."""

    sdpfrag: str
    etag: str


class _Error(msgspec.Struct):
    reason: str = ""
    detail: str = ""
    kind: str | None = None
    supported: list[str] | None = None


class MediaWorker:
    """One media worker. Every call raises MediaRefused or Unavailable, nothing else."""

    def __init__(self, peer: MediaPeer, secret: str, *, is_own: bool = True) -> None:
        """`is_own`: it belongs to this server and takes its sessions."""
        self.index = peer.index
        self.is_own = is_own
        self.name = str(peer.index) if is_own else urlsplit(peer.url).netloc
        self.is_connected = False  # written by the bridge: its event stream is up
        self._client = httpx.AsyncClient(
            base_url=peer.url,
            headers={"Authorization": f"Bearer {secret}"},
            timeout=httpx.Timeout(REQUEST_TIMEOUT_S, connect=1.0),
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=32),
            trust_env=False,  # a proxy in the environment is not for a private network
            verify=False,  # plain HTTP: no TLS context to build at each start
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def publish(
        self, room: str, camera: str, *, sdp: str, identity: str, bearer: bool
    ) -> Created:
        """Open a WHIP session."""
        return await self._create(f"/v1/whip/{_q(room)}/{_q(camera)}", sdp, identity, bearer)

    async def watch(
        self, room: str, camera: str | None, *, sdp: str, identity: str, bearer: bool
    ) -> Created:
        """Open a WHEP session on a camera, or on the program."""
        path = f"/v1/whep/{_q(room)}" + (f"/{_q(camera)}" if camera is not None else "")
        return await self._create(path, sdp, identity, bearer)

    async def _create(self, path: str, sdp: str, identity: str, bearer: bool) -> Created:
        body = {"sdp": sdp, "identity": identity, "bearer": bearer}
        response = await self._send("POST", path, body)
        return msgspec.json.decode(response.content, type=Created)

    async def patch(
        self, room: str, session: str, sdpfrag: str, if_match: str | None
    ) -> Patched | None:
        """Trickle candidates, or restart ICE, which gives a new fragment and ETag."""
        body = {"sdpfrag": sdpfrag, "if_match": if_match}
        response = await self._send("PATCH", f"/v1/sessions/{_q(session)}?room={_q(room)}", body)
        if response.status_code == 204:
            return None
        return msgspec.json.decode(response.content, type=Patched)

    async def end(self, room: str, session: str) -> None:
        """Close a session."""
        await self._send("DELETE", f"/v1/sessions/{_q(session)}?room={_q(room)}")

    async def set_camera(self, room: str, session: str, camera: str | None) -> None:
        """Move a running WHEP session to another camera, or to the program."""
        path = f"/v1/sessions/{_q(session)}/camera?room={_q(room)}"
        await self._send("PUT", path, {"camera": camera})

    async def set_layer(self, room: str, session: str, max_height: int | None) -> None:
        """Cap the quality of a running WHEP session, or set it to automatic."""
        path = f"/v1/sessions/{_q(session)}/layer?room={_q(room)}"
        await self._send("PUT", path, {"max_height": max_height})

    async def set_program(self, room: str, camera: str | None, at: int) -> None:
        """Put a camera on air; None is automatic. Of two, the one said later (Unix ms) holds."""
        body = {"camera": camera, "at": at}
        await self._send("PUT", f"/v1/rooms/{_q(room)}/program", body)

    async def inspect(self, room: str, session: str) -> bytes:
        """Details of a session, as JSON for a person."""
        response = await self._send("GET", f"/v1/sessions/{_q(session)}?room={_q(room)}")
        return response.content

    async def stats(self, timeout_s: float = 1.0) -> dict[str, Any]:
        """The worker's counters and gauges, without its single sessions."""
        response = await self._send("GET", "/v1/stats?only=worker", timeout_s=timeout_s)
        return msgspec.json.decode(response.content, type=dict[str, Any])

    @contextlib.asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """The worker's event stream, one JSON object at a time. Raises Unavailable."""
        timeout = httpx.Timeout(STREAM_SILENCE_S, connect=1.0)
        try:
            async with self._client.stream("GET", "/v1/events", timeout=timeout) as response:
                if response.status_code != 200:
                    raise Unavailable(f"media worker {self.index}")
                yield _lines(response)
        except httpx.HTTPError as error:
            raise Unavailable(f"media worker {self.index}") from error

    async def _send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> httpx.Response:
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if content is None else {"Content-Type": "application/json"}
        for is_last in (False, True):
            try:
                async with asyncio.timeout(timeout_s):
                    response = await self._client.request(
                        method, path, content=content, headers=headers
                    )
                break
            except (httpx.TimeoutException, TimeoutError):
                raise Unavailable(f"media worker {self.index}") from None
            except httpx.HTTPError:
                if is_last:
                    raise Unavailable(f"media worker {self.index}") from None
        if response.is_success:
            return response
        raise _refusal(response, self.index)


def _refusal(response: httpx.Response, index: int) -> Exception:
    try:
        error = msgspec.json.decode(response.content, type=_Error)
        reason = Reason(error.reason)
    except (msgspec.DecodeError, ValueError):
        return Unavailable(f"media worker {index}")
    if reason not in STATUS or reason in (Reason.NO_TOKEN, Reason.BAD_TOKEN, Reason.INTERNAL):
        # Ours to settle with the worker, none of the caller's business.
        return Unavailable(f"media worker {index}")
    retry = response.headers.get("Retry-After", "")
    extra = {"kind": error.kind, "supported": error.supported} if error.supported else None
    return MediaRefused(reason, error.detail, int(retry) if retry.isdecimal() else None, extra)


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line


def _q(part: str) -> str:
    return quote(part, safe="")


class MediaPool:
    """Every media worker of this server, and which one takes a new session."""

    def __init__(
        self, workers: Sequence[MediaWorker], elsewhere: Sequence[MediaWorker] = ()
    ) -> None:
        """`elsewhere`: workers of other machines, which only tell us what they carry."""
        self.workers = tuple(workers)
        self.followed = (*self.workers, *elsewhere)
        self.steering = Steering([worker.index for worker in workers])
        self.view: MediaView | None = None
        """What they carry together. Set by the bridge."""

    async def publish(
        self, room: str, camera: str, *, sdp: str, identity: str, bearer: bool
    ) -> Created:
        """Open a WHIP session where the camera is, or on the least busy worker."""
        now = time.monotonic()
        home = self.view.home(room, camera) if self.view is not None else None
        order = self._workers(room, self.steering.for_publisher(room, camera, home, now))
        failure: Exception | None = None
        for worker in order[:MAX_TRIES]:
            try:
                created = await worker.publish(
                    room, camera, sdp=sdp, identity=identity, bearer=bearer
                )
            except (Unavailable, MediaRefused) as error:
                failure = _elsewhere(error, failure)
                continue
            self.steering.placed(worker.index)
            self.steering.accepted(room, camera, worker.index, now)
            return created
        assert failure is not None
        raise failure

    async def watch(
        self, room: str, camera: str | None, *, sdp: str, identity: str, bearer: bool
    ) -> Created:
        """Open a WHEP session on the least busy worker.

        One that has not heard yet of a camera just accepted elsewhere says `not_live`; then
        the worker that accepted it is asked.
        """
        present = self.view.present(room) if self.view is not None else set()
        order = self._workers(room, self.steering.for_viewer(present))
        expected = self.steering.expected(room, time.monotonic())
        known = [worker for worker in order if worker.index in present or worker.index in expected]
        failure: Exception | None = None
        asked: set[int] = set()
        while order and len(asked) < MAX_TRIES:
            worker = order.pop(0)
            if worker.index in asked:
                continue
            asked.add(worker.index)
            try:
                created = await worker.watch(
                    room, camera, sdp=sdp, identity=identity, bearer=bearer
                )
            except (Unavailable, MediaRefused) as error:
                if isinstance(error, MediaRefused) and error.reason is Reason.NOT_LIVE:
                    failure = failure or error
                    order = list(known)
                else:
                    failure = _elsewhere(error, failure)
                continue
            self.steering.placed(worker.index)
            return created
        assert failure is not None
        raise failure

    def _workers(self, room: str, order: Sequence[int]) -> list[MediaWorker]:
        """Workers by index; with none up, the room's, whose listener holds requests meanwhile."""
        by_index = {worker.index: worker for worker in self.workers}
        return [by_index[index] for index in order] or [self.for_room(room)]

    def for_room(self, room: str) -> MediaWorker:
        """A worker for a room by a stable hash of its name."""
        digest = hashlib.blake2b(room.encode(), digest_size=8).digest()
        return self.workers[int.from_bytes(digest, "big") % len(self.workers)]

    def for_session(self, session: str) -> MediaWorker:
        """The worker that made a session. Raises MediaRefused with NO_SESSION."""
        head, _, _ = session.partition("_")
        number = head[1:-1]
        if head[:1] == "s" and head[-1:] in ("b", "q") and number.isdecimal() and len(number) < 5:
            for worker in self.workers:
                if worker.index == int(number):
                    return worker
        raise MediaRefused(Reason.NO_SESSION)

    async def close(self) -> None:
        """Close every worker's connections."""
        for worker in self.followed:
            await worker.close()


def _elsewhere(error: Exception, before: Exception | None) -> Exception:
    """What to say if no worker takes a session. Raises what no other worker would change."""
    if isinstance(error, MediaRefused) and error.reason is not Reason.FULL:
        raise error
    return before or error


def needs_bearer(session: str) -> bool:
    """Whether later verbs on a session need a token; else its URL is the capability."""
    return not session.partition("_")[0].endswith("q")
