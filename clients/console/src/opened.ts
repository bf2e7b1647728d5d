/** The open run: followed from its first event to its end, over all breaks, and drawn once a frame. */
import { effect, signal } from "@preact/signals";
import { RunNotFound } from "pullcord";

import { client, line, told } from "./api.js";
import { fold, settle, View } from "./fold.js";
import { following } from "./changes.js";
import { openKey, place, type Whose, whoseOf } from "./place.js";
import { inTurn, rest, type Way } from "./room.js";
import { complete, refresh, see } from "./runs.js";
import { isTerminal } from "./words.js";

export const view = signal<View | undefined>(undefined);
/** Rises when the view has changed, which is no new value. */
const drawn = signal(0);
export const way = signal<Way>("live");
/** Why the run cannot be shown; empty: it can. */
export const trouble = signal("");

const AGAIN_MS = 2_000;

let frame = 0;

/** What the parts of the open run draw. The view is one object, which changes; `beat` says when it has. */
export interface Seen {
  readonly opened: View;
  readonly beat: number;
}

export function seen(): Seen | undefined {
  const beat = drawn.value;
  return view.value && { opened: view.value, beat };
}

function changed(): void {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    drawn.value += 1;
  });
}

/** Follows whatever run the address names. */
export function keepOpen(): void {
  let gone = new AbortController();
  effect(() => {
    gone.abort();
    gone = new AbortController();
    view.value = undefined;
    trouble.value = "";
    const key = openKey.value;
    const { run, tenant, owner } = place.peek();
    following.value = Boolean(run);
    if (key && run) void follow(run, { tenant, owner }, gone.signal);
  });
}

async function follow(runId: string, whose: Whose, gone: AbortSignal): Promise<void> {
  await followTo(runId, whose, gone);
  if (!gone.aborted) following.value = false;
}

async function followTo(runId: string, whose: Whose, gone: AbortSignal): Promise<void> {
  while (!gone.aborted) {
    try {
      const run = await client.get(runId, { ...whose, signal: gone });
      const opened = view.peek() ?? new View(run);
      trouble.value = "";
      view.value = opened;
      changed();
      await inTurn(
        (left) => read(opened, left),
        gone,
        (found) => (way.value = found),
      );
      return;
    } catch (reason) {
      if (isGone(gone)) return;
      trouble.value = told(reason);
      if (reason instanceof RunNotFound) return;
      await rest(AGAIN_MS, gone);
    }
  }
}

/** A look of its own, as it changes while one waits. */
function isGone(gone: AbortSignal): boolean {
  return gone.aborted;
}

/** Reads events until the reader leaves; whether nothing more will come. */
async function read(opened: View, left: AbortSignal): Promise<boolean> {
  const { runId } = opened.run;
  const whose = whoseOf(opened.run);
  const stream = client.watch(runId, { ...whose, afterSequence: opened.sequence });
  const leave = (): void => void stream.return();
  left.addEventListener("abort", leave);
  try {
    for await (const event of stream) {
      const before = opened.state;
      fold(opened, event);
      changed();
      if (opened.state !== before) see({ ...opened.run, state: opened.state });
    }
  } finally {
    left.removeEventListener("abort", leave);
  }
  if (left.aborted) return false;
  // The end has come; the run knows what no event says, such as when it began.
  const text = opened.text;
  const run = await client.get(runId, whose);
  if (isTerminal(run.state)) settle(opened, run);
  if (!opened.text) opened.text = text;
  line.value = "up";
  changed();
  see(run);
  refresh();
  await complete(run);
  return isTerminal(run.state);
}
