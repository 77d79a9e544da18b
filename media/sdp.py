"""Session descriptions as data: what a peer offered, and nothing decided yet.

The reader is strict about what an answer depends on (lines, payload types, ICE
credentials, fingerprints, names that are echoed) and deaf to everything else, since
every vendor adds attributes of its own. Text is ASCII-safe after parsing: no value that
may be echoed holds a control character, so an offer cannot write lines into an answer.

RFC 8866 (SDP), RFC 8829 (JSEP), RFC 8843 (BUNDLE), RFC 8839 (ICE), RFC 8851 and 8853
(rid, simulcast), RFC 5576 (ssrc), RFC 4588 (rtx), RFC 8840 (sdpfrag).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from interact.protocol import Reason, Refused

MAX_SDP_CHARS: Final = 65_536
MAX_SECTIONS: Final = 32
MAX_CANDIDATES: Final = 64
_MAX_CODECS: Final = 128

DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")
FINGERPRINT_BYTES: Final = {"sha-256": 32, "sha-384": 48, "sha-512": 64}

_TOKEN = re.compile(r"[!#-'*+\-./0-9A-Z^-~]{1,64}\Z")
_RID = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")
_ICE = re.compile(r"[A-Za-z0-9+/=_-]+\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class SdpError(Refused):
    """The description breaks a rule that the answer depends on; the text says which."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.BAD_SDP, message)


@dataclass(frozen=True, slots=True)
class Codec:
    """One payload type of a media section."""

    payload_type: int
    name: str
    clock_rate: int
    channels: int = 1
    fmtp: str = ""
    feedback: tuple[str, ...] = ()
    rtx: int | None = None
    """The payload type that resends this one (RFC 4588 `apt`), where offered."""

    @property
    def parameters(self) -> dict[str, str]:
        """`fmtp` as a dictionary; a bare word has the value ""."""
        pairs = (part.strip().partition("=") for part in self.fmtp.split(";") if part.strip())
        return {key.strip().lower(): value.strip() for key, _, value in pairs}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One ICE candidate of the peer (RFC 8839 §5.1); the address may be an mDNS name."""

    foundation: str
    component: int
    transport: str
    priority: int
    address: str
    port: int
    type: str


@dataclass(frozen=True, slots=True)
class Section:
    """One m-line with what belongs to it; session-level defaults are already applied."""

    kind: str
    mid: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    direction: str
    codecs: tuple[Codec, ...] = ()
    extensions: Mapping[str, int] = field(default_factory=dict)
    """Header extensions: URI → id."""
    ice_ufrag: str = ""
    ice_pwd: str = ""
    fingerprints: tuple[tuple[str, str], ...] = ()
    """(hash function, value as colon-separated upper-case hex)."""
    setup: str = "actpass"
    rids: tuple[str, ...] = ()
    """Streams of a simulcast that the peer sends, in its order; the first of alternatives."""
    ssrcs: Mapping[int, str] = field(default_factory=dict)
    """SSRC → CNAME ("" where not given)."""
    ssrc_groups: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """(semantics such as FID or SIM, SSRCs)."""
    msid: str = ""
    rtcp_mux: bool = False
    rtcp_rsize: bool = False
    candidates: tuple[Candidate, ...] = ()
    end_of_candidates: bool = False

    @property
    def is_media(self) -> bool:
        """Whether this is an audio or video line over DTLS-SRTP that is not rejected."""
        return (
            self.kind in ("audio", "video")
            and self.protocol in ("UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP")
            and bool(self.ice_ufrag)
        )


@dataclass(frozen=True, slots=True)
class Offer:
    """A whole offer. `bundle` holds the mids of its BUNDLE group, in order."""

    sections: tuple[Section, ...]
    bundle: tuple[str, ...]
    ice_lite: bool = False


@dataclass(frozen=True, slots=True)
class Fragment:
    """An ICE fragment (RFC 8840 §9): trickled candidates, or new credentials for a restart."""

    ice_ufrag: str
    ice_pwd: str
    candidates: tuple[Candidate, ...]
    end_of_candidates: bool


def parse_offer(sdp: str) -> Offer:
    """Read an offer, at most 65,536 characters.

    Raises SdpError with one sentence for a person, and nothing else, whatever the text.
    """
    lines = _split(sdp)
    if not lines or lines[0] != ("v", "0"):
        raise SdpError("The description does not start with v=0.")
    session, sections = _cut(lines)
    if not sections:
        raise SdpError("The description has no media lines.")
    if len(sections) > MAX_SECTIONS:
        raise SdpError(f"The description has more than {MAX_SECTIONS} media lines.")
    defaults = _attributes(session)
    bundle: tuple[str, ...] = ()
    for value in defaults.get("group", []):
        words = value.split()
        if words[:1] == ["BUNDLE"]:
            bundle = tuple(words[1:])
            break
    parsed = tuple(_section(index, lines, defaults, bundle) for index, lines in enumerate(sections))
    mids = [section.mid for section in parsed]
    if len(set(mids)) != len(mids):
        raise SdpError("Two media lines have the same mid.")
    return Offer(parsed, bundle, "ice-lite" in defaults)


def parse_sdpfrag(text: str) -> Fragment:
    """Read the body of a PATCH (application/trickle-ice-sdpfrag). Raises SdpError only."""
    attributes = _attributes(_split(text))
    ufrag, pwd = _ice_credentials(attributes, {})
    if not ufrag:
        raise SdpError("The fragment has no ice-ufrag and ice-pwd.")
    candidates = _candidates(attributes)
    return Fragment(ufrag, pwd, candidates, "end-of-candidates" in attributes)


def _split(text: str) -> list[tuple[str, str]]:
    """Lines as (letter, value)."""
    if len(text) > MAX_SDP_CHARS:
        raise SdpError(f"The description is longer than {MAX_SDP_CHARS} characters.")
    lines: list[tuple[str, str]] = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.removesuffix("\r")
        if not line.strip(" "):
            continue
        if len(line) < 2 or line[1] != "=" or not "a" <= line[0] <= "z":
            raise SdpError(f"Line {number} is not of the form letter=value.")
        if _CONTROL.search(line):
            raise SdpError(f"Line {number} holds a control character.")
        lines.append((line[0], line[2:].strip(" ")))
    return lines


def _cut(
    lines: list[tuple[str, str]],
) -> tuple[list[tuple[str, str]], list[list[tuple[str, str]]]]:
    """The session's lines, and each media section's lines starting with its m-line."""
    starts = [index for index, (letter, _) in enumerate(lines) if letter == "m"]
    if not starts:
        return lines, []
    ends = [*starts[1:], len(lines)]
    return lines[: starts[0]], [lines[start:end] for start, end in zip(starts, ends, strict=True)]


def _attributes(lines: list[tuple[str, str]]) -> dict[str, list[str]]:
    """The a-lines by name, in order."""
    found: dict[str, list[str]] = {}
    for letter, value in lines:
        if letter == "a":
            name, _, rest = value.partition(":")
            found.setdefault(name, []).append(rest)
    return found


def _number(text: str, highest: int, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise SdpError(f"The {what} {text[:20]!r} is not a number.")
    number = int(text)
    if number > highest:
        raise SdpError(f"The {what} {number} is above {highest}.")
    return number


def _payload_type(text: str) -> int:
    return _number(text, 127, "payload type")


def _section(
    index: int,
    lines: list[tuple[str, str]],
    defaults: Mapping[str, list[str]],
    bundle: tuple[str, ...],
) -> Section:
    words = lines[0][1].split()
    if len(words) < 4:
        raise SdpError(f"Media line {index + 1} is incomplete.")
    kind, port_text, protocol, *formats = words
    if len(formats) > _MAX_CODECS:
        raise SdpError(f"Media line {index + 1} lists more than {_MAX_CODECS} formats.")
    if not all(_TOKEN.match(word) for word in (kind, protocol, *formats)):
        raise SdpError(f"Media line {index + 1} holds characters that are not allowed.")
    port = _number(port_text.partition("/")[0], 65535, "port")
    attributes = _attributes(lines)
    mid = attributes.get("mid", [""])[0] or str(index)
    if not _TOKEN.match(mid):
        raise SdpError(f"The mid of media line {index + 1} is not a token.")
    # Port 0 rejects a line unless the line is part of a bundle (RFC 8843 §6).
    is_live = port != 0 or "bundle-only" in attributes or (mid in bundle and index > 0)
    if kind not in ("audio", "video") or "RTP" not in protocol or not is_live:
        return Section(kind, mid, port, protocol, tuple(formats), "inactive")
    ufrag, pwd = _ice_credentials(attributes, defaults)
    if not ufrag:
        raise SdpError(f"Media line {index + 1} ({kind}) has no ice-ufrag and ice-pwd.")
    fingerprints = _fingerprints(attributes.get("fingerprint") or defaults.get("fingerprint", []))
    if not fingerprints:
        raise SdpError(
            f"Media line {index + 1} ({kind}) has no DTLS fingerprint by SHA-256, 384 or 512."
        )
    setup = (attributes.get("setup") or defaults.get("setup") or ["actpass"])[0]
    if setup not in ("actpass", "active", "passive"):
        raise SdpError(f"The DTLS setup {setup[:20]!r} is not actpass, active or passive.")
    direction = _direction(attributes) or _direction(defaults) or "sendrecv"
    return Section(
        kind=kind,
        mid=mid,
        port=port,
        protocol=protocol,
        formats=tuple(formats),
        direction=direction,
        codecs=_codecs(formats, attributes),
        extensions=_extensions([*defaults.get("extmap", []), *attributes.get("extmap", [])]),
        ice_ufrag=ufrag,
        ice_pwd=pwd,
        fingerprints=fingerprints,
        setup=setup,
        rids=_simulcast(attributes),
        ssrcs=_ssrcs(attributes.get("ssrc", [])),
        ssrc_groups=_ssrc_groups(attributes.get("ssrc-group", [])),
        msid=attributes.get("msid", [""])[0],
        rtcp_mux="rtcp-mux" in attributes or "rtcp-mux-only" in attributes,
        rtcp_rsize="rtcp-rsize" in attributes,
        candidates=_candidates(attributes),
        end_of_candidates="end-of-candidates" in attributes,
    )


def _direction(attributes: Mapping[str, list[str]]) -> str:
    return next((name for name in DIRECTIONS if name in attributes), "")


def _ice_credentials(
    attributes: Mapping[str, list[str]], defaults: Mapping[str, list[str]]
) -> tuple[str, str]:
    ufrag = (attributes.get("ice-ufrag") or defaults.get("ice-ufrag") or [""])[0]
    pwd = (attributes.get("ice-pwd") or defaults.get("ice-pwd") or [""])[0]
    if not ufrag and not pwd:
        return "", ""
    if not (4 <= len(ufrag) <= 256 and _ICE.match(ufrag)):
        raise SdpError("The ice-ufrag is not 4 to 256 ICE characters.")
    if not (22 <= len(pwd) <= 256 and _ICE.match(pwd)):
        raise SdpError("The ice-pwd is not 22 to 256 ICE characters.")
    return ufrag, pwd


def _fingerprints(values: list[str]) -> tuple[tuple[str, str], ...]:
    """Those by a hash function we know; older ones (SHA-1) beside them are passed over."""
    found = []
    for value in values:
        words = value.split()
        if len(words) != 2:
            raise SdpError("A fingerprint line is not of the form hash value.")
        name, digest = words[0].lower(), words[1].upper()
        size = FINGERPRINT_BYTES.get(name)
        if size is None:
            continue
        if not re.fullmatch(rf"(?:[0-9A-F]{{2}}:){{{size - 1}}}[0-9A-F]{{2}}", digest):
            raise SdpError(f"The {name} fingerprint is not {size} bytes of hexadecimal.")
        found.append((name, digest))
    return tuple(found)


def _codecs(formats: list[str], attributes: Mapping[str, list[str]]) -> tuple[Codec, ...]:
    """The codecs in the order of the m-line; rtx entries become `rtx` of what they repair."""
    order = [_payload_type(word) for word in formats]
    if len(set(order)) != len(order):
        raise SdpError("A media line lists one payload type twice.")
    maps: dict[int, tuple[str, int, int]] = {}
    for value in attributes.get("rtpmap", []):
        number, _, rest = value.partition(" ")
        parts = rest.strip().split("/")
        if len(parts) not in (2, 3) or not _TOKEN.match(parts[0]):
            raise SdpError(f"The rtpmap {value[:40]!r} is not of the form number name/rate.")
        channels = _number(parts[2], 255, "channel count") if len(parts) == 3 else 1
        rate = _number(parts[1], 0xFFFFFFFF, "clock rate")
        maps[_payload_type(number)] = (parts[0], rate, channels)
    fmtp: dict[int, str] = {}
    for value in attributes.get("fmtp", []):
        number, _, rest = value.partition(" ")
        fmtp[_payload_type(number)] = rest.strip()
    feedback: dict[int, list[str]] = {number: [] for number in order}
    for value in attributes.get("rtcp-fb", []):
        number, _, rest = value.partition(" ")
        targets = order if number == "*" else [_payload_type(number)]
        for target in targets:
            feedback.setdefault(target, []).append(" ".join(rest.split()))
    rtx: dict[int, int] = {}
    for entry in order:
        if entry in maps and maps[entry][0].lower() == "rtx":
            apt = re.search(r"\bapt=(\d{1,3})\b", fmtp.get(entry, ""), re.ASCII)
            if apt and int(apt[1]) <= 127:
                rtx.setdefault(int(apt[1]), entry)
    return tuple(
        Codec(
            entry,
            name,
            rate,
            channels,
            fmtp.get(entry, ""),
            tuple(dict.fromkeys(feedback[entry])),
            rtx.get(entry),
        )
        for entry in order
        if entry in maps
        for name, rate, channels in (maps[entry],)
        if name.lower() != "rtx"
    )


def _extensions(values: list[str]) -> dict[str, int]:
    """URI → id. An id used twice keeps its first URI (RFC 8285 §5: ids are unique)."""
    found: dict[str, int] = {}
    taken: set[int] = set()
    for value in values:
        number_text, _, rest = value.partition(" ")
        number = _number(number_text.partition("/")[0], 4351, "header extension id")
        uri = rest.split()[0] if rest.split() else ""
        if uri and 1 <= number <= 255 and number not in taken and uri not in found:
            taken.add(number)
            found[uri] = number
    return found


def _simulcast(attributes: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Rids of `a=simulcast:send`, each the first of its alternatives."""
    words = attributes.get("simulcast", [""])[0].split()
    sends = next((b for a, b in zip(words[::2], words[1::2], strict=False) if a == "send"), "")
    declared = {
        words[0]
        for words in (value.split() for value in attributes.get("rid", []))
        if len(words) >= 2 and words[1] == "send"
    }
    rids = []
    for group in sends.split(";") if sends else []:
        rid = group.split(",")[0].removeprefix("~")
        if not _RID.match(rid):
            raise SdpError(f"The simulcast stream {rid[:20]!r} is not a rid.")
        if rid not in declared:
            raise SdpError(f"The simulcast stream {rid!r} has no a=rid line.")
        rids.append(rid)
    if len(set(rids)) != len(rids):
        raise SdpError("Two simulcast streams have the same rid.")
    return tuple(rids)


def _ssrcs(values: list[str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for value in values:
        number, _, rest = value.partition(" ")
        ssrc = _number(number, 0xFFFFFFFF, "SSRC")
        name, _, text = rest.partition(":")
        if name == "cname" or ssrc not in found:
            found[ssrc] = text if name == "cname" else ""
    return found


def _ssrc_groups(values: list[str]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    groups = (value.split() for value in values)
    return tuple(
        (words[0], tuple(_number(word, 0xFFFFFFFF, "SSRC") for word in words[1:]))
        for words in groups
        if words
    )


def _candidates(attributes: Mapping[str, list[str]]) -> tuple[Candidate, ...]:
    """Those we understand. Others are passed over: an ICE-lite agent only logs them."""
    found = []
    for value in attributes.get("candidate", [])[:MAX_CANDIDATES]:
        words = value.split()
        if len(words) < 8 or words[6] != "typ":
            continue
        numbers = (words[1], words[3], words[5])
        if not all(word.isascii() and word.isdigit() and len(word) <= 10 for word in numbers):
            continue
        component, priority, port = map(int, numbers)
        if port <= 65535:
            found.append(
                Candidate(words[0], component, words[2].lower(), priority, words[4], port, words[7])
            )
    return tuple(found)
