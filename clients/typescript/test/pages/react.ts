/** A React page with one run, for tests in a browser: `pullcordShow` shows it in `#run`. */
import { createElement, StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { RunView, type RunViewProps } from "pullcord/react";

function show(props: RunViewProps): void {
  const place = document.querySelector("#run");
  if (!place) throw new Error("the page has no #run");
  createRoot(place).render(createElement(StrictMode, null, createElement(RunView, props)));
}

Object.assign(globalThis, { pullcordShow: show });
