"""From an offer to an answer and the decisions in it. Nothing here touches a socket.

We relay packets and never decode them, so an answer accepts every codec that can be
carried through and says which payload type means what. A camera has one picture and one
sound, a viewer one line for each: the first usable m-line of each kind is taken, all
others (data channels too) are refused with port 0. A picture or sound that we cannot carry
refuses the whole offer instead, and so does a second one, so nobody is on air half without
knowing. A viewer that takes nothing the camera sends is refused with what would work.

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
from typing import Final

from interact.protocol import Reason, Refused
from media.answer import play_lines, publish_lines, restart_fragment, write_answer
from media.plans import Line, Local, PlayIds, PlayPlan, PublishPlan, Remote
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


class NoCodec(Refused):
    """No codec in common. `detail["supported"]` lists those of which any one would work."""

    def __init__(self, kind: str, message: str, supported: Iterable[str]) -> None:
        super().__init__(Reason.NO_CODEC, message, kind=kind, supported=list(supported))


def answer_publish(offer: Offer, local: Local) -> PublishPlan:
    """Answer a WHIP offer: receive the first usable picture and the first usable sound.

    Raises SdpError where lines are not bundled, nothing is offered to us or more than one
    picture or sound is (RFC 9725 §4.4.2: never half a session), NoCodec where a line has no
    codec that we relay.
    """
    chosen = _choose(offer, ("sendrecv", "sendonly"))
    _check_one_of_each(offer)
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
    body = write_answer(offer, local, lines, [publish_lines(line) for line in lines.values()])
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
    audio_extensions: Collection[ExtensionUri] = (),
) -> PlayPlan:
    """Answer a WHEP offer: send on the first picture and sound line, every common codec.

    `sources` are the live camera's codecs, which come first in the answer. `extensions`
    and `audio_extensions` are those that the caller is going to write; without
    TRANSPORT_CC among them, transport-cc feedback is not agreed either and browsers
    estimate by REMB.
    Raises SdpError and NoCodec like `answer_publish`, and NoCodec also where the peer takes
    none of a line's `sources`: nothing would ever be shown.
    """
    chosen = _choose(offer, ("sendrecv", "recvonly"))
    lines: dict[str, Line] = {}
    for section in chosen:
        codecs = _relayable(section)
        first = [c for c in (match_codec(codecs, source) for source in sources) if c is not None]
        _check_playable(section.kind, sources, first)
        ordered = tuple(dict.fromkeys((*first, *codecs)))
        is_video = section.kind == "video"
        has_rtx = any(codec.rtx is not None for codec in ordered)
        rtx_ssrc = ids.video_rtx_ssrc if is_video else ids.audio_rtx_ssrc
        lines[section.mid] = Line(
            section.kind,
            section.mid,
            ordered,
            _common_extensions(section, extensions if is_video else audio_extensions),
            ssrc=ids.video_ssrc if is_video else ids.audio_ssrc,
            rtx_ssrc=rtx_ssrc if has_rtx else 0,
        )
    body = write_answer(offer, local, lines, [play_lines(line, ids) for line in lines.values()])
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


def _check_one_of_each(offer: Offer) -> None:
    for kind in RELAYED:
        sending = [
            s
            for s in offer.sections
            if s.kind == kind and s.is_media and s.direction in ("sendrecv", "sendonly")
        ]
        if len(sending) > 1:
            raise SdpError(
                f"The offer sends {len(sending)} {kind} lines; a camera has one. "
                "Layers of one picture belong on one line (a=simulcast)."
            )


def _check_playable(kind: str, sources: Sequence[Codec], found: Sequence[Codec]) -> None:
    """Raise NoCodec when the camera sends `kind` now and the peer takes none of it."""
    live = [s.name for s in sources if _CANONICAL.get(s.name.lower()) in RELAYED[kind]]
    if not live or any(_CANONICAL.get(c.name.lower()) in RELAYED[kind] for c in found):
        return
    names = list(dict.fromkeys(live))
    raise NoCodec(
        kind,
        f"The camera sends {' and '.join(names)}, which the offer's {kind} line does not take. "
        f"Any of these would work: {', '.join(names)}.",
        names,
    )


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
        note = " (H264 with packetization-mode=1)" if section.kind == "video" else ""
        raise NoCodec(
            section.kind,
            f"The offer has no {section.kind} codec that can be relayed. "
            f"Any of these would work: {', '.join(allowed)}{note}.",
            allowed,
        )
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
