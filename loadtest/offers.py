"""Offers that a load client makes, and the few lines of an answer that it needs.

Written apart from the server's own SDP code on purpose: a client that shared it would
share its mistakes.

RFC 8866 (SDP), RFC 8839 (ICE), RFC 8122 (fingerprint), RFC 6184 and 7587 (H.264, Opus).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

VIDEO_PT: Final = {"H264": 102, "VP8": 96}
AUDIO_PT: Final = 111
H264_FMTP: Final = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
BROWSER_EXTENSIONS: Final = (
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
)
OPUS_FMTP: Final = "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1"
_CANDIDATE = re.compile(r"a=candidate:\S+ 1 udp (\d+) (\S+) (\d+) typ host", re.IGNORECASE)


class BadAnswer(ValueError):
    """The answer lacks something a session cannot do without."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """One side's ICE user fragment and password."""

    ufrag: str
    pwd: str


@dataclass(frozen=True, slots=True)
class AnswerLine:
    """One media line of an answer."""

    kind: str
    direction: str
    payload_types: dict[int, str]
    """Payload type: codec name, upper case."""
    ssrcs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is needed of an answer."""

    remote: Credentials
    fingerprint: tuple[str, str]
    is_dtls_server: bool
    candidates: list[tuple[str, int]]
    """Host candidates over UDP, the best first."""
    lines: list[AnswerLine] = field(default_factory=list)


def _section(
    kind: str,
    mid: str,
    direction: str,
    codecs: list[tuple[int, str, str]],
    extra: list[str],
    local: Credentials,
    fingerprint: str,
) -> list[str]:
    formats = " ".join(str(pt) for pt, _, _ in codecs)
    lines = [
        f"m={kind} 9 UDP/TLS/RTP/SAVPF {formats}",
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.pwd}",
        f"a=fingerprint:sha-256 {fingerprint}",
        "a=setup:actpass",
        f"a=mid:{mid}",
        f"a={direction}",
        "a=rtcp-mux",
        "a=rtcp-rsize",
    ]
    for pt, name, fmtp in codecs:
        lines.append(f"a=rtpmap:{pt} {name}")
        if fmtp:
            lines.append(f"a=fmtp:{pt} {fmtp}")
        if kind == "video":
            lines += [f"a=rtcp-fb:{pt} {f}" for f in ("ccm fir", "nack", "nack pli")]
    return lines + extra


def offer(
    local: Credentials,
    fingerprint: str,
    *,
    video: list[str],
    audio: bool,
    sending: tuple[int, int] | None,
    fmtp: str = H264_FMTP,
    like_browser: bool = False,
) -> str:
    """An offer with a video line of the codecs `video` ("H264", "VP8") and, or, an audio line.

    `sending` holds the SSRCs of video and audio of a publisher, None makes a viewer's
    offer. `fingerprint` is SHA-256 in colon-separated hex. `like_browser` offers what
    browsers do and a counting client has no use for: RTX, REMB, header extensions.
    """
    direction = "recvonly" if sending is None else "sendonly"
    sections: list[list[str]] = []
    if audio:
        extra = (
            [] if sending is None else [f"a=ssrc:{sending[1]} cname:livehouse", "a=msid:live audio"]
        )
        codecs = [(AUDIO_PT, "opus/48000/2", OPUS_FMTP)]
        sections.append(
            _section("audio", str(len(sections)), direction, codecs, extra, local, fingerprint)
        )
    if video:
        extra = (
            [] if sending is None else [f"a=ssrc:{sending[0]} cname:livehouse", "a=msid:live video"]
        )
        codecs = [(VIDEO_PT[c], f"{c}/90000", fmtp if c == "H264" else "") for c in video]
        if like_browser:
            extra += [f"a=extmap:{i + 1} {uri}" for i, uri in enumerate(BROWSER_EXTENSIONS)]
            extra += [f"a=rtcp-fb:{pt} goog-remb" for pt, _, _ in codecs]
            codecs += [(pt + 1, "rtx/90000", f"apt={pt}") for pt, _, _ in codecs]
        sections.append(
            _section("video", str(len(sections)), direction, codecs, extra, local, fingerprint)
        )
    mids = " ".join(str(i) for i in range(len(sections)))
    head = [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        f"a=group:BUNDLE {mids}",
        "a=msid-semantic: WMS live",
        "a=ice-options:trickle",
    ]
    return "".join(
        line + "\r\n" for line in head + [line for section in sections for line in section]
    )


def read_answer(sdp: str) -> Answer:
    """The parts of `sdp` that a client needs. Raises `BadAnswer`."""
    found: dict[str, str] = {}
    candidates: list[tuple[int, str, int]] = []
    lines: list[AnswerLine] = []
    direction, types, ssrcs, kind = "inactive", dict[int, str](), list[int](), ""

    def close() -> None:
        if kind:
            lines.append(AnswerLine(kind, direction, types, tuple(dict.fromkeys(ssrcs))))

    for line in sdp.splitlines():
        if line.startswith("m="):
            close()
            parts = line[2:].split()
            kind = parts[0] if parts[1] != "0" else ""
            direction, types, ssrcs = "sendrecv", {}, []
        elif line.startswith("a=rtpmap:"):
            pt, name = line[9:].split(" ", 1)
            types[int(pt)] = name.split("/")[0].upper()
        elif line.startswith("a=ssrc:"):
            ssrcs.append(int(line[7:].split()[0]))
        elif line in ("a=sendonly", "a=recvonly", "a=sendrecv", "a=inactive"):
            direction = line[2:]
        elif match := _CANDIDATE.match(line):
            candidates.append((int(match[1]), match[2], int(match[3])))
        elif line.startswith("a=") and ":" in line:
            key, value = line[2:].split(":", 1)
            found.setdefault(key, value)
    close()
    try:
        algorithm, value = found["fingerprint"].split()
        remote = Credentials(found["ice-ufrag"], found["ice-pwd"])
        setup = found["setup"]
    except (KeyError, ValueError) as error:
        raise BadAnswer(f"no {error} in the answer") from error
    ordered = [(host, port) for _, host, port in sorted(set(candidates), reverse=True)]
    if not ordered:
        raise BadAnswer("no candidate in the answer")
    return Answer(remote, (algorithm, value), setup == "passive", ordered, lines)
