import { render } from "preact";
import { roomOfPath } from "../shared/access";
import { startLocale } from "../shared/i18n";
import "../shared/ui/base.css";
import { ViewerController } from "./controller";
import { Viewer } from "./Viewer";
import "./viewer.css";

const controller = new ViewerController(roomOfPath(location.pathname));
// The picture does not wait for the words.
void controller.start();
const root = document.getElementById("app");
void startLocale().then(() => {
  if (root) render(<Viewer controller={controller} />, root);
});
