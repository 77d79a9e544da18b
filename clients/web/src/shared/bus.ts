/**
 * The bus: one WebSocket that speaks the Centrifugo client protocol, by its own SDK.
 *
 * The server subscribes us to `room:` and `user:`; after a lost link the SDK asks for what
 * was missed by epoch and offset. `onFresh` is called whenever that was not possible (and at
 * first): the page must load `room.state` then. No page sees the socket.
 */
import { Centrifuge, UnauthorizedError } from "centrifuge";
import { AccessRefused } from "./access";
import { backoffMs, sleep } from "./backoff";
import { ServerClock } from "./clock";
import {
  isReason,
  type Reason,
  type RoomEvent,
  type RoomState,
  type Rpc,
  roomChannel,
  type StageEvent,
  stageChannel,
  type Tick,
  tickChannel,
  type UserEvent,
} from "./protocol";

export type LinkState = "connecting" | "online" | "lost" | "ended";

/** The server turned an RPC down: `reason` says why, `detail` what else it said. */
export class RpcRefused extends Error {
  constructor(
    readonly reason: Reason,
    readonly detail: Record<string, unknown>,
  ) {
    super(reason);
  }
}

/** The answer did not come in time; with an idempotency key the same call may be sent again. */
export class Unreachable extends Error {}

export interface BusHandlers {
  onLink(state: LinkState): void;
  onRoomState(state: RoomState): void;
  onRoomEvent(event: RoomEvent): void;
  onUserEvent(event: UserEvent): void;
  onTick(tick: Tick): void;
  /** Only hosts, directors, moderators and administrators hear of it. */
  onStageEvent?(event: StageEvent): void;
  /** The token is not (or no longer) accepted, and reconnecting with it would not help. */
  onDenied(reason: Reason): void;
}

export interface BusOptions {
  room: string;
  token: string;
  /** A new token when the server says that ours has expired. */
  renew: () => Promise<string>;
  handlers: BusHandlers;
}

const RPC_TIMEOUT_MS = 5_000;
/** Codes below 100 are the SDK's own: time-out, closed transport. Nothing reached us. */
const FIRST_SERVER_CODE = 100;
/** Disconnect codes from here on mean "do not come back like this". */
const FIRST_FINAL_CODE = 3_500;

interface WireError extends Record<string, unknown> {
  code: number;
  message: string;
  temporary?: boolean;
}

export class Bus {
  readonly clock: ServerClock;
  readonly #client: Centrifuge;
  readonly #handlers: BusHandlers;
  readonly #ended = new AbortController();
  #wasOnline = false;
  #stateLoads = 0;

  constructor({ room, token, renew, handlers }: BusOptions) {
    this.#handlers = handlers;
    const url = new URL("/connection/websocket", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.#client = new Centrifuge(url.href, {
      token,
      getToken: async () => {
        try {
          return await renew();
        } catch (error) {
          // Anything but a refusal is a bad link, which the SDK waits out.
          if (!(error instanceof AccessRefused) || error.reason === "unavailable") throw error;
          handlers.onDenied(error.reason);
          throw new UnauthorizedError(error.reason);
        }
      },
      minReconnectDelay: 200,
      maxReconnectDelay: 5_000,
      timeout: RPC_TIMEOUT_MS,
    });
    this.clock = new ServerClock(async () => (await this.#rpc("clock.now", {})).now);
    this.#listen(room);
    this.#client.connect();
  }

  /** One call, one answer. Raises RpcRefused, or Unreachable when no answer came. */
  async call<M extends keyof Rpc>(method: M, params: Rpc[M]["params"]): Promise<Rpc[M]["result"]> {
    return this.#rpc(method, params);
  }

  /**
   * A call that carries an idempotency key: sent again, the same, until it is answered or
   * `untilMs` (local Unix ms) has passed. A lost link, a time-out and a temporary refusal
   * are waited out. `onHeld` is told when the first try did not get through.
   */
  async callUntil<M extends keyof Rpc>(
    method: M,
    params: Rpc[M]["params"] & { key: string },
    untilMs: number,
    onHeld: () => void,
  ): Promise<Rpc[M]["result"]> {
    for (let tries = 0; ; tries++) {
      try {
        return await this.#rpc(method, params);
      } catch (error) {
        const again = error instanceof Unreachable || (isTemporary(error) && tries < 5);
        if (!again || Date.now() >= untilMs) throw error;
        onHeld();
        await sleep(backoffMs(tries, { capMs: 2_000 }), this.#ended.signal);
      }
    }
  }

  destroy(): void {
    this.#ended.abort(new Unreachable("the page is leaving"));
    this.clock.destroy();
    this.#client.disconnect();
  }

  #listen(room: string): void {
    const client = this.#client;
    client.on("connecting", () => {
      this.#handlers.onLink(this.#wasOnline ? "lost" : "connecting");
    });
    client.on("connected", () => {
      this.#wasOnline = true;
      this.#handlers.onLink("online");
      void this.clock.sync();
    });
    client.on("disconnected", ({ code }) => {
      this.#handlers.onLink("ended");
      if (code >= FIRST_FINAL_CODE) this.#handlers.onDenied("bad_token");
    });
    client.on("subscribed", ({ channel, wasRecovering, recovered }) => {
      if (channel === roomChannel(room) && !(wasRecovering && recovered)) void this.#loadState();
    });
    client.on("publication", ({ channel, data }) => {
      if (channel === roomChannel(room)) this.#handlers.onRoomEvent(data as RoomEvent);
      else if (channel === stageChannel(room)) this.#handlers.onStageEvent?.(data as StageEvent);
      else if (channel.startsWith("user:")) this.#handlers.onUserEvent(data as UserEvent);
    });
    const ticks = client.newSubscription(tickChannel(room));
    ticks.on("publication", ({ data }) => this.#handlers.onTick(data as Tick));
    ticks.subscribe();
  }

  /** Loads `room.state`, again and again while the link allows; only the newest load counts. */
  async #loadState(): Promise<void> {
    const load = ++this.#stateLoads;
    for (let tries = 0; load === this.#stateLoads && !this.#ended.signal.aborted; tries++) {
      try {
        const state = await this.#rpc("room.state", {});
        if (load === this.#stateLoads) {
          this.clock.hint(state.now);
          this.#handlers.onRoomState(state);
        }
        return;
      } catch {
        // A new connection loads anew by itself; this one waits a little and asks again.
        await sleep(backoffMs(tries));
      }
    }
  }

  async #rpc<M extends keyof Rpc>(method: M, params: Rpc[M]["params"]): Promise<Rpc[M]["result"]> {
    try {
      return (await this.#client.rpc(method, params)).data as Rpc[M]["result"];
    } catch (error) {
      throw asRpcError(error);
    }
  }
}

function isTemporary(error: unknown): boolean {
  return (
    error instanceof RpcRefused &&
    error.reason !== "rate_limited" &&
    error.detail.temporary === true
  );
}

function asRpcError(error: unknown): Error {
  const { code, message, ...detail } = error as WireError;
  if (typeof code !== "number" || code < FIRST_SERVER_CODE) return new Unreachable(String(message));
  if (isReason(message)) return new RpcRefused(message, detail);
  return new RpcRefused(detail.temporary ? "unavailable" : "internal", detail);
}
