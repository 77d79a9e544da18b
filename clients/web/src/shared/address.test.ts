import { expect, test } from "vitest";
import { publicOrigin } from "./address";

const page = (content: string | null) =>
  ({ querySelector: () => (content === null ? null : { content }) }) as unknown as Document;
const at = (address: string) => new URL(address) as unknown as Location;

test.each([
  ["http://192.0.2.7:8080", "http://127.0.0.1:8080/studio/shop", "http://192.0.2.7:8080"],
  ["http://192.0.2.7:8080/", "http://localhost:8080/studio/shop", "http://192.0.2.7:8080"],
  ["http://192.0.2.7:8080", "http://[::1]:8080/studio/shop", "http://192.0.2.7:8080"],
  ["http://192.0.2.7:8080", "https://live.shop.example/studio/shop", "https://live.shop.example"],
  [null, "http://localhost:8080/studio/shop", "http://localhost:8080"],
])("written %s, opened at %s: shares %s", (written, opened, shared) => {
  expect(publicOrigin(page(written), at(opened))).toBe(shared);
});
