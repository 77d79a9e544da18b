import { render } from "preact";
import { roomOfPath } from "../shared/access";
import { startLocale } from "../shared/i18n";
import "../shared/ui/base.css";
import { StudioController } from "./controller";
import { Studio } from "./Studio";
import "./studio.css";

const controller = new StudioController(roomOfPath(location.pathname));
// The picture does not wait for the words.
void controller.start();
const root = document.getElementById("app");
void startLocale().then(() => {
  if (root) render(<Studio controller={controller} />, root);
});
