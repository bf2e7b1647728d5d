/** The keys of the page. They can be switched off, and never act while something is being typed. */
import { signal } from "@preact/signals";
import type { Run } from "pullcord";

import { recall, remember } from "../api.js";
import { go, isOpen, keyOf, openId } from "../place.js";
import { view } from "../opened.js";
import { cursor, rows, stop } from "../runs.js";
import { canStop, isTerminal } from "../words.js";
import { showBulk } from "./bulk.js";
import { showHelp } from "./help.js";
import { showStart } from "./start.js";

const SETTING = "pullcord-keys-off";
export const keysOff = signal(recall(SETTING) !== "");

export function switchKeys(on: boolean): void {
  keysOff.value = !on;
  remember(SETTING, on ? "" : "off");
}

/** What the help says of them. */
export const KEYS: readonly [string, string][] = [
  ["j, k", "the next row, the one before"],
  ["Enter", "opens the row"],
  ["s", "stops the row or the open run"],
  ["Shift + s", "stops it now, tools too"],
  ["/", "goes to the filter"],
  ["n", "starts a run"],
  ["b", "stops many runs"],
  ["Esc", "closes the run"],
  ["?", "this page"],
];

const ACTIONS: Record<string, () => void> = {
  j: () => step(1),
  k: () => step(-1),
  s: () => pull(false),
  S: () => pull(true),
  n: () => showStart(),
  b: () => showBulk(),
  "/": toFilter,
  "?": showHelp,
};

export function listenToKeys(): void {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]") || isTyping(event.target)) return;
    if (event.key === "Escape" && openId.peek()) {
      const closed = openId.peek();
      go({ run: "" });
      focusRow(closed);
      return;
    }
    const action = keysOff.peek() ? undefined : ACTIONS[event.key];
    if (!action || event.repeat) {
      if (event.key !== "j" && event.key !== "k") return;
    }
    event.preventDefault();
    action?.();
  });
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest("input, textarea, select") !== null;
}

function step(by: number): void {
  const shown = rows.peek();
  const place = shown.findIndex((run) => keyOf(run) === cursor.peek());
  const next = shown[Math.min(shown.length - 1, Math.max(0, place < 0 ? 0 : place + by))];
  if (next) focusRow(next.runId);
}

function focusRow(runId: string): void {
  const row = document.querySelector<HTMLElement>(`[data-run="${CSS.escape(runId)}"] a`);
  row?.focus();
  row?.scrollIntoView({ block: "nearest" });
}

/** The row that has the focus, else the open run. */
function meant(): Run | undefined {
  const row = document.activeElement?.closest<HTMLElement>("[data-run]");
  const focused = row && rows.peek().find((run) => keyOf(run) === cursor.peek());
  if (focused) return focused;
  const opened = view.peek();
  return opened && { ...opened.run, state: opened.state };
}

function pull(now: boolean): void {
  const run = meant();
  if (!run || isTerminal(run.state)) return;
  if (!now && !canStop(run.state)) return;
  const reason = document.querySelector<HTMLInputElement>("#reason")?.value ?? "";
  void stop(run, { now, reason: isOpen(run) ? reason : "" });
}

function toFilter(): void {
  document.querySelector<HTMLDetailsElement>(".fields")?.setAttribute("open", "");
  document.querySelector<HTMLInputElement>(".fields input")?.focus();
}
