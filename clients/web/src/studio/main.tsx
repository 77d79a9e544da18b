import { render } from "preact";
import "../shared/ui/base.css";

const root = document.getElementById("app");
if (root) render(<main class="page" />, root);
