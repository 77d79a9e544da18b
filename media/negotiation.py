"""From an offer to an answer and the decisions in it. Nothing here touches a socket.

We relay packets and never decode them, so an answer accepts every codec that can be
carried through and says which payload type means what. A camera has one picture and one
sound, a viewer one line for each: the first usable m-line of each kind is taken, all
others (data channels too) are refused with port 0, as RFC 9725 §4.5 allows.

Choices:

- We are ICE-lite and answer `passive` unless the offer is passive itself, so the peer
  starts both ICE and DTLS and a lost packet is repeated by the side that waits for it.
- Everything is bundled on one transport; candidates stand in the first accepted line.
- `video-orientation` is never accepted: a phone that may not signal its rotation turns
  the pixels itself, and recorders, screens and HLS all see an upright picture.
- RED and ULPFEC are not accepted; losses are repaired by NACK, and Opus carries its own
  forward correction (`useinbandfec`).
- A publisher is answered in the order of its offer (browsers send the first codec);
  a viewer gets the live camera's codecs first.

RFC 8829 §5.3 (answers), RFC 9725 (WHIP), RFC 8843 (BUNDLE), RFC 8853 (simulcast).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from interact.protocol import Reason, Refused
from media.rtp.packet import ExtensionUri
from media.sdp import (
    Candidate,
    Codec,
    Fragment,
    Offer,
    SdpError,
    Section,
    parse_offer,
    parse_sdpfrag,
)

__all__ = [
    "AUDIO_CODECS",
    "VIDEO_CODECS",
    "Candidate",
    "Codec",
    "Fragment",
    "Line",
    "Local",
    "NoCodec",
    "Offer",
    "PlayIds",
    "PlayPlan",
    "PublishPlan",
    "Remote",
    "SdpError",
    "Section",
    "answer_play",
    "answer_publish",
    "match_codec",
    "parse_offer",
    "parse_sdpfrag",
    "restart_fragment",
]

VIDEO_CODECS: Final = ("VP8", "VP9", "H264", "AV1")
AUDIO_CODECS: Final = ("opus",)
RELAYED: Final = {"video": VIDEO_CODECS, "audio": AUDIO_CODECS}
_CANONICAL: Final = {name.lower(): name for name in (*VIDEO_CODECS, *AUDIO_CODECS)}

PUBLISH_EXTENSIONS: Final = (
    ExtensionUri.MID,
    ExtensionUri.RID,
    ExtensionUri.REPAIRED_RID,
    ExtensionUri.TRANSPORT_CC,
    ExtensionUri.ABS_SEND_TIME,
    ExtensionUri.AUDIO_LEVEL,
    ExtensionUri.ABS_CAPTURE_TIME,
)
PLAY_EXTENSIONS: Final = (
    ExtensionUri.TRANSPORT_CC,
    ExtensionUri.ABS_SEND_TIME,
    ExtensionUri.AUDIO_LEVEL,
    ExtensionUri.ABS_CAPTURE_TIME,
    ExtensionUri.PLAYOUT_DELAY,
)
FEEDBACK: Final = ("goog-remb", "transport-cc", "ccm fir", "nack", "nack pli")


class NoCodec(Refused):
    """No codec in common. `detail["codecs"]` lists what would work."""

    def __init__(self, kind: str) -> None:
        codecs = RELAYED[kind]
        note = " (packetization-mode=1)" if kind == "video" else ""
        super().__init__(
            Reason.NO_CODEC,
            f"The offer has no {kind} codec that can be relayed. "
            f"Any of these would work: {', '.join(codecs)}{note}.",
            kind=kind,
            codecs=list(codecs),
        )


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


def answer_publish(offer: Offer, local: Local) -> PublishPlan:
    """Answer a WHIP offer: receive the first usable picture and the first usable sound.

    Raises SdpError where lines are not bundled or nothing is offered to us, NoCodec where
    a line has no codec that we relay.
    """
    chosen = _choose(offer, ("sendrecv", "sendonly"))
    lines: dict[str, Line] = {}
    for section in chosen:
        codecs = _relayable(section)
        lines[section.mid] = Line(
            section.kind,
            section.mid,
            codecs,
            _common_extensions(section, PUBLISH_EXTENSIONS),
            section.rids if section.kind == "video" else (),
            tuple(section.ssrcs),
            section.ssrc_groups,
        )
    body = _answer(offer, local, lines, [_publish_lines(line) for line in lines.values()])
    return PublishPlan(
        body, _remote(chosen[0], offer), _of_kind(lines, "video"), _of_kind(lines, "audio")
    )


def answer_play(
    offer: Offer,
    local: Local,
    ids: PlayIds,
    sources: Sequence[Codec] = (),
    *,
    extensions: Collection[ExtensionUri] = PLAY_EXTENSIONS,
) -> PlayPlan:
    """Answer a WHEP offer: send on the first picture and sound line, every common codec.

    `sources` are the live camera's codecs, which come first in the answer. `extensions`
    are those that the caller is going to write; without TRANSPORT_CC among them,
    transport-cc feedback is not agreed either and browsers estimate by REMB.
    Raises SdpError and NoCodec like `answer_publish`.
    """
    chosen = _choose(offer, ("sendrecv", "recvonly"))
    lines: dict[str, Line] = {}
    for section in chosen:
        codecs = _relayable(section)
        first = [c for c in (match_codec(codecs, source) for source in sources) if c is not None]
        ordered = tuple(dict.fromkeys((*first, *codecs)))
        is_video = section.kind == "video"
        has_rtx = any(codec.rtx is not None for codec in ordered)
        rtx_ssrc = ids.video_rtx_ssrc if is_video else ids.audio_rtx_ssrc
        lines[section.mid] = Line(
            section.kind,
            section.mid,
            ordered,
            _common_extensions(section, extensions),
            ssrc=ids.video_ssrc if is_video else ids.audio_ssrc,
            rtx_ssrc=rtx_ssrc if has_rtx else 0,
        )
    body = _answer(offer, local, lines, [_play_lines(line, ids) for line in lines.values()])
    return PlayPlan(
        body, _remote(chosen[0], offer), _of_kind(lines, "video"), _of_kind(lines, "audio")
    )


def match_codec(codecs: Iterable[Codec], source: Codec) -> Codec | None:
    """The one of a viewer's `codecs` that plays `source`, or None.

    H.264: the same profile if offered, else any (a decoder that takes one profile mostly
    takes the simpler ones, and a picture is worth the try). VP9 and AV1 profiles must be
    equal, since a decoder without 10 bits shows nothing.
    """
    same = [c for c in codecs if c.name.lower() == source.name.lower()]
    key = source.name.upper()
    if key == "H264":
        profile = _h264_profile(source)
        return min(
            same,
            key=lambda c: (_h264_profile(c) != profile, _h264_profile(c)[:2] != profile[:2]),
            default=None,
        )
    name = {"VP9": "profile-id", "AV1": "profile"}.get(key)
    if name is not None:
        wanted = source.parameters.get(name, "0")
        same = [c for c in same if c.parameters.get(name, "0") == wanted]
    return same[0] if same else None


def restart_fragment(plan: PublishPlan | PlayPlan, local: Local) -> str:
    """The body that answers an ICE restart (RFC 9725 §4.3.3, RFC 8840 §9)."""
    lines = [line for line in (plan.audio, plan.video) if line is not None]
    out = ["a=ice-lite", "a=ice-options:trickle ice2"]
    out.append("a=group:BUNDLE " + " ".join(line.mid for line in lines))
    for index, line in enumerate(lines):
        out.append(f"m={line.kind} 9 UDP/TLS/RTP/SAVPF {line.codecs[0].payload_type}")
        out.append(f"a=mid:{line.mid}")
        out += _ice_lines(local)
        if index == 0:
            out += _candidate_lines(local)
    return "\r\n".join(out) + "\r\n"


# Decisions.


def _choose(offer: Offer, directions: tuple[str, ...]) -> list[Section]:
    chosen: list[Section] = []
    for section in offer.sections:
        taken = any(other.kind == section.kind for other in chosen)
        if section.is_media and section.direction in directions and not taken:
            chosen.append(section)
    if not chosen:
        raise SdpError(
            f"The offer has no audio or video line that is {' or '.join(directions)} over DTLS."
        )
    if len(chosen) > 1:
        if not all(section.mid in offer.bundle for section in chosen):
            raise SdpError("The lines are not bundled: a=group:BUNDLE must name every mid.")
        head = chosen[0]
        if any((s.ice_ufrag, s.ice_pwd) != (head.ice_ufrag, head.ice_pwd) for s in chosen[1:]):
            raise SdpError("The bundled lines have different ICE credentials.")
    for section in chosen:
        if not section.rtcp_mux and section.mid not in offer.bundle:
            raise SdpError(f"The {section.kind} line needs a=rtcp-mux.")
    return chosen


def _relayable(section: Section) -> tuple[Codec, ...]:
    """The section's codecs that we carry, spelled our way. Raises NoCodec if there are none."""
    allowed = RELAYED[section.kind]
    found = []
    for codec in section.codecs:
        name = _CANONICAL.get(codec.name.lower())
        if name not in allowed:
            continue
        if codec.clock_rate != (48000 if name == "opus" else 90000):
            continue
        if name == "opus" and codec.channels != 2:  # RFC 7587 §7: always opus/48000/2
            continue
        if name == "H264" and codec.parameters.get("packetization-mode", "0") != "1":
            continue
        found.append(
            Codec(
                codec.payload_type,
                name,
                codec.clock_rate,
                codec.channels,
                codec.fmtp,
                codec.feedback,
                codec.rtx,
            )
        )
    if not found:
        raise NoCodec(section.kind)
    return tuple(found)


def _common_extensions(section: Section, wanted: Collection[ExtensionUri]) -> dict[str, int]:
    return {str(uri): i for uri, i in section.extensions.items() if uri in wanted}


def _h264_profile(codec: Codec) -> str:
    """profile_idc and constraint flags: the first four hexadecimal digits, in lower case."""
    return codec.parameters.get("profile-level-id", "42e01f")[:4].lower()


def _remote(section: Section, offer: Offer) -> Remote:
    candidates = tuple(c for s in offer.sections for c in s.candidates)
    return Remote(
        section.ice_ufrag,
        section.ice_pwd,
        section.fingerprints,
        tuple(dict.fromkeys(candidates)),
        section.setup == "passive",
    )


def _of_kind(lines: dict[str, Line], kind: str) -> Line | None:
    return next((line for line in lines.values() if line.kind == kind), None)


# Text.


def _answer(offer: Offer, local: Local, lines: dict[str, Line], bodies: list[list[str]]) -> str:
    """The whole answer: every m-line of the offer in its order, ours filled, others refused."""
    by_mid = dict(zip(lines, bodies, strict=True))
    out = [
        "v=0",
        f"o=livehouse {local.session_id} 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=ice-lite",
        "a=extmap-allow-mixed",
        "a=msid-semantic: WMS *",
        "a=group:BUNDLE " + " ".join(lines),
    ]
    is_first = True
    for section in offer.sections:
        line = lines.get(section.mid)
        if line is None:
            out += [
                f"m={section.kind} 0 {section.protocol} {' '.join(section.formats)}",
                "c=IN IP4 0.0.0.0",
                f"a=mid:{section.mid}",
                "a=inactive",
            ]
            continue
        address, port = local.addresses[0]
        types = [str(t) for c in line.codecs for t in (c.payload_type, c.rtx) if t is not None]
        out.append(f"m={line.kind} {port} {section.protocol} {' '.join(types)}")
        out.append(f"c=IN {'IP6' if ip_address(address).version == 6 else 'IP4'} {address}")
        out.append(f"a=mid:{line.mid}")
        out += _ice_lines(local)
        out += [f"a=fingerprint:{name} {digest}" for name, digest in local.fingerprints]
        out.append("a=setup:active" if section.setup == "passive" else "a=setup:passive")
        out.append("a=rtcp-mux")
        if section.rtcp_rsize:
            out.append("a=rtcp-rsize")
        out += [f"a=extmap:{number} {uri}" for uri, number in line.extensions.items()]
        out += by_mid[line.mid]
        if is_first:
            out += _candidate_lines(local)
            is_first = False
    return "\r\n".join(out) + "\r\n"


def _ice_lines(local: Local) -> list[str]:
    return [f"a=ice-ufrag:{local.ice_ufrag}", f"a=ice-pwd:{local.ice_pwd}"]


def _candidate_lines(local: Local) -> list[str]:
    """Host candidates, the first address with the highest priority (RFC 8445 §5.1.2.1)."""
    lines = []
    for index, (address, port) in enumerate(local.addresses):
        priority = 126 << 24 | (65535 - index) << 8 | 255
        lines.append(f"a=candidate:{index + 1} 1 udp {priority} {address} {port} typ host")
    lines.append("a=end-of-candidates")
    return lines


def _publish_lines(line: Line) -> list[str]:
    out = ["a=recvonly", *_codec_lines(line, receiving=True)]
    if line.rids:
        out += [f"a=rid:{rid} recv" for rid in line.rids]
        out.append("a=simulcast:recv " + ";".join(line.rids))
    return out


def _play_lines(line: Line, ids: PlayIds) -> list[str]:
    msid = f"{ids.stream} {ids.stream}-{line.kind}"
    out = ["a=sendonly", f"a=msid:{msid}", *_codec_lines(line, receiving=False)]
    ssrcs = [line.ssrc]
    if line.rtx_ssrc:
        ssrcs.append(line.rtx_ssrc)
        out.append(f"a=ssrc-group:FID {line.ssrc} {line.rtx_ssrc}")
    for ssrc in ssrcs:
        out.append(f"a=ssrc:{ssrc} cname:{ids.cname}")
        out.append(f"a=ssrc:{ssrc} msid:{msid}")
    return out


def _codec_lines(line: Line, *, receiving: bool) -> list[str]:
    out = []
    for codec in line.codecs:
        number = codec.payload_type
        channels = f"/{codec.channels}" if codec.channels != 1 else ""
        out.append(f"a=rtpmap:{number} {codec.name}/{codec.clock_rate}{channels}")
        for feedback in codec.feedback:
            if feedback == "transport-cc" and ExtensionUri.TRANSPORT_CC not in line.extensions:
                continue
            if feedback in FEEDBACK:
                out.append(f"a=rtcp-fb:{number} {feedback}")
        fmtp = _answer_fmtp(codec, receiving=receiving)
        if fmtp:
            out.append(f"a=fmtp:{number} {fmtp}")
        if codec.rtx is not None:
            out.append(f"a=rtpmap:{codec.rtx} rtx/{codec.clock_rate}")
            out.append(f"a=fmtp:{codec.rtx} apt={number}")
    return out


def _answer_fmtp(codec: Codec, *, receiving: bool) -> str:
    """What we say about a codec. VP8's limits are those of a decoder, and we have none."""
    if codec.name == "VP8":
        return ""
    if codec.name != "opus":
        return codec.fmtp
    offered = codec.parameters
    out = dict(offered)
    out.setdefault("minptime", "10")
    out["useinbandfec"] = "1"
    if receiving and "1" in (offered.get("stereo"), offered.get("sprop-stereo")):
        out["stereo"] = "1"  # without it a browser mixes its two channels into one
    return ";".join(f"{key}={value}" if value else key for key, value in out.items())
