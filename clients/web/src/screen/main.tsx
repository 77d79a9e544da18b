import { render } from "preact";
import { roomOfPath } from "../shared/access";
import { followLocale } from "../shared/i18n";
import "../shared/ui/base.css";
import { ScreenController } from "./controller";
import { Screen } from "./Screen";
import "./screen.css";

followLocale();
const controller = new ScreenController(roomOfPath(location.pathname));
addEventListener("keydown", ({ key, ctrlKey, metaKey }) => {
  if (!ctrlKey && !metaKey) controller.onKey(key.toLowerCase());
});
const root = document.getElementById("app");
if (root) render(<Screen controller={controller} />, root);
void controller.start();
