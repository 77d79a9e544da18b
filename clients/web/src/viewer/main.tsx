import { render } from "preact";
import { roomOfPath } from "../shared/access";
import { followLocale } from "../shared/i18n";
import "../shared/ui/base.css";
import { ViewerController } from "./controller";
import { Viewer } from "./Viewer";
import "./viewer.css";

followLocale();
const controller = new ViewerController(roomOfPath(location.pathname));
const root = document.getElementById("app");
if (root) render(<Viewer controller={controller} />, root);
void controller.start();
