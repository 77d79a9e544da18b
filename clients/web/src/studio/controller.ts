/** Wires the studio: devices, publisher and bus on one side, the store on the other. */
import { computed, effect, signal } from "@preact/signals";
import { type Access, AccessRefused, givenAccess } from "../shared/access";
import { RpcRefused } from "../shared/bus";
import { describeLots } from "../shared/describe";
import { enterRoom, type Session } from "../shared/page";
import type { NewLot, Role } from "../shared/protocol";
import { type Figures, healthOf } from "../shared/rtc/stats";
import { WhipPublisher } from "../shared/rtc/whip";
import { createStore } from "../shared/store";
import { DEFAULT_QUALITY, type DeviceChoice, Devices, qualityNamed } from "./devices";
import { INITIAL, reduce } from "./state";

const PUBLISHERS: readonly Role[] = ["host", "camera", "admin"];
const HOSTS: readonly Role[] = ["host", "admin"];
const HISTORY = 60;
const DEFAULT_CAMERA = "main";

export interface Settings extends DeviceChoice {
  name: string;
  codec: string;
}

export class StudioController {
  readonly store = createStore(reduce, INITIAL);
  readonly publisher = new WhipPublisher();
  readonly devices: Devices;
  readonly settings = signal<Settings>(loadSettings());
  /** Bit rate of the last minute, oldest first. */
  readonly history = signal<number[]>([]);
  readonly health = computed(() => healthOf(this.publisher.figures.value));
  readonly access: Access | null;
  #session: Session | null = null;
  #wakeLock: WakeLockSentinel | null = null;

  constructor(readonly room: string) {
    this.access = givenAccess(room);
    this.devices = new Devices((track) => void this.publisher.replaceTrack(track));
    if (this.access?.camera) this.change({ name: this.access.camera });
  }

  get mayPublish(): boolean {
    return this.access !== null && PUBLISHERS.includes(this.access.role);
  }

  get mayRunLots(): boolean {
    return this.access !== null && HOSTS.includes(this.access.role);
  }

  now(): number {
    return this.#session?.bus.clock.now() ?? Date.now();
  }

  async start(): Promise<void> {
    const { access } = this;
    if (!access || !this.mayPublish) return;
    const { dispatch } = this.store;
    if (await this.devices.isAllowed()) void this.openDevices();
    effect(() => this.#record(this.publisher.figures.value));
    effect(() => this.#keepAwake(this.publisher.status.value !== "off"));
    document.addEventListener("visibilitychange", () => {
      // The lock is lost with the page's visibility; take it again.
      if (document.visibilityState === "visible") {
        this.#keepAwake(this.publisher.status.value !== "off");
      }
    });
    this.#session = await enterRoom(
      this.room,
      {
        onLink: (link) => dispatch({ type: "link", link }),
        onRoomState: (state) => dispatch({ type: "room.snapshot", state }),
        onRoomEvent: (event) => {
          dispatch({ type: "room.event", event });
          if (event.type === "camera.offline" && event.camera === this.settings.value.name) {
            this.publisher.noticeOffline();
          }
        },
        onUserEvent: () => undefined,
        onStageEvent: (event) => {
          if (event.camera === this.settings.value.name) {
            void this.publisher.sendLayers(event.wanted);
          }
        },
        onTick: (tick) => dispatch({ type: "room.tick", tick }),
      },
      async (fresh) => {
        if (fresh || access.expiresAt * 1000 < Date.now()) throw new AccessRefused("expired_token");
        return access;
      },
    );
    if (!this.#session) return;
    const room = computed(() => this.store.state.value.room);
    describeLots(this.#session.bus, room, dispatch, 0);
  }

  async openDevices(): Promise<void> {
    await this.devices.open(this.settings.value);
  }

  /** Changes settings and remembers them; a device or quality is opened at once if one was. */
  change(change: Partial<Settings>): void {
    this.settings.value = { ...this.settings.value, ...change };
    saveSettings(this.settings.value);
    const reopens = "camera" in change || "microphone" in change || "quality" in change;
    if (reopens && this.devices.stream.value) void this.openDevices();
  }

  goLive(): void {
    const stream = this.devices.stream.value;
    if (!stream || !this.access) return;
    const { name, codec, quality } = this.settings.value;
    const { height, maxBitrateBps, maxFramerate } = qualityNamed(quality);
    this.history.value = [];
    this.publisher.start({
      room: this.room,
      camera: name,
      token: () => this.access?.token ?? "",
      stream,
      quality: { height, maxBitrateBps, maxFramerate },
      codec: codec || null,
    });
  }

  stopLive(): void {
    this.publisher.stop();
  }

  /** Creates a lot, and opens it at once if asked. True when all of it was accepted. */
  async createLot(lot: NewLot, startNow: boolean): Promise<boolean> {
    const created = await this.#command("", async () => {
      const reply = await this.#session?.bus.call("lot.create", lot);
      return reply?.lot ?? null;
    });
    if (!created) return false;
    return startNow ? this.startLot(created) : true;
  }

  async startLot(lot: string): Promise<boolean> {
    return (
      (await this.#command(lot, async () => this.#session?.bus.call("lot.start", { lot }))) != null
    );
  }

  async withdrawLot(lot: string): Promise<void> {
    const reason = "withdrawn by the host";
    await this.#command(lot, async () => this.#session?.bus.call("lot.cancel", { lot, reason }));
  }

  async #command<T>(lot: string, run: () => Promise<T>): Promise<T | null> {
    const { dispatch } = this.store;
    dispatch({ type: "command.sent", lot });
    try {
      const reply = await run();
      dispatch({ type: "command.done", lot, refusal: null });
      return reply;
    } catch (error) {
      const refusal = error instanceof RpcRefused ? error.reason : "unavailable";
      dispatch({ type: "command.done", lot, refusal });
      return null;
    }
  }

  #record(figures: Figures | null): void {
    if (!figures) return;
    this.history.value = [...this.history.peek(), figures.bitrateBps].slice(-HISTORY);
  }

  #keepAwake(isAwake: boolean): void {
    if (!isAwake) {
      void this.#wakeLock?.release();
      this.#wakeLock = null;
      return;
    }
    navigator.wakeLock
      ?.request("screen")
      .then((lock) => {
        this.#wakeLock = lock;
      })
      .catch(() => {
        // Low battery or an old browser: the screen may sleep, the show goes on.
      });
  }
}

const SETTINGS_KEY = "livehouse.studio";
const DEFAULTS: Settings = {
  name: DEFAULT_CAMERA,
  camera: "",
  microphone: "",
  quality: DEFAULT_QUALITY,
  codec: "H264",
};

function loadSettings(): Settings {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(SETTINGS_KEY) ?? "{}") };
  } catch {
    return DEFAULTS;
  }
}

function saveSettings(settings: Settings): void {
  try {
    localStorage.setItem(SETTINGS_KEY, JSON.stringify(settings));
  } catch {
    // Not remembered, then.
  }
}
