"""Answers as text. Every decision in them was taken by media/negotiation.py.

RFC 8829 §5.3 (answers), RFC 8839 §5.1 (candidates), RFC 8840 §9 (fragments).
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from media.plans import Line, Local, PlayIds, PlayPlan, PublishPlan
from media.rtp.packet import ExtensionUri
from media.sdp import Codec, Offer

FEEDBACK: Final = ("goog-remb", "transport-cc", "ccm fir", "nack", "nack pli")
"""RTCP feedback that we agree to where it is offered (RFC 4585, RFC 5104)."""

_ICE_OPTIONS: Final = ("a=ice-lite", "a=ice-options:trickle ice2")
"""The same in an answer and in the answer to a restart (RFC 9725 §4.3.3)."""


def restart_fragment(plan: PublishPlan | PlayPlan, local: Local) -> str:
    """The body that answers an ICE restart (RFC 9725 §4.3.3, RFC 8840 §9)."""
    lines = [line for line in (plan.audio, plan.video) if line is not None]
    out = list(_ICE_OPTIONS)
    out.append("a=group:BUNDLE " + " ".join(line.mid for line in lines))
    for index, line in enumerate(lines):
        out.append(f"m={line.kind} 9 UDP/TLS/RTP/SAVPF {line.codecs[0].payload_type}")
        out.append(f"a=mid:{line.mid}")
        out += _ice_lines(local)
        if index == 0:
            out += _candidate_lines(local)
    return "\r\n".join(out) + "\r\n"


def write_answer(
    offer: Offer, local: Local, lines: dict[str, Line], bodies: list[list[str]]
) -> str:
    """The whole answer: every m-line of the offer in its order, ours filled, others refused."""
    by_mid = dict(zip(lines, bodies, strict=True))
    out = [
        "v=0",
        f"o=livehouse {local.session_id} 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        *_ICE_OPTIONS,
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
        out += ["a=rtcp-mux", "a=rtcp-mux-only"]  # RFC 9725 §4.4.1
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


def publish_lines(line: Line) -> list[str]:
    """What one line of a publisher's answer says beyond transport and extensions."""
    out = ["a=recvonly", *_codec_lines(line, receiving=True)]
    if line.rids:
        out += [f"a=rid:{rid} recv" for rid in line.rids]
        out.append("a=simulcast:recv " + ";".join(line.rids))
    return out


def play_lines(line: Line, ids: PlayIds) -> list[str]:
    """What one line of a viewer's answer says beyond transport and extensions."""
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
