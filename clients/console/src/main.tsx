/** The console's start: everything that lives as long as the page does begins here. */
import { render } from "preact";

import { keepFollowing } from "./changes.js";
import { keepOpen } from "./opened.js";
import { keepFresh } from "./runs.js";
import { App } from "./view/app.js";
import { listenToKeys } from "./view/keys.js";

const app = document.getElementById("app");
if (!app) throw new Error("the page has no #app");
render(<App />, app);
keepOpen();
keepFollowing();
listenToKeys();
void keepFresh();
