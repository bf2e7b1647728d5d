/** The conformance driver in a browser: whoever drives the page asks `pullcordDriver`, a line at a time. */
import { connect } from "pullcord/browser";

import { Driver } from "./answers.js";

const driver = new Driver(connect);
Object.assign(globalThis, { pullcordDriver: (line: string) => driver.answer(line) });
