import { render } from "preact";
import { roomOfPath } from "../shared/access";
import { followLocale } from "../shared/i18n";
import "../shared/ui/base.css";
import { StudioController } from "./controller";
import { Studio } from "./Studio";
import "./studio.css";

followLocale();
const controller = new StudioController(roomOfPath(location.pathname));
const root = document.getElementById("app");
if (root) render(<Studio controller={controller} />, root);
void controller.start();
