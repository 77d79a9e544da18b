"""Chromium itself takes the answers that negotiation writes."""

import pytest
from playwright.sync_api import sync_playwright

from media.negotiation import Local, PlayIds, answer_play, answer_publish, parse_offer
from tests.support.make_offers import CHROMIUM, CHROMIUM_OFFERS, TRACKS

pytestmark = pytest.mark.browser

DIGEST = ":".join(["AB"] * 32)
LOCAL = Local(
    "ourfrag0", "our/password+of/24+chars", (("sha-256", DIGEST),), (("127.0.0.1", 9),), 7
)
IDS = PlayIds("cname", "stream", 101, 102, 103, 104)
TAKE = """async answer => {
  await pc.setRemoteDescription({type: 'answer', sdp: answer});
  const lines = pc.getTransceivers().map(one => one.currentDirection);
  const senders = pc.getSenders().filter(one => one.track);
  return {
    state: pc.signalingState,
    lines,
    encodings: senders.map(one => one.getParameters().encodings.length),
    streams: new Set(pc.getReceivers().map(one => one.track.kind)).size,
  };
}"""


def test_chromium_takes_every_answer() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            for name, body in CHROMIUM_OFFERS.items():
                page = browser.new_page()
                offer = page.evaluate(
                    "async () => {"
                    + TRACKS.replace("const pc", "window.pc")
                    + body
                    + "await pc.setLocalDescription(); return pc.localDescription.sdp; }"
                )
                is_play = "play" in name
                parsed = parse_offer(offer)
                plan = answer_play(parsed, LOCAL, IDS) if is_play else answer_publish(parsed, LOCAL)
                taken = page.evaluate(TAKE, plan.answer)
                assert taken["state"] == "stable", name
                wanted = "recvonly" if is_play else "sendonly"
                assert set(taken["lines"]) == {wanted}, name
                if "simulcast" in name:
                    assert 3 in taken["encodings"]
                page.close()
        finally:
            browser.close()
