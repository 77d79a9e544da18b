// Foreign WebRTC stacks in Node against a running Livehouse, one JSON line a step.
//
//   node driver.mjs URL HOST_TOKEN VIEWER_TOKEN
//
// Nobody here knows Livehouse: `whip-whep` speaks HTTP, `@roamhq/wrtc` is Google's native
// WebRTC, `werift` a stack of its own in TypeScript. The chain: wrtc encodes a picture and
// publishes it (main); werift watches it and publishes what it gets, packet for packet, as
// another camera (copy); wrtc watches that one and decodes. Then both restart ICE.

import wrtc from "@roamhq/wrtc";
import { RTCPeerConnection as WeriftPeer, MediaStreamTrack, useH264, useVP8, useOPUS } from "werift";
import { WHIPClient } from "whip-whep/whip.js";
import { WHEPClient } from "whip-whep/whep.js";

const [url, hostToken, viewerToken] = process.argv.slice(2);
const WIDTH = 320, HEIGHT = 240, FRAME_MS = 40;
const say = (step, facts = {}) => console.log(JSON.stringify({ step, ...facts }));

/** Wait until `value` gives something true, or fail with the name of what did not happen. */
async function until(what, value, timeoutMs = 15_000) {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const found = value();
    if (found) return found;
    if (Date.now() > end) throw new Error(`after ${timeoutMs} ms: no ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

/** A grey picture that grows lighter, at 25 frames a second. */
function movingPicture() {
  const source = new wrtc.nonstandard.RTCVideoSource();
  const data = new Uint8ClampedArray(WIDTH * HEIGHT * 1.5).fill(128);
  let frame = 0;
  const timer = setInterval(() => {
    data.fill((frame++ * 2) % 200 + 20, 0, WIDTH * HEIGHT);
    source.onFrame({ width: WIDTH, height: HEIGHT, data });
  }, FRAME_MS);
  return { track: source.createTrack(), stop: () => clearInterval(timer) };
}

/** Watch a camera with wrtc and whip-whep; counts decoded frames. */
async function watch(path) {
  const pc = new wrtc.RTCPeerConnection();
  const seen = { frames: 0, width: 0, height: 0 };
  let sink;
  pc.ontrack = ({ track }) => {
    if (track.kind !== "video") return;
    sink = new wrtc.nonstandard.RTCVideoSink(track);
    sink.onframe = ({ frame }) => {
      seen.frames += 1;
      seen.width = frame.width;
      seen.height = frame.height;
    };
  };
  pc.addTransceiver("video", { direction: "recvonly" });
  pc.addTransceiver("audio", { direction: "recvonly" });
  const client = new WHEPClient();
  await client.view(pc, url + path, viewerToken);
  await until(`picture of ${path}`, () => seen.frames >= 10);
  return { pc, client, seen, stop: async () => { sink.stop(); await client.stop(); } };
}

/** POST an offer with werift, which brings no HTTP of its own. */
async function connectWerift(pc, path, token) {
  await pc.setLocalDescription(await pc.createOffer());
  await until("candidates", () => pc.iceGatheringState === "complete");
  const answer = await fetch(url + path, {
    method: "POST",
    headers: { "Content-Type": "application/sdp", Authorization: `Bearer ${token}` },
    body: pc.localDescription.sdp,
  });
  if (answer.status !== 201) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  await until(`connection of ${path}`, () => pc.connectionState === "connected");
  const session = new URL(answer.headers.get("location"), url);
  return async () => {
    const ended = await fetch(session, { method: "DELETE", headers: { Authorization: `Bearer ${token}` } });
    await pc.close();
    return ended.status;
  };
}

const weriftConfig = () => ({ codecs: { video: [useVP8(), useH264()], audio: [useOPUS()] }, iceServers: [] });

async function main() {
  const picture = movingPicture();
  const sound = new wrtc.nonstandard.RTCAudioSource();
  const samples = new Int16Array(480);
  const tone = setInterval(() => sound.onData({ samples, sampleRate: 48_000 }), 10);
  const pc = new wrtc.RTCPeerConnection();
  pc.addTransceiver(picture.track, { direction: "sendonly" });
  pc.addTransceiver(sound.createTrack(), { direction: "sendonly" });
  const publisher = new WHIPClient();
  await publisher.publish(pc, `${url}/whip/foreign/main`, hostToken);
  await until("connection of the publisher", () => pc.connectionState === "connected");
  say("wrtc publishes", { etag: Boolean(publisher.etag) });

  const first = await watch("/whep/foreign/main");
  say("wrtc watches wrtc", first.seen);

  const puller = new WeriftPeer(weriftConfig());
  const copies = { video: new MediaStreamTrack({ kind: "video" }), audio: new MediaStreamTrack({ kind: "audio" }) };
  const counts = { video: 0, audio: 0 };
  const pullers = {};
  for (const kind of ["video", "audio"]) {
    const transceiver = puller.addTransceiver(kind, { direction: "recvonly" });
    transceiver.onTrack.subscribe((track) => {
      pullers[kind] = { transceiver, track };
      track.onReceiveRtp.subscribe((rtp) => {
        counts[kind] += 1;
        copies[kind].writeRtp(rtp);
      });
    });
  }
  const endPuller = await connectWerift(puller, "/whep/foreign/main", viewerToken);
  await until("packets at werift", () => counts.video > 20 && counts.audio > 20);
  say("werift watches wrtc", counts);

  const pusher = new WeriftPeer(weriftConfig());
  for (const kind of ["video", "audio"]) {
    const sender = pusher.addTransceiver(copies[kind], { direction: "sendonly" }).sender;
    // Whoever asks the copy for a key frame asks the original.
    sender.onPictureLossIndication?.subscribe(() => {
      const { transceiver, track } = pullers.video;
      void transceiver.receiver.sendRtcpPLI(track.ssrc);
    });
  }
  const endPusher = await connectWerift(pusher, "/whip/foreign/copy", hostToken);
  say("werift publishes");
  const asker = setInterval(() => {
    const { transceiver, track } = pullers.video;
    void transceiver.receiver.sendRtcpPLI(track.ssrc);
  }, 500);
  const second = await watch("/whep/foreign/copy").finally(() => clearInterval(asker));
  say("wrtc watches werift", second.seen);

  for (const [name, client] of [["publisher", publisher], ["viewer", first.client]]) {
    const before = client.etag;
    await client.restart();
    if (client.etag === before) throw new Error(`the ${name}'s restart brought no new ETag`);
  }
  const frames = first.seen.frames;
  await until("picture after both restarted ICE", () => first.seen.frames > frames + 25);
  say("both restart ICE", { state: first.pc.connectionState, publisher: pc.connectionState });

  await second.stop();
  await first.stop();
  const statuses = [await endPusher(), await endPuller()];
  await publisher.stop();
  clearInterval(tone);
  picture.stop();
  say("done", { statuses });
}

main().then(
  () => process.exit(0),
  (error) => {
    say("failed", { error: String(error?.stack ?? error) });
    process.exit(1);
  },
);
