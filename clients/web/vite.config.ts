import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** One HTML file a page; the server answers /v/{room} with viewer.html and so on. */
const PAGES = ["viewer", "studio", "screen"];

export default defineConfig({
  base: "/",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: here("../../server/static"),
    emptyOutDir: true,
    target: ["chrome107", "safari16", "firefox110"],
    // Small pictures in the code would be sent to pages that never show them.
    assetsInlineLimit: 0,
    manifest: true,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: Object.fromEntries(PAGES.map((name) => [name, here(`${name}.html`)])),
    },
  },
  server: {
    port: 5173,
    proxy: {
      "/connection": { target: "http://127.0.0.1:8080", ws: true },
      "/api": "http://127.0.0.1:8080",
      "/whip": "http://127.0.0.1:8080",
      "/whep": "http://127.0.0.1:8080",
      "/session": "http://127.0.0.1:8080",
    },
  },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
