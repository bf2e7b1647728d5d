/**
 * Follows the list of runs, while this tab's one stream is not needed for a run: what changes is shown at
 * once, and what is new makes the list look again. How the list looks is in `runs`.
 */
import { effect, signal } from "@preact/signals";
import type { Run } from "pullcord";

import { client, told } from "./api.js";
import { filterKey, filterOf, place } from "./place.js";
import { inTurn, LIST, rest, type Way } from "./room.js";
import { isLive, refresh, see } from "./runs.js";

/** Whether a run is followed, which has the stream then. */
export const following = signal(false);

/** Looks for what is new are so far apart, however much comes. */
const APART_MS = 1_000;
const AFTER_REFUSAL_MS = 10_000;

let nudged: ReturnType<typeof setTimeout> | undefined;
let lookedAt = -Infinity;

/** Follows whatever the filter lets through, for as long as the page is there. */
export function keepFollowing(): void {
  let gone = new AbortController();
  let before = "";
  effect(() => {
    const next = following.value ? "" : filterKey(place.value);
    if (next === before) return;
    before = next;
    gone.abort();
    gone = new AbortController();
    if (next) void follow(gone.signal);
  });
}

async function follow(gone: AbortSignal): Promise<void> {
  let way: Way = "live";
  while (!gone.aborted) {
    try {
      await inTurn(
        (left) => (way === "live" ? read(left) : idle(left)),
        gone,
        (found) => (way = found),
        LIST,
      );
    } catch (reason) {
      told(reason);
      await rest(AFTER_REFUSAL_MS, gone);
    }
  }
}

/** Reads changes until the reader leaves; a list never ends by itself. */
async function read(left: AbortSignal): Promise<boolean> {
  const asked = filterOf(place.peek());
  try {
    for await (const change of client.watchRuns(asked, { signal: left })) {
      if (change.run) take(change.run);
      if (change.caughtUp || change.missed) nudge();
      if (change.caughtUp) isLive.value = true;
    }
  } catch (reason) {
    if (!left.aborted) throw reason;
  } finally {
    isLive.value = false;
  }
  return false;
}

/** Where other tabs have the streams the list is looked at, as it is while a run is followed. */
async function idle(left: AbortSignal): Promise<boolean> {
  if (!left.aborted) {
    await new Promise((resolve) => left.addEventListener("abort", resolve, { once: true }));
  }
  return false;
}

/** A row that is shown is brought up to date; where it may come, go or be another's, the list looks again. */
function take(run: Run): void {
  const isKnown = see(run);
  const isListed = place.peek().children || !run.parentRunId;
  if (isListed && !(isKnown && place.peek().which === "all")) nudge();
}

/** Has the list look soon, and not too often. */
function nudge(): void {
  const wait = Math.max(0, lookedAt + APART_MS - performance.now());
  nudged ??= setTimeout(() => {
    nudged = undefined;
    lookedAt = performance.now();
    refresh();
  }, wait);
}
