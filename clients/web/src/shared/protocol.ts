/**
 * The wire as the pages see it: reasons, events, snapshots and RPC of the bus.
 *
 * Mirrors interact/protocol.py; tests/unit/test_web_protocol.py holds the two together.
 * Amounts are integers in minor units, times Unix milliseconds by the server's clock.
 */

export const REASONS = [
  "not_open",
  "too_low",
  "own_lead",
  "own_lot",
  "rate_limited",
  "bad_key",
  "not_allowed",
  "busy",
  "no_lot",
  "bad_state",
  "bad_request",
  "bad_sdp",
  "bad_name",
  "no_codec",
  "too_large",
  "unsupported_media_type",
  "method_not_allowed",
  "not_found",
  "unknown_method",
  "no_token",
  "bad_token",
  "expired_token",
  "wrong_room",
  "not_live",
  "no_session",
  "no_camera",
  "etag_mismatch",
  "etag_missing",
  "full",
  "unavailable",
  "internal",
] as const;

export type Reason = (typeof REASONS)[number];

export const ROLES = [
  "viewer",
  "camera",
  "host",
  "director",
  "screen",
  "moderator",
  "admin",
] as const;

export type Role = (typeof ROLES)[number];

export type LotState = "created" | "open" | "sold" | "unsold" | "cancelled";

/** One step for every price, or `[from_price, step]` rows in rising order. */
export type Increment = number | [from: number, step: number][];

export interface SoftClose {
  window_ms: number;
  extend_ms: number;
  mode: "reset" | "add";
}

export interface BidRow {
  seq: number;
  price: number;
  leader: string;
  leader_name: string;
  at: number;
  auto: boolean;
}

export interface LotSnapshot {
  lot: string;
  title: string;
  format: string;
  state: LotState;
  currency: string;
  start_price: number;
  increment: Increment;
  grid: boolean;
  reserve: "none" | "unmet" | "met";
  buy_now: number | null;
  duration_ms: number;
  soft_close: SoftClose | null;
  owner: string;
  created_at: number;
  opened_at: number | null;
  ends_at: number | null;
  seq: number;
  price: number | null;
  leader: string | null;
  leader_name: string | null;
  minimum: number;
  winner: string | null;
  winner_name?: string | null;
  bids: BidRow[];
  my_max: number | null;
}

export interface VideoInfo {
  codec: string;
}

export interface CameraInfo {
  camera: string;
  live: boolean;
  video: VideoInfo | null;
  audio: boolean;
}

export interface RoomState {
  room: string;
  title: string;
  now: number;
  program: string | null;
  cameras: CameraInfo[];
  lots: LotSnapshot[];
  viewers: number;
  cheers: Record<string, number>;
}

interface Stamped {
  at: number;
}

export type LotCreated = Stamped & {
  type: "lot.created";
  lot: string;
  title: string;
  format: string;
  currency: string;
  start_price: number;
  increment: Increment;
  duration_ms: number;
  buy_now: number | null;
  minimum: number;
};
export type LotOpened = Stamped & {
  type: "lot.opened";
  lot: string;
  title: string;
  currency: string;
  ends_at: number;
  minimum: number;
};
export type LotExtended = Stamped & { type: "lot.extended"; lot: string; ends_at: number };
export type LotSold = Stamped & {
  type: "lot.sold";
  lot: string;
  price: number;
  currency: string;
  winner: string;
  winner_name: string;
  title: string;
};
export type LotUnsold = Stamped & { type: "lot.unsold"; lot: string; title: string };
export type LotCancelled = Stamped & {
  type: "lot.cancelled";
  lot: string;
  reason: string;
  title: string;
};
export type BidAccepted = Stamped & {
  type: "bid.accepted";
  lot: string;
  seq: number;
  price: number;
  leader: string;
  leader_name: string;
  minimum: number;
  ends_at: number;
  auto: boolean;
};
export type CameraLive = Stamped & {
  type: "camera.live";
  camera: string;
  video: VideoInfo | null;
  audio: boolean;
};
export type CameraOffline = Stamped & { type: "camera.offline"; camera: string };
export type ProgramChanged = Stamped & { type: "program.changed"; camera: string | null };

export type CameraLayers = Stamped & { type: "camera.layers"; camera: string; wanted: string[] };

/** What `stage:{room}` carries, for those who run the show. */
export type StageEvent = CameraLayers;

/** What `room:{room}` carries. */
export type RoomEvent =
  | LotCreated
  | LotOpened
  | LotExtended
  | LotSold
  | LotUnsold
  | LotCancelled
  | BidAccepted
  | CameraLive
  | CameraOffline
  | ProgramChanged;

export type BidReceipt = Stamped & {
  type: "bid.receipt";
  lot: string;
  seq: number;
  kind: "open" | "max";
  amount: number;
  price: number;
  leader: string;
};
export type BidOutbid = Stamped & {
  type: "bid.outbid";
  lot: string;
  price: number;
  leader: string;
  leader_name: string;
  minimum: number;
};
export type LotWon = Stamped & {
  type: "lot.won";
  lot: string;
  price: number;
  currency: string;
  title: string;
};

/** What `user:{room}:{identity}` carries: for this person's eyes only. */
export type UserEvent = BidReceipt | BidOutbid | LotWon;

/** What `tick:{room}` carries, latest wins. */
export type Tick = Stamped & {
  type: "tick";
  viewers: number;
  cheers: Record<string, number>;
};

export const EVENT_TYPES = [
  "lot.created",
  "lot.opened",
  "lot.extended",
  "lot.sold",
  "lot.unsold",
  "lot.cancelled",
  "bid.accepted",
  "bid.receipt",
  "bid.outbid",
  "lot.won",
  "camera.live",
  "camera.offline",
  "program.changed",
  "camera.layers",
  "tick",
] as const satisfies readonly (RoomEvent | StageEvent | UserEvent | Tick)["type"][];

export interface BidReply {
  seq: number;
  price: number;
  leader: string;
  ends_at: number;
}

export interface NewLot {
  title: string;
  format: "english";
  currency: string;
  start_price: number;
  increment: Increment;
  duration_ms: number;
  reserve?: number;
  buy_now?: number;
  soft_close?: SoftClose;
}

/** RPC of the bus: parameters and result of each method that the pages call. */
export interface Rpc {
  "clock.now": { params: Record<string, never>; result: { now: number } };
  "room.state": { params: Record<string, never>; result: RoomState };
  "lot.state": { params: { lot: string }; result: LotSnapshot };
  "lot.create": { params: NewLot; result: { lot: string } };
  "lot.start": {
    params: { lot: string };
    result: { lot: string; opened_at: number; ends_at: number };
  };
  "lot.cancel": { params: { lot: string; reason: string }; result: { lot: string } };
  "bid.place": { params: { lot: string; amount: number; key: string }; result: BidReply };
  "bid.max": { params: { lot: string; max: number; key: string }; result: BidReply };
  "cheer.tap": { params: { kind: string; count: number }; result: Record<string, unknown> };
}

export const roomChannel = (room: string) => `room:${room}`;
export const tickChannel = (room: string) => `tick:${room}`;
export const stageChannel = (room: string) => `stage:${room}`;
export const userChannel = (room: string, identity: string) => `user:${room}:${identity}`;

export function isReason(word: unknown): word is Reason {
  return typeof word === "string" && (REASONS as readonly string[]).includes(word);
}
