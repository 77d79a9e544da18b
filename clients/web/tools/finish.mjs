// After the build: write .gz and .br beside what is worth it, and hold the byte budget.
//
// The budget is what a phone must receive before the first picture: the page's own
// script and style with everything they import at once, and the largest language, gzipped.
// Raise a number here only in the change that needs it.
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const OUT = fileURLToPath(new URL("../../../server/static", import.meta.url));
const BUDGET_BYTES = { "viewer.html": 60_000, "studio.html": 70_000, "screen.html": 60_000 };
const MIN_COMPRESS_BYTES = 1_024;

const gzip = (bytes) => gzipSync(bytes, { level: 9 });

/** Files the browser fetches at once for `page`: script, style, and their static imports. */
function initialFiles(manifest, page) {
  const files = new Set();
  const visit = (key) => {
    const entry = manifest[key];
    if (files.has(entry.file)) return;
    files.add(entry.file);
    for (const css of entry.css ?? []) files.add(css);
    for (const imported of entry.imports ?? []) visit(imported);
  };
  visit(page);
  return [...files];
}

const manifest = JSON.parse(readFileSync(join(OUT, ".vite/manifest.json"), "utf8"));
const languages = Object.values(manifest).filter((entry) => entry.src?.includes("/i18n/"));
const largestLanguage = Math.max(
  0,
  ...languages.map((entry) => gzip(readFileSync(join(OUT, entry.file))).length),
);
if (largestLanguage === 0) throw new Error("no language of its own in the build: count them anew");
let failed = false;
for (const [page, budget] of Object.entries(BUDGET_BYTES)) {
  const bytes = initialFiles(manifest, page)
    .map((file) => gzip(readFileSync(join(OUT, file))).length)
    .reduce((sum, size) => sum + size, largestLanguage);
  const verdict = bytes <= budget ? "ok" : "OVER BUDGET";
  failed ||= bytes > budget;
  console.log(
    `${page.padEnd(12)} ${(bytes / 1000).toFixed(1)} kB of ${budget / 1000} kB gzipped  ${verdict}`,
  );
}

for (const name of readdirSync(OUT, { recursive: true })) {
  const path = join(OUT, name);
  if (!/\.(js|css|html|svg)$/.test(name) || !statSync(path).isFile()) continue;
  const bytes = readFileSync(path);
  if (bytes.length < MIN_COMPRESS_BYTES) continue;
  writeFileSync(`${path}.gz`, gzip(bytes));
  const quality = { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } };
  writeFileSync(`${path}.br`, brotliCompressSync(bytes, quality));
}
process.exit(failed ? 1 : 0);
