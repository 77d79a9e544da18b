"""The relay of one worker: sessions and their verbs, rooms, and what time makes due.

Composition: `Intake` receives and routes, `Publisher` and `Viewer` are sessions, `Rooms`
says who watches whom. This module connects them: it answers offers, follows cameras as
they come and go, and runs one timer for feedback, reports, replays and time-outs.

All of it runs on one event loop. Verbs are called by the control API; packets come in
through `Intake`; nobody else changes sessions or rooms.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from interact.protocol import Reason, Refused, is_camera_name, is_identity, is_room_name
from media.events import EventBoard, EventStream
from media.extensions import WRITTEN
from media.feed import Feed, PullAnswer, PullOffer
from media.intake import Intake
from media.negotiation import (
    Codec,
    Local,
    PlayIds,
    PlayPlan,
    PublishPlan,
    Remote,
    answer_play,
    answer_publish,
    parse_offer,
    parse_sdpfrag,
    restart_fragment,
)
from media.peer import Certificate, CloseReason, Peer, PeerState
from media.publisher import Publisher
from media.pull import PulledPublisher, PullSocket
from media.rooms import MAX_CHOICE_AHEAD_MS, Camera, Room, Rooms, Sighting
from media.stun import IceLite, make_ufrag
from media.subscriber import REPLAY_INTERVAL_S, LineState, OutLine
from media.track import Layer
from media.udp import UdpPort
from media.viewer import Viewer

logger = logging.getLogger("media.relay")

Session: TypeAlias = "Publisher | Viewer | Feed"

TICK_S: Final = 0.02
"""The relay's timer: NACKs and held-back requests leave at most this late."""

VIEWER_SHARDS: Final = 5
"""Viewers are looked after in turns: each every fifth tick, ten times a second."""

PUBLISHER_SILENCE_S: Final = 5.0
"""No authentic packet for this long: the camera is offline. Its session stays, so that a
phone that walked through a tunnel goes on where it was."""

CONSENT_S: Final = 30.0
"""No authentic packet for this long: a publisher's session ends (RFC 7675 §5.1)."""

VIEWER_SILENCE_S: Final = 20.0
"""The same for a viewer, sooner since what we send would go on for nobody; browsers send a
check every 2.5 s."""

NO_SHOW_S: Final = 20.0
"""From the answer to the first authentic check."""

LOAD_INTERVAL_S: Final = 1.0
"""How often event streams are told sessions, CPU and loop lag."""

FORGET_INTERVAL_S: Final = 60.0
_UFRAG_BYTES: Final = 9
_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """How much one worker takes on."""

    sessions: int = 2000
    """Publishers and viewers together; more are refused with `full`. Each costs up to 250 kB."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a WHIP or WHEP POST is answered with."""

    session: str
    sdp: str
    etag: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """What an ICE restart is answered with."""

    sdpfrag: str
    etag: str


class Relay:
    """One worker's sessions. Make it, `start` it on the running loop, `stop` it."""

    def __init__(
        self,
        port: UdpPort,
        *,
        index: int,
        secret: bytes,
        addresses: tuple[tuple[str, int], ...],
        limits: RelayLimits | None = None,
    ) -> None:
        self.index = index
        self.epoch = secrets.token_urlsafe(9)
        self.events = EventBoard()
        self.rooms: Rooms[Publisher, Viewer] = Rooms()
        self.intake = Intake(port, IceLite(secret))
        self.sessions: dict[str, Session] = {}
        self._port = port
        self._addresses = addresses
        self._limits = limits or RelayLimits()
        self._certificate = Certificate()
        self._fingerprints = (("sha-256", self._certificate.fingerprint),)
        self._rng = random.SystemRandom()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._replay_timer: asyncio.TimerHandle | None = None
        self._replaying: set[OutLine] = set()
        self._silent: set[Publisher] = set()
        self._tick_count = 0
        self._tick_due = 0.0
        self._forget_at = 0.0
        self._lag_ms_max = 0.0
        self._lag_ms = 0.0
        self._opened = {"publisher": 0, "viewer": 0, "pull": 0, "feed": 0}
        self._closed: dict[CloseReason, int] = dict.fromkeys(CloseReason, 0)
        self._dtls_ms: list[float] = []
        self._feeds: set[Feed] = set()
        self._load_at = 0.0
        self._load_cpu_s = time.process_time()
        self._load_lag_ms = 0.0
        self._load: dict[str, Any] = {"sessions": 0, "cpu": 0.0, "lag_ms": 0.0}
        self.on_wanted: Callable[[str, str], None] = _nobody_pulls
        """Called with room and camera when a viewer wants one that only another worker has."""
        self.on_pull_closed: Callable[[PulledPublisher], None] = lambda pull: None
        """Called when a pull ended, whoever ended it."""
        self.on_layers_wanted: Callable[[PulledPublisher, tuple[str, ...]], None] = (
            lambda pull, rids: None
        )
        """Called when other simulcast layers of a pulled camera are needed than before."""
        self.describe_cascade: Callable[[], dict[str, Any]] = dict
        """Asked by `stats`."""

    # Life.

    def start(self) -> None:
        """Begin to receive. Must be called on the loop that runs everything."""
        self._loop = asyncio.get_running_loop()
        self.intake.start(self._loop)
        self._tick_due = self._loop.time() + TICK_S
        self._timer = self._loop.call_at(self._tick_due, self._tick)

    def stop(self) -> None:
        """Close every session (peers get close_notify), end event streams. Idempotent."""
        self.on_wanted = _nobody_pulls
        for session in tuple(self.sessions.values()):
            session.peer.close(CloseReason.BY_US)
        self._port.flush()
        for timer in (self._timer, self._replay_timer):
            if timer is not None:
                timer.cancel()
        self.intake.stop()
        self.events.close()

    # Verbs.

    def publish(
        self, room_name: str, camera_name: str, sdp: str, identity: str, *, bearer: bool
    ) -> Opened:
        """Accept a WHIP offer. A camera that is live already is taken over at once.

        Raises Refused: BAD_NAME, BAD_SDP, NO_CODEC, FULL.
        """
        _check_names(room_name, identity, camera_name)
        now = time.monotonic()
        self._check_room_for_one()
        local = self._local()
        plan = answer_publish(parse_offer(sdp), local)
        room = self.rooms.open(room_name, now)
        camera = room.camera(camera_name)
        if camera.publisher is not None:
            self._take_over(camera.publisher)
        publisher = Publisher(
            self._session_id(bearer),
            room,
            camera,
            identity,
            plan,
            self._rng.randrange(1, 1 << 32),
            secrets.token_urlsafe(9),
            self._stream_started,
            self._publisher_said_bye,
        )
        publisher.dirty = self.intake.dirty
        camera.publisher = publisher
        self._add(publisher, plan.remote, local.ice_ufrag, now)
        self._opened["publisher"] += 1
        logger.info("whip.open room=%s camera=%s session=%s", room_name, camera_name, publisher.id)
        return Opened(publisher.id, plan.answer, publisher.etag)

    def watch(
        self, room_name: str, camera_name: str | None, sdp: str, identity: str, *, bearer: bool
    ) -> Opened:
        """Accept a WHEP offer for one camera, or for the program (None).

        Raises Refused: BAD_NAME, NOT_LIVE, BAD_SDP, NO_CODEC, FULL.
        """
        _check_names(room_name, identity, camera_name)
        now = time.monotonic()
        room = self.rooms.get(room_name)
        publisher = self._publisher_for(room, camera_name) if room is not None else None
        if room is None or publisher is None:
            raise Refused(Reason.NOT_LIVE, "nobody publishes here now", retry_after_s=2)
        self._check_room_for_one()
        local = self._local()
        cname = secrets.token_urlsafe(9)
        ssrcs = [*{self._rng.randrange(1, 1 << 32) for _ in range(8)}][:4]
        ids = PlayIds(cname, "livehouse", ssrcs[0], ssrcs[1], ssrcs[2], ssrcs[3])
        sources: list[Codec] = [track.codec for track in publisher.tracks]
        plan = answer_play(parse_offer(sdp), local, ids, sources, extensions=WRITTEN)
        viewer = Viewer(self._session_id(bearer), room, identity, camera_name, plan, cname)
        self._add(viewer, plan.remote, local.ice_ufrag, now)
        for line in (plan.video, plan.audio):
            if line is not None:
                viewer.add_line(OutLine(line, viewer.peer, self._port, self._rng))
        room.viewers[viewer.id] = viewer
        self._opened["viewer"] += 1
        self._tell_viewers(room)
        return Opened(viewer.id, plan.answer, viewer.etag)

    def patch(
        self, room_name: str, session_id: str, sdpfrag: str, if_match: str | None
    ) -> Restarted | None:
        """Trickled candidates (None) or an ICE restart.

        We never send checks, so candidates need only be well-formed. `if_match` is the
        If-Match header; a restart names credentials that we have not seen, and `*`. Media
        goes on over the old path until a check proves the new one. A viewer may trickle
        without If-Match, since a common player (npm `whip-whep` 1.2.0) does and its ufrag
        tells the generation just as well.
        Raises Refused: NO_SESSION, BAD_SDP, ETAG_MISSING, ETAG_MISMATCH.

        RFC 9725 §4.3.1-4.3.3, RFC 9110 §13.1.1 (strong comparison).
        """
        session = self._session(room_name, session_id)
        fragment = parse_sdpfrag(sdpfrag)
        is_restart = fragment.ice_ufrag != session.peer.remote_ufrag
        if if_match is None and isinstance(session, Viewer) and not is_restart:
            return None
        if if_match is None:
            raise Refused(Reason.ETAG_MISSING, "If-Match must hold the session's ETag, or *")
        tags = [tag.strip().strip('"') for tag in if_match.split(",")]
        if "*" not in tags and session.etag not in tags:
            raise Refused(Reason.ETAG_MISMATCH, "the ICE session has been restarted since")
        if not is_restart:
            return None
        local = self._local()
        self.intake.restart(session.peer, local.ice_ufrag, fragment.ice_ufrag)
        session.etag = secrets.token_urlsafe(9)
        return Restarted(restart_fragment(session.plan, local), session.etag)

    def delete(self, room_name: str, session_id: str) -> None:
        """End a session. Raises Refused(NO_SESSION)."""
        self._session(room_name, session_id).peer.close(CloseReason.BY_US)
        self._port.flush()

    def set_camera(self, room_name: str, session_id: str, camera_name: str | None) -> None:
        """Move a running viewer to another camera, or back to the program (None).

        Raises Refused: NO_SESSION, BAD_STATE (a publisher's session), NO_CAMERA.
        """
        viewer = self._viewer(room_name, session_id)
        if camera_name is not None and camera_name not in viewer.room.cameras:
            raise Refused(Reason.NO_CAMERA, f"the room has no camera {camera_name[:64]}")
        viewer.wish = camera_name
        self._retarget(viewer)

    def set_layer(self, room_name: str, session_id: str, max_height: int | None) -> None:
        """Cap a viewer's picture height in pixels, or let it be automatic (None)."""
        viewer = self._viewer(room_name, session_id)
        viewer.set_max_height(max_height)
        self._retarget(viewer)

    def set_program(self, room_name: str, camera_name: str | None, at: int | None = None) -> None:
        """Cut the program to a camera, or hand it to the automatic (None).

        `at` is when that was said (Unix ms; None: now); an older choice than the one in force
        changes nothing. Raises Refused: BAD_NAME, NO_CAMERA.
        """
        if not is_room_name(room_name):
            raise Refused(Reason.BAD_NAME, "not a room name")
        room = self.rooms.open(room_name, time.monotonic())
        if camera_name is not None and camera_name not in room.cameras:
            raise Refused(Reason.NO_CAMERA, f"the room has no camera {camera_name[:64]}")
        self.adopt_choice(room_name, camera_name, at if at is not None else _unix_ms())

    # The cascade: cameras of other workers, and ours for them.

    def adopt_choice(self, room_name: str, camera_name: str | None, at: int) -> None:
        """Take a director's choice that may name a camera which this worker has not met yet."""
        room = self.rooms.open(room_name, time.monotonic())
        at = min(at, _unix_ms() + MAX_CHOICE_AHEAD_MS)
        self._publish_events(room, room.set_choice(camera_name, at))

    def meet_camera(self, room_name: str, camera_name: str) -> None:
        """Know that a room has a camera, live or not. Raises Refused(FULL)."""
        self.rooms.open(room_name, time.monotonic()).camera(camera_name)

    def sight(self, room_name: str, camera_name: str, sighting: Sighting | None) -> None:
        """A camera is live at another worker, or no longer at any. Raises Refused(FULL).

        If it is published here as well, the newer of the two stays: the other is a publisher
        who went elsewhere without a word.
        """
        room = self.rooms.open(room_name, time.monotonic())
        camera = room.camera(camera_name)
        events = room.sight(camera, sighting)
        publisher = camera.publisher
        since = camera.live_since
        is_newer = sighting is not None and since is not None and since < sighting.since
        is_newer = is_newer or (sighting is not None and publisher in self._silent)
        if is_newer and publisher is not None and not publisher.is_pull:
            publisher.peer.close(CloseReason.BY_US)
        self._publish_events(room, events)
        if sighting is not None and camera.publisher is None and self.is_wanted(room, camera):
            self.on_wanted(room_name, camera_name)

    def is_wanted(self, room: Room[Publisher, Viewer], camera: Camera[Publisher]) -> bool:
        """Whether a viewer of this worker wants to see a camera."""
        return any(room.resolve(viewer.wish) is camera for viewer in room.viewers.values())

    def feed(self, room_name: str, camera_name: str, offer: PullOffer) -> PullAnswer:
        """Give another worker every layer of a camera that is published here.

        Raises Refused: BAD_NAME, NOT_LIVE, FULL.
        """
        _check_names(room_name, offer.identity, camera_name)
        room = self.rooms.get(room_name)
        camera = room.cameras.get(camera_name) if room is not None else None
        publisher = camera.publisher if camera is not None else None
        if room is None or publisher is None or publisher.is_pull:
            raise Refused(Reason.NOT_LIVE, "it is not published here", retry_after_s=1)
        self._check_room_for_one()
        local = self._local()
        feed = Feed(
            self._session_id(True), room, offer.identity, publisher, secrets.token_urlsafe(9)
        )
        remote = Remote(offer.ufrag, "", tuple(offer.fingerprints), (), False)
        self._add(feed, remote, local.ice_ufrag, time.monotonic())
        self._feeds.add(feed)
        tracks = feed.open_lines(self._port, self._rng)
        self._opened["feed"] += 1
        return PullAnswer(
            feed.id,
            publisher.id,
            local.ice_ufrag,
            local.ice_pwd,
            list(local.fingerprints),
            list(local.addresses),
            tracks,
        )

    def set_feed_layers(self, room_name: str, session_id: str, rids: list[str]) -> None:
        """A pulling worker says which simulcast layers its viewers need.

        Raises Refused: NO_SESSION, BAD_STATE (not a pull).
        """
        session = self._session(room_name, session_id)
        if not isinstance(session, Feed):
            raise Refused(Reason.BAD_STATE, "only a pull chooses layers by name")
        session.set_wanted(rids, time.monotonic())
        self._watch_replays([line.out for line in session.lines])
        self._port.flush()

    def pull_offer(self, identity: str) -> PullOffer:
        """What to send to the worker that has a camera."""
        ufrag = make_ufrag(secrets.token_bytes(_UFRAG_BYTES))
        return PullOffer(ufrag, list(self._fingerprints), identity)

    def pull(
        self, room_name: str, camera_name: str, offer: PullOffer, answer: PullAnswer, origin: str
    ) -> PulledPublisher | None:
        """Receive a camera from another worker as if it were published here.

        None if it is by now. Raises OSError (no socket), ValueError (an unusable answer).
        """
        room = self.rooms.open(room_name, time.monotonic())
        camera = room.camera(camera_name)
        if camera.publisher is not None:
            return None
        pulled = PulledPublisher(
            self._session_id(True),
            room,
            camera,
            answer,
            origin,
            self._rng.randrange(1, 1 << 32),
            secrets.token_urlsafe(9),
            self._stream_started,
            self._publisher_said_bye,
        )
        way = PullSocket(answer, self.intake, offer.ufrag, self._rng, pulled.fail)
        pulled.way = way
        pulled.dirty = self.intake.dirty
        camera.publisher = pulled
        self._add(pulled, pulled.plan.remote, offer.ufrag, time.monotonic(), way)
        self._opened["pull"] += 1
        way.start()
        return pulled

    def describe(self, room_name: str, session_id: str) -> dict[str, Any]:
        """One session's details and statistics. Raises Refused(NO_SESSION)."""
        return self._describe(self._session(room_name, session_id), time.monotonic())

    def listen(self) -> EventStream:
        """An event stream that begins with a snapshot."""
        return self.events.listen(
            {
                "type": "snapshot",
                "worker": self.index,
                "epoch": self.epoch,
                "rooms": self.rooms.describe(),
                "load": self._load,
            }
        )

    def stats(self, *, worker_only: bool = False) -> dict[str, Any]:
        """Everything countable: worker, rooms, sessions; the first alone for a scraper."""
        now = time.monotonic()
        lag_max, self._lag_ms_max = self._lag_ms_max, 0.0
        dtls = sorted(self._dtls_ms)
        worker: dict[str, Any] = {
            "worker": {
                "index": self.index,
                "epoch": self.epoch,
                "sessions": len(self.sessions),
                "feeds": len(self._feeds),
                "pulls": sum(isinstance(s, PulledPublisher) for s in self.sessions.values()),
                "cpu": self._load["cpu"],
                "opened": dict(self._opened),
                "closed": {reason.value: n for reason, n in self._closed.items()},
                "loop_lag_ms": round(self._lag_ms, 3),
                "loop_lag_ms_max": round(lag_max, 3),
                "srtp_backends": self._backends(),
                "dtls_ms_p50": round(dtls[len(dtls) // 2], 1) if dtls else None,
                "dtls_ms_max": round(dtls[-1], 1) if dtls else None,
                "events_published": self.events.published,
                "event_streams_cut": self.events.cut,
                **self.intake.stats(),
            }
        }
        if worker_only:
            return worker
        return worker | {
            "cascade": self.describe_cascade(),
            "rooms": self.rooms.describe(),
            "sessions": {
                session_id: self._describe(session, now)
                for session_id, session in self.sessions.items()
            },
        }

    # Sessions.

    def _local(self) -> Local:
        ufrag = make_ufrag(secrets.token_bytes(_UFRAG_BYTES))
        return Local(
            ufrag,
            self.intake.ice.password(ufrag),
            self._fingerprints,
            self._addresses,
            self._rng.randrange(1, 1 << 62),
        )

    def _session_id(self, bearer: bool) -> str:
        return f"s{self.index}{'b' if bearer else 'q'}_{secrets.token_urlsafe(_ID_BYTES)}"

    def _check_room_for_one(self) -> None:
        if len(self.sessions) >= self._limits.sessions:
            raise Refused(Reason.FULL, "this worker takes no more sessions", retry_after_s=10)

    def _add(
        self,
        session: Session,
        remote: Remote,
        ufrag: str,
        now: float,
        way: PullSocket | None = None,
    ) -> None:
        peer = Peer(
            self._port if way is None else way.port,
            self._certificate,
            ufrag=ufrag,
            remote_ufrag=remote.ice_ufrag,
            fingerprints=remote.fingerprints,
            is_dtls_server=not remote.dtls_is_client,
            now=now,
            on_connected=self._connected,
            on_closed=self._peer_closed,
        )
        peer.owner = session
        session.peer = peer
        session.etag = secrets.token_urlsafe(9)
        self.sessions[session.id] = session
        if way is None:
            self.intake.add(peer)
        else:
            way.peer = peer

    def _session(self, room_name: str, session_id: str) -> Session:
        session = self.sessions.get(session_id)
        if session is None or session.room.name != room_name:
            raise Refused(Reason.NO_SESSION, "no such session")
        return session

    def _viewer(self, room_name: str, session_id: str) -> Viewer:
        session = self._session(room_name, session_id)
        if not isinstance(session, Viewer):
            raise Refused(Reason.BAD_STATE, "a publisher's session has no camera to choose")
        return session

    def _connected(self, peer: Peer) -> None:
        if peer.first_binding_at is not None and peer.connected_at is not None:
            self._dtls_ms.append((peer.connected_at - peer.first_binding_at) * 1000)
            del self._dtls_ms[:-500]
        session = peer.owner
        if isinstance(session, Viewer):
            self._retarget(session)
            self._port.flush()
        elif isinstance(session, Feed):
            self._feed(session)
            self._port.flush()
        elif isinstance(session, PulledPublisher):
            session.way.take_early()

    def _peer_closed(self, peer: Peer, reason: CloseReason) -> None:
        self._closed[reason] += 1
        self.intake.remove(peer)
        session: Session = peer.owner
        peer.owner = None
        self.sessions.pop(session.id, None)
        if isinstance(session, Viewer):
            for line in session.lines:
                self._replaying.discard(line)
            session.close()
            session.room.viewers.pop(session.id, None)
            self._tell_viewers(session.room)
        elif isinstance(session, Feed):
            self._feeds.discard(session)
            for feed_line in session.lines:
                self._replaying.discard(feed_line.out)
            session.close()
        else:
            self._publisher_closed(session, reason)
        self._port.flush()

    # Publishers coming and going.

    def _take_over(self, old: Publisher) -> None:
        """The newest publisher wins. The camera is not reported offline in between."""
        old.camera.publisher = None
        self._release(old)
        old.peer.close(CloseReason.BY_US)

    def _publisher_closed(self, publisher: Publisher, reason: CloseReason) -> None:
        camera, room = publisher.camera, publisher.room
        logger.info(
            "whip.close room=%s camera=%s session=%s reason=%s",
            room.name,
            camera.name,
            publisher.id,
            reason,
        )
        self._release(publisher)
        was_current = camera.publisher is publisher
        if was_current:
            camera.publisher = None
        self._silent.discard(publisher)
        if isinstance(publisher, PulledPublisher):
            publisher.way.close()
            self.on_pull_closed(publisher)
        elif was_current:
            self._publish_events(room, room.went_offline(camera))
            if camera.sighting is not None and self.is_wanted(room, camera):
                self.on_wanted(room.name, camera.name)

    def _release(self, publisher: Publisher) -> None:
        """Let every viewer's line go of this publisher's tracks."""
        self._silent.discard(publisher)
        for layer in publisher.layers:
            self.intake.dirty.discard(layer)
        for track in publisher.tracks:
            for line in tuple(track.subscribers):
                self._replaying.discard(line)
                line.source_gone(track)
        for viewer in publisher.room.viewers.values():
            if viewer.source is publisher:
                viewer.source = None
        for feed in tuple(self._feeds):
            if feed.publisher is publisher:
                feed.peer.close(CloseReason.BY_US)

    def _publisher_said_bye(self, publisher: Publisher) -> None:
        """All its streams ended. Comes from within a burst, so close after it."""
        assert self._loop is not None
        self._loop.call_soon(publisher.peer.close, CloseReason.BY_PEER)

    def _stream_started(self, publisher: Publisher, layer: Layer) -> None:
        """A layer's first packet, or a new codec. Comes from within a burst: act after it."""
        assert self._loop is not None
        self._loop.call_soon(self._announce, publisher)

    def _announce(self, publisher: Publisher) -> None:
        camera, room = publisher.camera, publisher.room
        if camera.publisher is not publisher:
            return
        layers = publisher.layers
        video = next((x.codec.name for x in layers if x.is_video), None)
        has_audio = any(not x.is_video for x in layers)
        is_news = not publisher.is_pull and (
            not camera.is_live
            or camera.session != publisher.id
            or (camera.video_codec, camera.has_audio) != (video, has_audio)
        )
        if is_news:
            self._publish_events(
                room, room.went_live(camera, publisher.id, video, has_audio, time.time())
            )
        for viewer in tuple(room.viewers.values()):
            if room.resolve(viewer.wish) is camera:
                self._retarget(viewer)
        for feed in self._feeds:
            if feed.publisher is publisher:
                self._feed(feed)
        self._port.flush()

    def _publish_events(self, room: Room[Publisher, Viewer], events: list[dict[str, Any]]) -> None:
        for event in events:
            self.events.publish(event)
            if event["type"] == "program.changed":
                for viewer in tuple(room.viewers.values()):
                    if viewer.wish is None:
                        self._retarget(viewer)
        self._port.flush()

    def _tell_viewers(self, room: Room[Publisher, Viewer]) -> None:
        event = room.viewer_count_event()
        if event is not None:
            self.events.publish(event)

    def _publisher_for(self, room: Room[Publisher, Viewer], wish: str | None) -> Publisher | None:
        camera: Camera[Publisher] | None = room.resolve(wish)
        if camera is not None and camera.publisher is not None:
            return camera.publisher
        if wish is None and room.choice is None:
            # The first publisher has been answered, but none of its packets came yet.
            return next((c.publisher for c in room.cameras.values() if c.publisher), None)
        return None

    def _retarget(self, viewer: Viewer) -> None:
        """Point a viewer's lines at what it is to see now."""
        camera = viewer.room.resolve(viewer.wish)
        publisher = camera.publisher if camera is not None else None
        if camera is not None and publisher is None and camera.sighting is not None:
            # What the viewer sees now goes on until the pull brings the first picture.
            self.on_wanted(viewer.room.name, camera.name)
            return
        if viewer.peer.state is not PeerState.CONNECTED:
            return
        viewer.follow(publisher, time.monotonic())
        self._watch_replays(viewer.lines)

    def _feed(self, feed: Feed) -> None:
        """Send a pulling worker what there is by now."""
        feed.follow(time.monotonic())
        self._watch_replays([line.out for line in feed.lines])

    # Time.

    def _watch_replays(self, lines: list[OutLine]) -> None:
        for line in lines:
            if line.state is LineState.REPLAYING:
                self._replaying.add(line)
        if self._replaying and self._replay_timer is None and self._loop is not None:
            self._replay_timer = self._loop.call_later(REPLAY_INTERVAL_S, self._replay)

    def _replay(self) -> None:
        """Send the next portion of every replay that is under way."""
        self._replay_timer = None
        now = time.monotonic()
        for line in tuple(self._replaying):
            line.send_replay(now)
            if line.state is not LineState.REPLAYING:
                self._replaying.discard(line)
        self._port.flush()
        if self._replaying and self._loop is not None:
            self._replay_timer = self._loop.call_later(REPLAY_INTERVAL_S, self._replay)

    def _tick(self) -> None:
        loop = self._loop
        assert loop is not None
        late = loop.time() - self._tick_due
        self._lag_ms = late * 1000
        self._lag_ms_max = max(self._lag_ms_max, self._lag_ms)
        now, unix_now = time.monotonic(), time.time()
        self._tick_count += 1
        shard = self._tick_count % VIEWER_SHARDS
        for i, session in enumerate(tuple(self.sessions.values())):
            if isinstance(session, Publisher):
                session.feed_back(now)
                wanted = session.judge_layers(now)
                if isinstance(session, PulledPublisher):
                    if wanted is not None:
                        self.on_layers_wanted(session, wanted)
                elif wanted is not None and session.camera.publisher is session:
                    self._publish_events(
                        session.room, session.room.wants_layers(session.camera, wanted)
                    )
                self._note_silence(session, now)
            elif isinstance(session, Feed):
                if i % VIEWER_SHARDS == shard:
                    session.handle_timer(now, unix_now)
                    self._watch_replays([line.out for line in session.lines])
                if self._is_gone(session.peer, now, PUBLISHER_SILENCE_S):
                    session.peer.close(CloseReason.TIMEOUT)
            elif i % VIEWER_SHARDS == shard:
                session.handle_timer(now, unix_now)
                self._watch_replays(session.lines)
                if self._is_gone(session.peer, now, VIEWER_SILENCE_S):
                    session.peer.close(CloseReason.TIMEOUT)
        self._load_lag_ms = max(self._load_lag_ms, self._lag_ms)
        if now >= self._load_at:
            self._tell_load(now)
        if now >= self._forget_at:
            self._forget_at = now + FORGET_INTERVAL_S
            self.rooms.forget_idle(now)
        self._port.flush()
        self._tick_due = loop.time() + TICK_S
        self._timer = loop.call_at(self._tick_due, self._tick)

    def _note_silence(self, publisher: Publisher, now: float) -> None:
        """Take a camera off air that says nothing, and on again when it speaks."""
        peer = publisher.peer
        if self._is_gone(peer, now, CONSENT_S):
            peer.close(CloseReason.TIMEOUT)
            return
        is_silent = peer.state is PeerState.CONNECTED and now - peer.heard_at > PUBLISHER_SILENCE_S
        if is_silent == (publisher in self._silent):
            return
        if not is_silent:
            self._silent.discard(publisher)
            if publisher.layers:
                self._announce(publisher)
            return
        self._silent.add(publisher)
        camera, room = publisher.camera, publisher.room
        logger.info(
            "whip.silent room=%s camera=%s session=%s", room.name, camera.name, publisher.id
        )
        if camera.publisher is publisher:
            self._publish_events(room, room.went_offline(camera))

    def _tell_load(self, now: float) -> None:
        """How busy this worker is, for whoever places sessions: the last second's share of a
        core and worst delay of the loop."""
        cpu_s = time.process_time()
        span_s = now - self._load_at + LOAD_INTERVAL_S if self._load_at else LOAD_INTERVAL_S
        self._load = {
            "sessions": len(self.sessions),
            "cpu": round((cpu_s - self._load_cpu_s) / span_s, 3),
            "lag_ms": round(self._load_lag_ms, 1),
        }
        self._load_at = now + LOAD_INTERVAL_S
        self._load_cpu_s = cpu_s
        self._load_lag_ms = 0.0
        self.events.publish({"type": "load", "load": self._load})

    @staticmethod
    def _is_gone(peer: Peer, now: float, silence_s: float) -> bool:
        if peer.state is PeerState.CONNECTED:
            return now - peer.heard_at > silence_s
        return now - peer.heard_at > NO_SHOW_S

    # Looking in.

    def _backends(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for session in self.sessions.values():
            if session.peer.sender is not None:
                name = f"{session.peer.sender.backend}/{session.peer.profile}"
                found[name] = found.get(name, 0) + 1
        return found

    def _describe(self, session: Session, now: float) -> dict[str, Any]:
        peer = session.peer
        role = "viewer" if isinstance(session, Viewer) else "publisher"
        if isinstance(session, Feed):
            role = "feed"
        elif isinstance(session, PulledPublisher):
            role = "pull"
        handshake = (
            round((peer.connected_at - peer.created_at) * 1000, 1) if peer.connected_at else None
        )
        out: dict[str, Any] = {
            "session": session.id,
            "role": role,
            "room": session.room.name,
            "identity": session.identity,
            "state": peer.state.value,
            "address": peer.destination.text if peer.destination is not None else None,
            "srtp_profile": peer.profile or None,
            "age_s": round(now - peer.created_at, 1),
            "silent_s": round(now - peer.heard_at, 1),
            "connected_ms": handshake,
        }
        if isinstance(session, Viewer):
            first = min(
                (line.first_sent_at for line in session.lines if line.first_sent_at is not None),
                default=None,
            )
            out["first_packet_ms"] = (
                round((first - peer.created_at) * 1000, 1) if first is not None else None
            )
            out.update(session.stats())
        elif isinstance(session, Feed):
            out.update(session.stats())
        else:
            out["camera"] = session.camera.name
            out.update(session.stats(now))
        return out


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


def _nobody_pulls(room: str, camera: str) -> None:
    """Without a cascade there is nowhere to pull from."""


def _check_names(room: str, identity: str, camera: str | None) -> None:
    if not is_room_name(room):
        raise Refused(Reason.BAD_NAME, "not a room name")
    if camera is not None and not is_camera_name(camera):
        raise Refused(Reason.BAD_NAME, "not a camera name")
    if not is_identity(identity):
        raise Refused(Reason.BAD_NAME, "not an identity")


Plan: TypeAlias = PublishPlan | PlayPlan
