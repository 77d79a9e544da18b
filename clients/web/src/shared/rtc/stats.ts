/** Figures of one peer connection, from two readings of getStats. Pure. */

export interface Reading {
  atMs: number;
  bytes: number;
  packets: number;
  lost: number;
  frames: number;
  width: number;
  height: number;
  jitterDelayS: number;
  jitterCount: number;
  rttMs: number | null;
  /** What the other side says it lost of ours, 0-1; publishers only. */
  fractionLost: number | null;
  limitedBy: string;
  codec: string;
  /** Packets of sound and picture together. */
  allPackets: number;
}

export interface Figures {
  width: number;
  height: number;
  fps: number;
  bitrateBps: number;
  /** 0-1 over the last interval. */
  loss: number;
  jitterBufferMs: number | null;
  rttMs: number | null;
  frames: number;
  codec: string;
  limitedBy: string;
}

type StatsEntry = Record<string, unknown> & { type: string; kind?: string; id: string };

const num = (value: unknown): number => (typeof value === "number" ? value : 0);

/** The parts of a report that matter. `direction` is the RTP stream's own side. */
export function readReport(
  report: Iterable<[string, unknown]>,
  direction: "inbound-rtp" | "outbound-rtp",
  atMs: number,
): Reading {
  const entries = new Map<string, StatsEntry>();
  for (const [id, entry] of report) entries.set(id, entry as StatsEntry);
  const reading: Reading = {
    atMs,
    bytes: 0,
    packets: 0,
    lost: 0,
    frames: 0,
    width: 0,
    height: 0,
    jitterDelayS: 0,
    jitterCount: 0,
    rttMs: null,
    fractionLost: null,
    limitedBy: "none",
    codec: "",
    allPackets: 0,
  };
  for (const entry of entries.values()) {
    if (entry.type === direction) readStream(reading, entry, entries);
    else if (entry.type === "candidate-pair" && entry.nominated && entry.state === "succeeded") {
      if (typeof entry.currentRoundTripTime === "number") {
        reading.rttMs = entry.currentRoundTripTime * 1000;
      }
    } else if (entry.type === "remote-inbound-rtp" && entry.kind === "video") {
      if (typeof entry.fractionLost === "number") reading.fractionLost = entry.fractionLost;
    }
  }
  return reading;
}

function readStream(reading: Reading, entry: StatsEntry, entries: Map<string, StatsEntry>): void {
  const packets = num(entry.packetsReceived) + num(entry.packetsSent);
  reading.allPackets += packets;
  if (entry.kind !== "video") return;
  reading.bytes += num(entry.bytesReceived) + num(entry.bytesSent);
  reading.packets += packets;
  reading.lost += num(entry.packetsLost);
  reading.frames += num(entry.framesDecoded) + num(entry.framesEncoded);
  reading.width = Math.max(reading.width, num(entry.frameWidth));
  reading.height = Math.max(reading.height, num(entry.frameHeight));
  reading.jitterDelayS += num(entry.jitterBufferDelay);
  reading.jitterCount += num(entry.jitterBufferEmittedCount);
  if (typeof entry.qualityLimitationReason === "string") {
    reading.limitedBy = entry.qualityLimitationReason;
  }
  const codec = entries.get(String(entry.codecId));
  if (codec) reading.codec = String(codec.mimeType ?? "").replace("video/", "");
}

export function figuresBetween(before: Reading | null, after: Reading): Figures {
  const seconds = before ? (after.atMs - before.atMs) / 1000 : 0;
  const per = (a: number, b: number) => (seconds > 0 ? Math.max(0, b - a) / seconds : 0);
  const lost = before ? Math.max(0, after.lost - before.lost) : 0;
  const packets = before ? Math.max(0, after.packets - before.packets) : 0;
  const emitted = before ? after.jitterCount - before.jitterCount : 0;
  const waitedS = before ? after.jitterDelayS - before.jitterDelayS : 0;
  return {
    width: after.width,
    height: after.height,
    fps: before ? Math.round(per(before.frames, after.frames)) : 0,
    bitrateBps: before ? per(before.bytes, after.bytes) * 8 : 0,
    loss: after.fractionLost ?? (lost + packets > 0 ? lost / (lost + packets) : 0),
    jitterBufferMs: emitted > 0 ? (waitedS / emitted) * 1000 : null,
    rttMs: after.rttMs,
    frames: after.frames,
    codec: after.codec,
    limitedBy: after.limitedBy,
  };
}

export type Health = "good" | "fair" | "poor" | "none";

/** One word for an uplink: what a person needs to know of the figures. */
export function healthOf(figures: Figures | null): Health {
  if (!figures || figures.bitrateBps === 0) return "none";
  const rtt = figures.rttMs ?? 0;
  if (figures.loss > 0.08 || rtt > 600 || figures.bitrateBps < 150_000) return "poor";
  if (figures.loss > 0.02 || rtt > 250 || figures.limitedBy === "bandwidth") return "fair";
  return "good";
}
