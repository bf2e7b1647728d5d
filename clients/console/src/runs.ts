/**
 * The list: its rows, kept fresh while the page is seen. It does not jump: while it is held (the pointer is
 * over it, or it is scrolled), rows stay where they are, and what is newer is counted until it is let go.
 */
import { effect, signal } from "@preact/signals";
import { CancelMode, type CancelRunResponse, type Run } from "pullcord";

import { client, line, told } from "./api.js";
import { filterKey, filterOf, keyOf, place, STATES } from "./place.js";
import { first, rest } from "./room.js";
import { isTerminal } from "./words.js";

const PAGE = 100;
/** So many runs are looked through for each row that is wanted, where the page itself picks among them. */
const SIFTED = 5;
const EVERY_MS = 2_000;
/** While the list is followed it changes by itself; what the followed changes leave out comes by this look. */
const EVERY_MS_LIVE = 10_000;
const WAITING_EVERY_MS = 6_000;

export const rows = signal<readonly Run[]>([]);
/** How many rows are newer than those shown. */
export const newer = signal(0);
export const held = signal(false);
/** Whether there are older ones. */
export const more = signal(false);
/** How many runs wait for a decision, with any filter. */
export const waiting = signal(0);
/** Whether the list is followed now, and all that is live has come. */
export const isLive = signal(false);
/** Whether the first answer has come. */
export const listed = signal(false);
/** What the list was refused with; empty: nothing. */
export const refused = signal("");
/** The names of what can be run. */
export const offered = signal<readonly string[]>([]);
/** The row that the keys act on. */
export const cursor = signal("");

let wanted = PAGE;
let soon = new AbortController();

/** Looks again at once, such as after a stop. */
export function refresh(): void {
  soon.abort();
}

export function showMore(): void {
  wanted += PAGE;
  refresh();
}

/** Shows what is newer. */
export function letGo(): void {
  held.value = false;
  refresh();
}

async function look(): Promise<void> {
  const asked = place.peek();
  const found: Run[] = [];
  let further = false;
  let sifted = 0;
  if (!offered.peek().length) offered.value = (await client.runnables()).map(({ name }) => name);
  // A name that is not whole yet picks among what came.
  const part = offered.peek().includes(asked.runnable) ? "" : asked.runnable;
  const request = {
    ...filterOf(asked),
    runnable: part ? "" : asked.runnable,
    states: STATES[asked.which],
    pageSize: Math.min(wanted, 1000),
  };
  for await (const run of client.list(request)) {
    if (found.length === wanted || sifted++ === wanted * SIFTED) {
      further = true;
      break;
    }
    if ((asked.children || !run.parentRunId) && run.runnable.includes(part)) found.push(run);
  }
  if (asked !== place.peek() && filterKey(asked) !== filterKey(place.peek())) return;
  show(found);
  more.value = further;
  listed.value = true;
  refused.value = "";
}

function show(found: readonly Run[]): void {
  if (!held.peek() || !rows.peek().length) {
    rows.value = found;
    newer.value = 0;
    return;
  }
  const fresh = new Map(found.map((run) => [keyOf(run), run]));
  const shown = rows.peek();
  rows.value = shown.map((run) => fresh.get(keyOf(run)) ?? run);
  const known = new Set(shown.map(keyOf));
  newer.value = found.filter((run) => !known.has(keyOf(run))).length;
}

/** A run as it was just seen, also in the list; whether it is there. */
export function see(run: Run): boolean {
  const key = keyOf(run);
  const known = rows.peek().find((row) => keyOf(row) === key);
  if (!known) return false;
  // The two ways by which a run is seen may overtake each other: an ended run goes on no more.
  if (isTerminal(known.state) && !isTerminal(run.state)) return true;
  rows.value = rows.peek().map((row) => (keyOf(row) === key ? { ...row, ...brief(run) } : row));
  return true;
}

function brief({ state, cancellation, usage, endTime, startTime }: Run): Partial<Run> {
  return {
    state,
    ...(cancellation && { cancellation }),
    ...(usage && { usage }),
    ...(startTime && { startTime }),
    ...(endTime && { endTime }),
  };
}

async function count(): Promise<void> {
  waiting.value = (await Array.fromAsync(client.list({ states: STATES.waiting }))).length;
}

/** Keeps the list fresh, for as long as the page is there. */
export async function keepFresh(): Promise<void> {
  let counted = -Infinity;
  let filter = "";
  effect(() => {
    const next = filterKey(place.value);
    if (next === filter) return;
    filter = next;
    wanted = PAGE;
    held.value = false;
    refresh();
  });
  for (;;) {
    soon = new AbortController();
    if (!document.hidden) {
      try {
        await look();
        if (performance.now() - counted > WAITING_EVERY_MS) {
          counted = performance.now();
          await count();
        }
      } catch (reason) {
        refused.value = told(reason);
        listed.value = true;
      }
    }
    const isQuiet = isLive.peek() && line.peek() === "up";
    await rest(isQuiet ? EVERY_MS_LIVE : EVERY_MS, soon.signal);
  }
}

// --- stopping

/** What the stops of this tab were answered, by the run's key. */
export const receipts = signal<ReadonlyMap<string, CancelRunResponse>>(new Map());
/** The runs whose stop has been asked for here and is not answered yet. */
export const asking = signal<ReadonlySet<string>>(new Set());
/** What the last stop was refused with; empty: it was not. */
export const stopRefused = signal("");

/** Asks for the whole receipt of a stop of this tab, once its run has ended: a cancel again, the same answer. */
export async function complete({ runId, tenant, owner }: Run): Promise<void> {
  const key = keyOf({ runId, tenant, owner });
  const known = receipts.peek().get(key);
  if (!known || known.stopTime) return;
  const whole = await client.cancel({ runId, tenant, owner });
  receipts.value = new Map([...receipts.peek(), [key, whole]]);
}

/** Stops one run. It never throws: the row and the head say what came of it. */
export async function stop(run: Run, { now = false, reason = "" } = {}): Promise<void> {
  const key = keyOf(run);
  const { runId, tenant, owner } = run;
  const mode = now ? CancelMode.IMMEDIATE : CancelMode.GRACEFUL;
  asking.value = new Set([...asking.peek(), key]);
  stopRefused.value = "";
  try {
    const receipt = await first(() => client.cancel({ runId, tenant, owner, mode, reason }));
    receipts.value = new Map([...receipts.peek(), [key, receipt]]);
    if (receipt.run) see(receipt.run);
  } catch (failed) {
    stopRefused.value = told(failed);
  } finally {
    asking.value = new Set([...asking.peek()].filter((other) => other !== key));
    refresh();
  }
}
