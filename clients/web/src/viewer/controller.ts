/** Wires the viewer's page: bus and stage on one side, the store on the other. */
import { computed, effect } from "@preact/signals";
import { type Bus, RpcRefused } from "../shared/bus";
import { describeLots } from "../shared/describe";
import { t } from "../shared/i18n";
import { enterRoom, type Session } from "../shared/page";
import type { Role } from "../shared/protocol";
import { isWatchable } from "../shared/room";
import { Stage } from "../shared/rtc/stage";
import { createStore, type Store } from "../shared/store";
import { INITIAL, nextAmount, reduce, type ViewerAction, type ViewerState } from "./state";

const BIDDERS: readonly Role[] = ["viewer", "host", "director", "moderator", "admin"];
/** How long a bid is sent again and again before we admit that nobody answers. */
const BID_PATIENCE_MS = 20_000;
/** A button whose amount changed this recently was not read by the finger on its way. */
const JUST_CHANGED_MS = 250;
const CHEER_BATCH_MS = 300;
const CHEER_KIND = "heart";
/** Thousands of phones hear of a new lot at once; they need not all ask at once. */
const CROWD_SPREAD_MS = 2_000;

export class ViewerController {
  readonly store: Store<ViewerState, ViewerAction> = createStore(reduce, INITIAL);
  readonly stage: Stage;
  #session: Session | null = null;
  #cheers = 0;
  #cheerTimer: ReturnType<typeof setTimeout> | undefined;
  #shown: { lot: string; amount: number; at: number } | null = null;
  #askForLot: (lot: string) => void = () => undefined;
  #stopEffects: () => void = () => undefined;

  constructor(readonly room: string) {
    this.stage = new Stage({
      room,
      token: () => this.#session?.access.token ?? "",
      label: () => t("video.label"),
      ambient: true,
    });
  }

  get bus(): Bus | null {
    return this.#session?.bus ?? null;
  }

  /** The server's time, Unix ms. */
  now(): number {
    return this.#session?.bus.clock.now() ?? Date.now();
  }

  async start(): Promise<void> {
    const { dispatch, state } = this.store;
    this.#session = await enterRoom(this.room, {
      onLink: (link) => dispatch({ type: "link", link }),
      onRoomState: (snapshot) => dispatch({ type: "room.snapshot", state: snapshot }),
      onRoomEvent: (event) => dispatch({ type: "room.event", event }),
      onUserEvent: (event) => dispatch({ type: "user.event", event }),
      onTick: (tick) => dispatch({ type: "room.tick", tick }),
    });
    if (!this.#session) return;
    const { identity, role } = this.#session.access;
    dispatch({ type: "entered", me: identity, canBid: BIDDERS.includes(role) });
    this.stage.player.start();
    const stopExpecting = effect(() => {
      const { room, camera } = state.value;
      if (room.known) this.stage.player.setExpected(isWatchable(room, camera));
    });
    const room = computed(() => state.value.room);
    const describing = describeLots(this.#session.bus, room, dispatch, CROWD_SPREAD_MS);
    this.#askForLot = describing.ask;
    this.#stopEffects = () => {
      stopExpecting();
      describing.stop();
    };
  }

  destroy(): void {
    this.#stopEffects();
    clearTimeout(this.#cheerTimer);
    this.stage.destroy();
    this.#session?.bus.destroy();
  }

  /** The view tells which amount the button shows, so that a tap means what was read. */
  noteShown(lot: string, amount: number): void {
    if (this.#shown?.lot === lot && this.#shown.amount === amount) return;
    const isFirst = this.#shown?.lot !== lot;
    this.#shown = { lot, amount, at: isFirst ? 0 : performance.now() };
  }

  /** One tap: the next amount of the lot, unless it changed under the finger. */
  bid(lotId: string): void {
    const lot = this.store.state.value.room.lots.find((each) => each.lot === lotId);
    if (!lot || this.store.state.value.attempt) return;
    const amount = nextAmount(lot);
    if (this.#shown && performance.now() - this.#shown.at < JUST_CHANGED_MS) {
      this.store.dispatch({ type: "bid.justChanged", lot: lotId, amount });
      return;
    }
    void this.#send(lotId, "open", amount);
  }

  bidUpTo(lot: string, max: number): void {
    if (!this.store.state.value.attempt) void this.#send(lot, "max", max);
  }

  async #send(lot: string, kind: "open" | "max", amount: number): Promise<void> {
    const { dispatch } = this.store;
    const bus = this.bus;
    if (!bus) return;
    // One key a tap: however often the call is sent, it is one bid.
    const key = newKey();
    dispatch({ type: "bid.attempt", key, lot, kind, amount });
    const until = Date.now() + BID_PATIENCE_MS;
    const onHeld = () => dispatch({ type: "bid.held", key });
    try {
      const reply =
        kind === "open"
          ? await bus.callUntil("bid.place", { lot, amount, key }, until, onHeld)
          : await bus.callUntil("bid.max", { lot, max: amount, key }, until, onHeld);
      dispatch({ type: "bid.answered", key, reply });
      navigator.vibrate?.(12);
    } catch (error) {
      if (error instanceof RpcRefused) {
        const { minimum } = error.detail;
        dispatch({
          type: "bid.refused",
          key,
          reason: error.reason,
          minimum: typeof minimum === "number" ? minimum : null,
        });
        // Our picture of the lot was wrong: look again.
        this.#askForLot(lot);
      } else dispatch({ type: "bid.unanswered", key });
    }
  }

  chooseCamera(camera: string | null): void {
    this.store.dispatch({ type: "camera.choose", camera });
    void this.stage.player.setCamera(camera, isWatchable(this.store.state.value.room, camera));
  }

  /** Counts a tap; taps travel together a few times a second. */
  cheer(): void {
    this.#cheers++;
    this.#cheerTimer ??= setTimeout(() => {
      const count = this.#cheers;
      this.#cheers = 0;
      this.#cheerTimer = undefined;
      this.bus?.call("cheer.tap", { kind: CHEER_KIND, count }).catch(() => {
        // A cheer that is lost or over the limit is not worth a word: the heart has flown.
      });
    }, CHEER_BATCH_MS);
  }
}

/** A random key; `crypto.randomUUID` exists on secure pages only, and LAN phones use http. */
export function newKey(): string {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
