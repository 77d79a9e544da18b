/** Snapshots for tests: a plain lot and a plain room, with what a test cares about put in. */
import type { LotSnapshot, RoomState } from "./protocol";

export function lotSnapshot(over: Partial<LotSnapshot> = {}): LotSnapshot {
  return {
    lot: "L1",
    title: "Tea bowl",
    format: "english",
    state: "created",
    currency: "JPY",
    start_price: 1000,
    increment: 100,
    reserve: "none",
    buy_now: null,
    duration_ms: 60_000,
    soft_close: null,
    created_at: 1,
    opened_at: null,
    ends_at: null,
    seq: 0,
    price: null,
    leader: null,
    leader_name: null,
    minimum: 1000,
    winner: null,
    bids: [],
    my_max: null,
    ...over,
  };
}

export function roomState(over: Partial<RoomState> = {}): RoomState {
  return {
    room: "r",
    title: "Room",
    now: 1_000,
    program: null,
    cameras: [],
    lots: [],
    viewers: 0,
    cheers: {},
    ...over,
  };
}
