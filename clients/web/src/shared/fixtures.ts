/** Snapshots for tests: a plain lot and a plain room, with what a test cares about put in. */
import type { BidAccepted, LotCreated, LotSnapshot, LotSold, RoomState } from "./protocol";

export function lotSnapshot(over: Partial<LotSnapshot> = {}): LotSnapshot {
  return {
    lot: "L1",
    title: "Tea bowl",
    format: "english",
    state: "created",
    currency: "JPY",
    start_price: 1000,
    increment: 100,
    grid: false,
    reserve: "none",
    buy_now: null,
    duration_ms: 60_000,
    soft_close: null,
    owner: "host",
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

export function lotCreated(over: Partial<LotCreated> = {}): LotCreated {
  return {
    type: "lot.created",
    at: 1,
    lot: "L1",
    title: "Tea bowl",
    format: "english",
    currency: "JPY",
    start_price: 1000,
    increment: 100,
    duration_ms: 60_000,
    buy_now: null,
    minimum: 1000,
    ...over,
  };
}

export function bidAccepted(seq: number, price: number, leader: string): BidAccepted {
  return {
    type: "bid.accepted",
    at: seq,
    lot: "L1",
    seq,
    price,
    leader,
    leader_name: leader.toUpperCase(),
    minimum: price + 100,
    ends_at: 60_000,
    auto: false,
  };
}

export function lotSold(price: number, winner: string): LotSold {
  return {
    type: "lot.sold",
    at: 9,
    lot: "L1",
    price,
    currency: "JPY",
    winner,
    winner_name: winner.toUpperCase(),
    title: "Tea bowl",
  };
}
