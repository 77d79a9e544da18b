import { render } from "preact";
import { roomOfPath } from "../shared/access";
import { startLocale } from "../shared/i18n";
import "../shared/ui/base.css";
import { ScreenController } from "./controller";
import { Screen } from "./Screen";
import "./screen.css";

const controller = new ScreenController(roomOfPath(location.pathname));
addEventListener("keydown", ({ key, ctrlKey, metaKey }) => {
  if (!ctrlKey && !metaKey) controller.onKey(key.toLowerCase());
});
// The picture does not wait for the words.
void controller.start();
const root = document.getElementById("app");
void startLocale().then(() => {
  if (root) render(<Screen controller={controller} />, root);
});
