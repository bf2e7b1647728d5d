/** The conformance driver in a browser: the test that drives the page asks `pullcordDriver`, a line at a time. */
import { connect } from "pullcord/browser";

import { Driver } from "./answers.js";

// A page cannot ping. It knows a server that is gone by its silence.
const driver = new Driver((target, { keepaliveMs, keepaliveTimeoutMs, ...options }) =>
  connect(target, {
    ...options,
    silenceMs: keepaliveMs === undefined ? undefined : keepaliveMs + (keepaliveTimeoutMs ?? 0),
  }),
);
Object.assign(globalThis, { pullcordDriver: (line: string) => driver.answer(line) });
