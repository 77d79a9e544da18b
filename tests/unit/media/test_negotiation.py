import contextlib
import re
from pathlib import Path

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import SessionDescription
from hypothesis import given
from hypothesis import strategies as st

from interact.protocol import Reason
from media.negotiation import (
    Codec,
    Local,
    NoCodec,
    PlayIds,
    PlayPlan,
    PublishPlan,
    SdpError,
    answer_play,
    answer_publish,
    match_codec,
    parse_offer,
    parse_sdpfrag,
    restart_fragment,
)
from media.rtp.packet import ExtensionUri

OFFERS = Path(__file__).parents[2] / "data" / "offers"
DIGEST = ":".join(["AB"] * 32)
LOCAL = Local(
    "ourfrag0",
    "our/password+of/24+chars",
    (("sha-256", DIGEST),),
    (("192.0.2.1", 8189), ("2001:db8::1", 8190)),
    7,
)
IDS = PlayIds("cname", "stream", 101, 102, 103, 104)


def text(name: str) -> str:
    return (OFFERS / f"{name}.sdp").read_bytes().decode()


def publish(name: str) -> PublishPlan:
    return answer_publish(parse_offer(text(name)), LOCAL)


def play(name: str, *sources: Codec) -> PlayPlan:
    return answer_play(parse_offer(text(name)), LOCAL, IDS, sources)


def section(answer: str, mid: str) -> list[str]:
    """The lines of one media section of an answer."""
    parts = answer.split("m=")[1:]
    return next(("m=" + part).split("\r\n") for part in parts if f"a=mid:{mid}\r\n" in part)


NAMES = sorted(path.stem for path in OFFERS.glob("*.sdp"))


@pytest.mark.parametrize("name", NAMES)
def test_every_real_offer_gets_an_answer_with_the_same_lines(name: str) -> None:
    offer = parse_offer(text(name))
    plan: PublishPlan | PlayPlan = play(name) if "play" in name else publish(name)
    kinds = re.findall(r"^m=(\w+)", plan.answer, re.M)
    assert kinds == [line.kind for line in offer.sections]
    assert re.findall(r"^a=mid:(\S+)", plan.answer, re.M) == [s.mid for s in offer.sections]
    for line in (plan.video, plan.audio):
        if line is None:
            continue
        body = section(plan.answer, line.mid)
        assert f"a=fingerprint:sha-256 {DIGEST}" in body
        assert "a=ice-ufrag:ourfrag0" in body
        assert "a=rtcp-mux" in body
        assert ("a=sendonly" if isinstance(plan, PlayPlan) else "a=recvonly") in body
        offered = {codec.payload_type for s in offer.sections for codec in s.codecs}
        assert {codec.payload_type for codec in line.codecs} <= offered
    assert plan.answer.count("a=end-of-candidates") == 1
    assert "a=candidate:1 1 udp 2130706431 192.0.2.1 8189 typ host" in plan.answer
    assert "a=candidate:2 1 udp 2130706175 2001:db8::1 8190 typ host" in plan.answer
    assert "a=ice-lite\r\n" in plan.answer
    assert plan.remote.ice_ufrag and plan.remote.fingerprints
    theirs = SessionDescription.parse(plan.answer)
    assert [media.kind for media in theirs.media] == kinds


@pytest.mark.parametrize("name", NAMES)
def test_answer_reads_as_a_description_again(name: str) -> None:
    plan: PublishPlan | PlayPlan = play(name) if "play" in name else publish(name)
    again = parse_offer(plan.answer)
    assert again.ice_lite
    assert {s.mid for s in again.sections if s.is_media} == set(again.bundle)


async def test_aiortc_takes_both_answers() -> None:
    for direction in ("sendonly", "recvonly"):
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        for kind in ("audio", "video"):
            peer.addTransceiver(kind, direction=direction)
        await peer.setLocalDescription(await peer.createOffer())
        offer = parse_offer(peer.localDescription.sdp)
        plan = (
            answer_publish(offer, LOCAL)
            if direction == "sendonly"
            else answer_play(offer, LOCAL, IDS)
        )
        await peer.setRemoteDescription(RTCSessionDescription(plan.answer, "answer"))
        assert peer.signalingState == "stable"
        assert [t.currentDirection for t in peer.getTransceivers()] == [direction] * 2
        await peer.close()


def test_browser_publisher_gets_its_codecs_in_its_order() -> None:
    plan = publish("chromium-publish")
    assert plan.video is not None and plan.audio is not None
    assert [codec.name for codec in plan.video.codecs][:2] == ["VP8", "H264"]
    assert {codec.name for codec in plan.video.codecs} == {"VP8", "VP9", "H264", "AV1"}
    assert all(
        codec.parameters["packetization-mode"] == "1"
        for codec in plan.video.codecs
        if codec.name == "H264"
    )
    vp8 = plan.video.codecs[0]
    assert vp8.rtx is not None
    assert plan.video.rtx_types()[vp8.rtx] == vp8.payload_type
    assert plan.video.by_payload_type()[vp8.payload_type] is vp8
    assert [codec.name for codec in plan.audio.codecs] == ["opus"]
    body = section(plan.answer, plan.video.mid)
    for feedback in ("nack", "nack pli", "ccm fir", "goog-remb", "transport-cc"):
        assert f"a=rtcp-fb:{vp8.payload_type} {feedback}" in body
    assert ExtensionUri.TRANSPORT_CC in plan.video.extensions
    assert ExtensionUri.VIDEO_ORIENTATION not in plan.video.extensions
    assert len(plan.video.ssrcs) == 2
    assert plan.video.ssrc_groups[0][0] == "FID"


def test_simulcast_rids_are_taken_in_order() -> None:
    plan = publish("chromium-publish-simulcast")
    assert plan.video is not None
    assert plan.video.rids == ("q", "h", "f")
    assert ExtensionUri.RID in plan.video.extensions
    body = section(plan.answer, plan.video.mid)
    assert [line for line in body if line.startswith("a=rid")] == [
        "a=rid:q recv",
        "a=rid:h recv",
        "a=rid:f recv",
    ]
    assert "a=simulcast:recv q;h;f" in body


@pytest.mark.parametrize(
    ("name", "video", "audio"),
    [
        ("chromium-publish-video", True, False),
        ("chromium-publish-audio", False, True),
        ("chromium-publish", True, True),
    ],
)
def test_one_kind_alone_is_enough(name: str, video: bool, audio: bool) -> None:
    plan = publish(name)
    assert (plan.video is not None, plan.audio is not None) == (video, audio)


def test_data_channel_is_refused_with_port_zero() -> None:
    plan = publish("chromium-publish-sendrecv-data")
    assert "m=application 0 UDP/DTLS/SCTP webrtc-datachannel" in plan.answer
    assert re.search(r"a=group:BUNDLE 0 1\r\n", plan.answer)


def with_second_picture(name: str) -> str:
    sdp = text(name).replace("BUNDLE 0", "BUNDLE 0 1", 1)
    return sdp + "m=video" + sdp.split("m=video")[1].replace("a=mid:0", "a=mid:1")


def test_publisher_with_two_pictures_is_refused_whole() -> None:
    with pytest.raises(SdpError, match="sends 2 video lines"):
        answer_publish(parse_offer(with_second_picture("chromium-publish-video")), LOCAL)


def test_second_line_that_sends_nothing_does_not_hinder_a_publisher() -> None:
    sdp = with_second_picture("chromium-publish-video")
    head, _, second = sdp.rpartition("a=sendonly")
    plan = answer_publish(parse_offer(head + "a=inactive" + second), LOCAL)
    assert plan.video is not None and plan.video.mid == "0"
    assert section(plan.answer, "1")[0].startswith("m=video 0 ")


def test_viewer_is_refused_its_second_line_only() -> None:
    offer = parse_offer(with_second_picture("chromium-play-video"))
    plan = answer_play(offer, LOCAL, IDS)
    assert plan.video is not None and plan.video.mid == "0"
    assert section(plan.answer, "1")[0].startswith("m=video 0 ")
    assert "a=group:BUNDLE 0\r\n" in plan.answer


def test_viewer_that_takes_nothing_the_camera_sends_is_told_what_would_work() -> None:
    live = [Codec(96, "H264", 90000, fmtp="packetization-mode=1"), Codec(111, "opus", 48000, 2)]
    sdp = re.sub(r"(VP9|H264|AV1)/90000", "VP8/90000", text("chromium-play"))
    with pytest.raises(NoCodec, match="The camera sends H264") as caught:
        answer_play(parse_offer(sdp), LOCAL, IDS, live)
    assert caught.value.detail == {"kind": "video", "supported": ["H264"]}


def test_viewer_of_a_camera_without_sound_may_offer_sound() -> None:
    plan = play("chromium-play", Codec(96, "VP8", 90000))
    assert plan.audio is not None


def test_viewer_gets_the_live_codec_first_and_all_others_after() -> None:
    live = Codec(125, "H264", 90000, fmtp="profile-level-id=4d401f;packetization-mode=1")
    plan = play("chromium-play", live)
    assert plan.video is not None and plan.audio is not None
    assert plan.video.codecs[0].parameters["profile-level-id"].startswith("4d00")
    assert {codec.name for codec in plan.video.codecs} == {"VP8", "VP9", "H264", "AV1"}
    assert len(set(plan.video.codecs)) == len(plan.video.codecs)
    body = section(plan.answer, plan.video.mid)
    assert "a=ssrc-group:FID 101 102" in body
    assert "a=ssrc:101 cname:cname" in body
    assert "a=ssrc:102 cname:cname" in body
    assert "a=msid:stream stream-video" in body
    sound = section(plan.answer, plan.audio.mid)
    assert "a=msid:stream stream-audio" in sound
    assert "a=ssrc:103 cname:cname" in sound
    assert "104" not in " ".join(sound)
    assert (plan.video.ssrc, plan.video.rtx_ssrc) == (101, 102)
    assert (plan.audio.ssrc, plan.audio.rtx_ssrc) == (103, 0)


def test_transport_feedback_is_agreed_only_with_its_extension() -> None:
    offer = parse_offer(text("chromium-play"))
    plan = answer_play(offer, LOCAL, IDS, extensions=(ExtensionUri.ABS_SEND_TIME,))
    assert "transport-cc" not in plan.answer
    assert "goog-remb" in plan.answer
    assert plan.video is not None
    assert list(plan.video.extensions) == [ExtensionUri.ABS_SEND_TIME]


def test_publisher_that_only_receives_is_refused() -> None:
    with pytest.raises(SdpError, match="sendrecv or sendonly"):
        publish("chromium-play")
    with pytest.raises(SdpError, match="sendrecv or recvonly"):
        play("chromium-publish")


def test_dtls_roles_meet() -> None:
    assert "a=setup:passive" in publish("obs-publish").answer
    assert not publish("obs-publish").remote.dtls_is_client
    plan = publish("ffmpeg-publish")
    assert plan.answer.count("a=setup:active") == 2
    assert plan.remote.dtls_is_client
    active = text("chromium-play").replace("actpass", "active")
    assert "a=setup:passive" in answer_play(parse_offer(active), LOCAL, IDS).answer


def test_sound_stays_stereo_and_keeps_its_forward_correction() -> None:
    for name in ("obs-publish", "gstreamer-publish"):
        plan = publish(name)
        assert plan.audio is not None
        [line] = [s for s in section(plan.answer, plan.audio.mid) if s.startswith("a=fmtp")]
        assert "stereo=1" in re.split("[ ;]", line)
        assert "useinbandfec=1" in line
    assert "stereo" not in publish("chromium-publish-audio").answer


def test_simulcast_of_obs_is_taken_whole() -> None:
    """OBS gives up unless every layer of its offer stands in the answer."""
    plan = publish("obs-publish-simulcast")
    assert plan.video is not None and plan.video.rids == ("0", "1", "2")
    assert "a=simulcast:recv 0;1;2" in section(plan.answer, "1")
    assert plan.video.ssrcs == ()


def test_ffmpeg_may_send_a_picture_alone_and_open_dtls_itself() -> None:
    plan = publish("ffmpeg-publish-active-video")
    assert plan.audio is None and plan.video is not None
    assert plan.video.mid == "1"
    assert plan.video.rtx_types() == {105: 106}
    assert "a=setup:passive" in plan.answer
    assert not plan.remote.dtls_is_client


def test_bundle_only_line_is_taken() -> None:
    plan = publish("gstreamer-publish")
    assert plan.audio is not None and plan.video is not None
    assert plan.audio.codecs[0].name == "opus"


def test_no_codec_in_common_names_those_that_work() -> None:
    sdp = re.sub(r"(VP8|VP9|H264|AV1)/90000", "H265/90000", text("chromium-publish"))
    with pytest.raises(NoCodec, match="VP8, VP9, H264, AV1") as caught:
        answer_publish(parse_offer(sdp), LOCAL)
    assert caught.value.reason is Reason.NO_CODEC
    assert caught.value.detail == {
        "kind": "video",
        "supported": ["VP8", "VP9", "H264", "AV1"],
    }


def h264(payload_type: int, profile: str) -> Codec:
    return Codec(
        payload_type, "H264", 90000, fmtp=f"packetization-mode=1;profile-level-id={profile}"
    )


def test_codecs_match_by_profile() -> None:
    codecs = (
        Codec(96, "VP8", 90000),
        h264(102, "42001f"),
        h264(103, "42e01f"),
        h264(104, "4d001f"),
        Codec(98, "VP9", 90000, fmtp="profile-id=0"),
        Codec(100, "VP9", 90000, fmtp="profile-id=2"),
    )

    def chosen(source: Codec) -> int | None:
        found = match_codec(codecs, source)
        return None if found is None else found.payload_type

    assert chosen(Codec(1, "VP8", 90000)) == 96
    assert chosen(h264(1, "42E02a")) == 103
    assert chosen(h264(1, "42c01f")) == 102
    assert chosen(h264(1, "4d4028")) == 104
    assert chosen(h264(1, "640028")) == 102
    assert chosen(Codec(1, "VP9", 90000, fmtp="profile-id=2")) == 100
    assert chosen(Codec(1, "VP9", 90000)) == 98
    assert chosen(Codec(1, "AV1", 90000)) is None


GOOD = text("chromium-publish")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("v=0", "v=1", "start with v=0"),
        ("a=setup:actpass", "a=setup:holdconn", "setup"),
        ("a=rtpmap:96 VP8/90000", "a=rtpmap:96 VP8", "rtpmap"),
        ("a=rtpmap:96 VP8/90000", "a=rtpmap:196 VP8/90000", "payload type 196"),
        ("a=rtpmap:96 VP8/90000", "a=rtpmap:9６ VP8/90000", "not a number"),
        ("SAVPF 96 97", "SAVPF 96 96", "twice"),
        ("a=mid:1", "a=mid:0", "same mid"),
        ("a=mid:1", "a=mid:a b", "not a token"),
        ("a=mid:1", "a=mid:\x85", "control character"),
        ("a=mid:1", "mid:1", "letter=value"),
        ("a=group:BUNDLE 0 1", "a=group:BUNDLE 0", "not bundled"),
        ("a=fingerprint:sha-256 ", "a=fingerprint:sha-256 0", "hexadecimal"),
        ("a=fingerprint:sha-256 ", "a=fingerprint:md5 ", "no DTLS fingerprint"),
        ("a=ice-ufrag:", "a=ice-ufrag:é", "ice-ufrag"),
        ("a=ice-pwd:", "a=x-pwd:", "ice-pwd"),
        ("m=video 9", "m=video 99999", "above 65535"),
        ("m=video 9 UDP/TLS/RTP/SAVPF", "m=video 9\r\na=x:", "incomplete"),
        ("t=0 0", "t=0 0\r\n" + "a=x:" + "y" * 70_000, "longer than"),
    ],
)
def test_bad_offer_is_refused_with_a_sentence(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(SdpError, match=message) as caught:
        answer_publish(parse_offer(GOOD.replace(old, new)), LOCAL)
    assert caught.value.reason is Reason.BAD_SDP
    assert str(caught.value).endswith(".")


def test_different_credentials_in_one_bundle_are_refused() -> None:
    head, tail = GOOD.split("m=video")
    ufrag = re.search(r"a=ice-ufrag:(\S+)", tail)
    assert ufrag is not None
    with pytest.raises(SdpError, match="different ICE credentials"):
        answer_publish(parse_offer(head + "m=video" + tail.replace(ufrag[1], "other")), LOCAL)


@pytest.mark.parametrize("sdp", ["", "\r\n", "hello", "v=0", "v=0\r\ns=-\r\n", "m=video\n"])
def test_what_is_no_offer_is_refused(sdp: str) -> None:
    with pytest.raises(SdpError):
        parse_offer(sdp)


@given(st.text(max_size=300))
def test_any_text_raises_only_our_error(sdp: str) -> None:
    for whole in (sdp, "v=0\r\n" + sdp, f"v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na={sdp}"):
        with contextlib.suppress(SdpError, NoCodec):
            answer_publish(parse_offer(whole), LOCAL)
    with contextlib.suppress(SdpError):
        parse_sdpfrag(sdp)


@given(st.sampled_from(NAMES), st.data())
def test_any_damage_to_a_real_offer_raises_only_our_error(name: str, data: st.DataObject) -> None:
    lines = text(name).split("\r\n")
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(0, len(lines) - 1))
        line = lines[index]
        cut = data.draw(st.integers(0, len(line)))
        junk = data.draw(
            st.sampled_from(["", " ", ":", "/", "=", ";", "0", "-1", "99999999999", "\0", "é", "~"])
        )
        lines[index] = line[:cut] + junk + line[data.draw(st.integers(cut, len(line))) :]
    try:
        offer = parse_offer("\r\n".join(lines))
        plan: PublishPlan | PlayPlan = (
            answer_play(offer, LOCAL, IDS) if "play" in name else answer_publish(offer, LOCAL)
        )
    except (SdpError, NoCodec):
        return
    # Nothing that the peer wrote may become a line of its own.
    for line in plan.answer.split("\r\n")[:-1]:
        assert re.fullmatch(r"[a-z]=[^\x00-\x08\x0a-\x1f\x7f]*", line)


def test_echoed_values_cannot_write_lines() -> None:
    sdp = GOOD.replace("a=fmtp:111 ", "a=fmtp:111 x=1\rb=AS:1;")
    with pytest.raises(SdpError, match="control character"):
        parse_offer(sdp)


TRICKLE = (
    "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n"
    "m=audio 9 RTP/AVP 0\r\na=mid:0\r\n"
    "a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n"
    "a=candidate:broken\r\n"
    "a=candidate:3471623853 1 UDP 2122194687 2001:db8::1 61765 typ srflx raddr :: rport 0\r\n"
    "a=end-of-candidates\r\n"
)


def test_trickled_candidates_are_read_and_broken_ones_passed_over() -> None:
    fragment = parse_sdpfrag(TRICKLE)
    assert (fragment.ice_ufrag, fragment.ice_pwd) == ("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1")
    assert [(c.address, c.port, c.type, c.transport) for c in fragment.candidates] == [
        ("192.0.2.1", 61764, "host", "udp"),
        ("2001:db8::1", 61765, "srflx", "udp"),
    ]
    assert fragment.end_of_candidates


@pytest.mark.parametrize("body", ["", "a=mid:0\r\n", "a=ice-ufrag:EsAw\r\n", "nonsense"])
def test_fragment_without_credentials_is_refused(body: str) -> None:
    with pytest.raises(SdpError):
        parse_sdpfrag(body)


def test_restart_answer_is_a_fragment_itself() -> None:
    body = restart_fragment(publish("chromium-publish"), LOCAL)
    fragment = parse_sdpfrag(body)
    assert fragment.ice_ufrag == LOCAL.ice_ufrag
    assert fragment.ice_pwd == LOCAL.ice_pwd
    assert len(fragment.candidates) == 2
    assert body.startswith("a=ice-lite\r\na=ice-options:trickle ice2\r\na=group:BUNDLE 0 1\r\n")
