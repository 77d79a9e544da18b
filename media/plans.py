"""What a negotiation decided, as data: our end, the peer's end, and each accepted line."""

from __future__ import annotations

from dataclasses import dataclass

from media.sdp import Candidate, Codec


@dataclass(frozen=True, slots=True)
class Local:
    """Our end: what an answer says about us."""

    ice_ufrag: str
    ice_pwd: str
    fingerprints: tuple[tuple[str, str], ...]
    """(hash function such as "sha-256", colon-separated hex)."""
    addresses: tuple[tuple[str, int], ...]
    """(IP address, UDP port) of each candidate, the best first. At least one."""
    session_id: int = 1
    """For the o-line: 1 to 2**62."""


@dataclass(frozen=True, slots=True)
class Remote:
    """The peer's end of the transport that every line shares."""

    ice_ufrag: str
    ice_pwd: str
    fingerprints: tuple[tuple[str, str], ...]
    candidates: tuple[Candidate, ...]
    dtls_is_client: bool
    """Whether we open the DTLS handshake (the offer was passive)."""


@dataclass(frozen=True, slots=True)
class Line:
    """One accepted m-line and what was agreed on it.

    Codecs are in the order of the answer, their names in our spelling (VP8, VP9, H264,
    AV1, opus), their payload types the ones on the wire in both directions.
    """

    kind: str
    mid: str
    codecs: tuple[Codec, ...]
    extensions: dict[str, int]
    """URI → id, of those accepted."""
    rids: tuple[str, ...] = ()
    ssrcs: tuple[int, ...] = ()
    """A publisher's announced SSRCs; empty with rid-based simulcast."""
    ssrc_groups: tuple[tuple[str, tuple[int, ...]], ...] = ()
    ssrc: int = 0
    """A viewer's line: what we send with; 0 on a publisher's line."""
    rtx_ssrc: int = 0

    def by_payload_type(self) -> dict[int, Codec]:
        """Payload type → codec, without the rtx types."""
        return {codec.payload_type: codec for codec in self.codecs}

    def rtx_types(self) -> dict[int, int]:
        """RTX payload type → payload type that it resends."""
        return {c.rtx: c.payload_type for c in self.codecs if c.rtx is not None}


@dataclass(frozen=True, slots=True)
class PublishPlan:
    """What a publisher's answer decided. At least one of `video`, `audio` is there."""

    answer: str
    remote: Remote
    video: Line | None
    audio: Line | None


@dataclass(frozen=True, slots=True)
class PlayPlan:
    """What a viewer's answer decided. At least one of `video`, `audio` is there."""

    answer: str
    remote: Remote
    video: Line | None
    audio: Line | None


@dataclass(frozen=True, slots=True)
class PlayIds:
    """Numbers and names for a viewer's lines; the caller draws them at random.

    One `stream` for both lines is what makes a browser play them in sync.
    """

    cname: str
    stream: str
    video_ssrc: int
    video_rtx_ssrc: int
    audio_ssrc: int
    audio_rtx_ssrc: int
