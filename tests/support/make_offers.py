"""Write the SDP offers in tests/data/offers that real peers make.

Run by hand when a peer changes: `python -m tests.support.make_offers`. Offers are
taken from headless Chromium (host candidates are mDNS names) and from aiortc. The
files named after FFmpeg were caught from its `whip` muxer (8.1.2 and 9.0.2) by an HTTP
listener; those named after OBS follow line by line what libdatachannel 0.24 writes for the
calls in OBS's whip-output.cpp; GStreamer's is written by hand. Those are not touched.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiortc import RTCConfiguration, RTCPeerConnection
from playwright.sync_api import sync_playwright

OFFERS = Path(__file__).parent.parent / "data" / "offers"
CHROMIUM = "/usr/bin/chromium"

TRACKS = """
const canvas = document.createElement('canvas');
canvas.width = 1280; canvas.height = 720; canvas.getContext('2d').fillRect(0, 0, 9, 9);
const picture = canvas.captureStream(30).getVideoTracks()[0];
const sound = new AudioContext().createMediaStreamDestination().stream.getAudioTracks()[0];
const stream = new MediaStream([picture, sound]);
const pc = new RTCPeerConnection();
"""
FINISH = """
await pc.setLocalDescription(await pc.createOffer());
await new Promise(done => {
  if (pc.iceGatheringState === 'complete') done();
  pc.onicegatheringstatechange = () => pc.iceGatheringState === 'complete' && done();
});
return pc.localDescription.sdp;
"""
SIMULCAST = """
pc.addTransceiver(picture, {direction: 'sendonly', streams: [stream], sendEncodings: [
  {rid: 'q', scaleResolutionDownBy: 4}, {rid: 'h', scaleResolutionDownBy: 2}, {rid: 'f'}]});
"""
SENDER = "pc.addTransceiver({}, {{direction: 'sendonly', streams: [stream]}});\n"
RECEIVER = "pc.addTransceiver('{}', {{direction: 'recvonly'}});\n"

CHROMIUM_OFFERS = {
    "chromium-publish": SENDER.format("sound") + SENDER.format("picture"),
    "chromium-publish-simulcast": SENDER.format("sound") + SIMULCAST,
    "chromium-publish-video": SENDER.format("picture"),
    "chromium-publish-audio": SENDER.format("sound"),
    "chromium-publish-sendrecv-data": (
        "pc.addTrack(sound, stream); pc.addTrack(picture, stream); pc.createDataChannel('x');"
    ),
    "chromium-play": RECEIVER.format("audio") + RECEIVER.format("video"),
    "chromium-play-video": RECEIVER.format("video"),
    "chromium-play-data": RECEIVER.format("video")
    + RECEIVER.format("audio")
    + "pc.createDataChannel('x');",
}


def chromium_offers() -> None:
    """Write one file for each entry of CHROMIUM_OFFERS."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], headless=True
        )
        page = browser.new_page()
        for name, body in CHROMIUM_OFFERS.items():
            sdp = page.evaluate("async () => {" + TRACKS + body + FINISH + "}")
            (OFFERS / f"{name}.sdp").write_bytes(sdp.encode())
        browser.close()


async def aiortc_offers() -> None:
    """Write aiortc's offers to publish and to play."""
    for name, direction in (("aiortc-publish", "sendonly"), ("aiortc-play", "recvonly")):
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        for kind in ("audio", "video"):
            peer.addTransceiver(kind, direction=direction)
        await peer.setLocalDescription(await peer.createOffer())
        (OFFERS / f"{name}.sdp").write_bytes(peer.localDescription.sdp.encode())
        await peer.close()


if __name__ == "__main__":
    OFFERS.mkdir(parents=True, exist_ok=True)
    chromium_offers()
    asyncio.run(aiortc_offers())
