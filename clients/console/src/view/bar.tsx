/** The bar on top: how the line to the server is, what waits for a decision, and what can be begun. */
import type { VNode } from "preact";

import { line } from "../api.js";
import { go } from "../place.js";
import { waiting } from "../runs.js";
import { many } from "../words.js";
import { showBulk } from "./bulk.js";
import { showHelp } from "./help.js";
import { showStart } from "./start.js";

export function Bar(): VNode {
  const count = waiting.value;
  return (
    <header class="bar">
      <p class="brand">
        <Cord />
        <span>Pullcord</span>
      </p>
      <LineState />
      <span class="space" />
      {count > 0 && (
        <button
          type="button"
          class="badge"
          onClick={() => go({ which: "waiting", run: "", children: true })}
        >
          {many(count, "waits", "wait")}
          <span class="wide">&nbsp;for a decision</span>
        </button>
      )}
      <button type="button" onClick={() => showBulk()}>
        Stop many…
      </button>
      <button type="button" class="primary" onClick={() => showStart()}>
        New run
      </button>
      <button type="button" class="round" aria-label="Help and settings" onClick={showHelp}>
        ?
      </button>
    </header>
  );
}

function LineState(): VNode {
  const words = {
    new: "Connecting…",
    up: "Connected",
    lost: "The server does not answer. Trying again…",
  }[line.value];
  return (
    <span class={`line ${line.value}`} role="status">
      <span class="text">{words}</span>
    </span>
  );
}

function Cord(): VNode {
  return (
    <svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true">
      <path d="M16 1v14" class="thread" />
      <circle cx="16" cy="22.5" r="7" class="ring" />
    </svg>
  );
}
