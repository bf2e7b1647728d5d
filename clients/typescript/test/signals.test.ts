/** Signals are tied for as long as a call lasts, and waits are never too short. */
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { it } from "node:test";

import { pause, Tied } from "../src/signals.js";

it("a call's signal follows the first of the others, with its reason, and lets go of all", () => {
  const [mine, theirs] = [new AbortController(), new AbortController()];
  const tied = new Tied(mine.signal, undefined, theirs.signal);
  theirs.abort("theirs");
  mine.abort("mine");
  assert.equal(tied.signal.reason, "theirs");
  assert.equal(new Tied(mine.signal).signal.reason, "mine", "one that came before counts, too");
});

it("a call leaves no listener behind, however it ends", () => {
  const { signal } = new AbortController();
  const calls = [new Tied(signal), new Tied(signal)];
  assert.equal(getEventListeners(signal, "abort").length, 2);
  calls[0]?.letGo();
  calls[1]?.abort();
  assert.deepEqual(getEventListeners(signal, "abort"), []);
});

it("a wait is never too short, also where the loop was busy when it began", async () => {
  const { signal } = new AbortController();
  const busyUntil = performance.now() + 20;
  while (performance.now() < busyUntil);
  const began = performance.now();
  await pause(10.5, signal);
  assert.ok(performance.now() - began >= 10.5);
  assert.deepEqual(getEventListeners(signal, "abort"), []);
});

it("a wait ends with its signal", async () => {
  const leaving = new AbortController();
  const waits = pause(1e9, leaving.signal);
  leaving.abort();
  await waits;
  await pause(1e9, leaving.signal);
});
