/**
 * A room as every page knows it: cameras, program, lots, counters.
 *
 * Pure. Events may come twice (a snapshot fetched while they were under way holds them
 * already), so each rule here gives the same result the second time: bids count by `seq`,
 * a lot's state only moves forward.
 */
import type {
  BidRow,
  CameraInfo,
  Increment,
  LotCreated,
  LotSnapshot,
  LotState,
  RoomEvent,
  RoomState,
  Tick,
} from "./protocol";

export interface RoomModel {
  /** False until the first snapshot. */
  known: boolean;
  title: string;
  program: string | null;
  cameras: CameraInfo[];
  /** Newest first. */
  lots: LotSnapshot[];
  /** Lots that an event named and no snapshot has described yet. */
  unknownLots: string[];
  viewers: number;
  cheers: Record<string, number>;
}

export type RoomAction =
  | { type: "room.snapshot"; state: RoomState }
  | { type: "room.event"; event: RoomEvent }
  | { type: "room.lot"; lot: LotSnapshot }
  | { type: "room.tick"; tick: Tick };

export const EMPTY_ROOM: RoomModel = {
  known: false,
  title: "",
  program: null,
  cameras: [],
  lots: [],
  unknownLots: [],
  viewers: 0,
  cheers: {},
};

const MAX_BIDS = 40;
const MAX_LOTS = 50;

/** Later states win over earlier ones when a snapshot and an event disagree. */
const AGE: Record<LotState, number> = { created: 0, open: 1, sold: 2, unsold: 2, cancelled: 2 };

/** The increment in force at `price`. */
export function stepAt(increment: Increment, price: number): number {
  if (typeof increment === "number") return increment;
  let step = increment[0]?.[1] ?? 1;
  for (const [from, next] of increment) if (price >= from) step = next;
  return step;
}

export function reduceRoom(room: RoomModel, action: RoomAction): RoomModel {
  switch (action.type) {
    case "room.snapshot":
      return applySnapshot(room, action.state);
    case "room.lot":
      return withLot(room, action.lot);
    case "room.tick":
      return { ...room, viewers: action.tick.viewers, cheers: action.tick.cheers };
    case "room.event":
      return applyEvent(room, action.event);
  }
}

function applySnapshot(room: RoomModel, state: RoomState): RoomModel {
  const lots = state.lots.map((lot) => {
    const held = room.lots.find((each) => each.lot === lot.lot);
    return held ? mergeLot(held, lot) : lot;
  });
  return {
    known: true,
    title: state.title,
    program: state.program,
    cameras: state.cameras,
    lots,
    unknownLots: [],
    viewers: state.viewers,
    cheers: state.cheers,
  };
}

function isNewer(a: LotSnapshot, b: LotSnapshot): boolean {
  return AGE[a.state] > AGE[b.state] || (AGE[a.state] === AGE[b.state] && a.seq > b.seq);
}

/** The snapshot's description with whichever course of events is further on. */
function mergeLot(held: LotSnapshot, snapshot: LotSnapshot): LotSnapshot {
  if (!isNewer(held, snapshot)) return snapshot;
  const { state, opened_at, ends_at, seq, price, leader, leader_name, minimum, winner, bids } =
    held;
  const course = {
    state,
    opened_at,
    ends_at,
    seq,
    price,
    leader,
    leader_name,
    minimum,
    winner,
    bids,
  };
  return { ...snapshot, ...course, winner_name: held.winner_name ?? null };
}

function withLot(room: RoomModel, lot: LotSnapshot): RoomModel {
  const held = room.lots.find((each) => each.lot === lot.lot);
  const kept = held ? mergeLot(held, lot) : lot;
  const lots = held
    ? room.lots.map((each) => (each === held ? kept : each))
    : [kept, ...room.lots].sort((a, b) => b.created_at - a.created_at).slice(0, MAX_LOTS);
  return { ...room, lots, unknownLots: room.unknownLots.filter((id) => id !== lot.lot) };
}

function applyEvent(room: RoomModel, event: RoomEvent): RoomModel {
  switch (event.type) {
    case "camera.live":
    case "camera.offline":
      return { ...room, cameras: withCamera(room.cameras, event) };
    case "program.changed":
      return { ...room, program: event.camera };
    default: {
      const lot = room.lots.find((each) => each.lot === event.lot);
      if (!lot)
        return event.type === "lot.created"
          ? withNewLot(room, event)
          : markUnknown(room, event.lot);
      const next = applyToLot(lot, event);
      if (next === lot) return room;
      return { ...room, lots: room.lots.map((each) => (each === lot ? next : each)) };
    }
  }
}

function markUnknown(room: RoomModel, lot: string): RoomModel {
  if (room.unknownLots.includes(lot)) return room;
  return { ...room, unknownLots: [...room.unknownLots, lot] };
}

/** The message names all but reserve, soft close and owner; those are asked for later. */
function withNewLot(room: RoomModel, event: LotCreated): RoomModel {
  const { type: _, at, ...spec } = event;
  const lot: LotSnapshot = {
    ...spec,
    state: "created",
    grid: false,
    reserve: "none",
    soft_close: null,
    owner: "",
    created_at: at,
    opened_at: null,
    ends_at: null,
    seq: 0,
    price: null,
    leader: null,
    leader_name: null,
    winner: null,
    bids: [],
    my_max: null,
  };
  const added = withLot(room, lot);
  return markUnknown(added, lot.lot);
}

function withCamera(
  cameras: CameraInfo[],
  event: Extract<RoomEvent, { type: "camera.live" | "camera.offline" }>,
): CameraInfo[] {
  const held = cameras.find((each) => each.camera === event.camera);
  const next: CameraInfo =
    event.type === "camera.live"
      ? { camera: event.camera, live: true, video: event.video, audio: event.audio }
      : { camera: event.camera, video: null, audio: false, ...held, live: false };
  if (!held) {
    return [...cameras, next].sort((a, b) => (a.camera < b.camera ? -1 : 1));
  }
  return cameras.map((each) => (each === held ? next : each));
}

type LotEvent = Exclude<RoomEvent, { type: "camera.live" | "camera.offline" | "program.changed" }>;

function applyToLot(lot: LotSnapshot, event: LotEvent): LotSnapshot {
  const isOver = AGE[lot.state] > AGE.open;
  switch (event.type) {
    case "lot.created":
      return lot;
    case "lot.opened":
      if (AGE[lot.state] >= AGE.open) return lot;
      return { ...lot, state: "open", opened_at: event.at, ends_at: event.ends_at };
    case "bid.accepted": {
      if (isOver || event.seq <= lot.seq) return lot;
      const row: BidRow = {
        seq: event.seq,
        price: event.price,
        leader: event.leader,
        leader_name: event.leader_name,
        at: event.at,
        auto: event.auto,
      };
      return {
        ...lot,
        state: "open",
        seq: event.seq,
        price: event.price,
        leader: event.leader,
        leader_name: event.leader_name,
        minimum: event.minimum,
        ends_at: event.ends_at,
        bids: [row, ...lot.bids].slice(0, MAX_BIDS),
      };
    }
    case "lot.extended":
      if (isOver || (lot.ends_at !== null && event.ends_at <= lot.ends_at)) return lot;
      return { ...lot, ends_at: event.ends_at };
    case "lot.sold":
      return {
        ...lot,
        state: "sold",
        price: event.price,
        winner: event.winner,
        winner_name: event.winner_name,
        ends_at: Math.min(event.at, lot.ends_at ?? event.at),
      };
    case "lot.unsold":
      return { ...lot, state: "unsold", ends_at: Math.min(event.at, lot.ends_at ?? event.at) };
    case "lot.cancelled":
      return { ...lot, state: "cancelled", ends_at: Math.min(event.at, lot.ends_at ?? event.at) };
  }
}

/** How long a result stays in front when nothing newer is there to show. */
export const RESULT_MS = 45_000;

/**
 * The lot to show now: an open one (`preferred` if that is open), else the result of the one
 * that ended last while it is fresh, else the next one waiting, else nothing.
 */
export function currentLot(
  room: RoomModel,
  now: number,
  preferred: string | null = null,
): LotSnapshot | null {
  const open = room.lots.filter((lot) => lot.state === "open");
  if (open.length > 0) return open.find((lot) => lot.lot === preferred) ?? newestOpened(open);
  const ended = room.lots
    .filter((lot) => AGE[lot.state] > AGE.open && lot.opened_at !== null)
    .sort((a, b) => (b.ends_at ?? 0) - (a.ends_at ?? 0))[0];
  const waiting = room.lots.filter((lot) => lot.state === "created").at(-1);
  if (ended && (!waiting || now - (ended.ends_at ?? 0) < RESULT_MS / 3)) {
    if (now - (ended.ends_at ?? 0) < RESULT_MS) return ended;
  }
  return waiting ?? null;
}

function newestOpened(lots: LotSnapshot[]): LotSnapshot | null {
  return [...lots].sort((a, b) => (b.opened_at ?? 0) - (a.opened_at ?? 0))[0] ?? null;
}

export function openLots(room: RoomModel): LotSnapshot[] {
  return room.lots.filter((lot) => lot.state === "open");
}

/** Whether packets of what is watched are to be expected: `camera`, or the program for null. */
export function isWatchable(room: RoomModel, camera: string | null): boolean {
  const name = camera ?? room.program;
  return room.cameras.some((each) => each.live && (name === null || each.camera === name));
}
