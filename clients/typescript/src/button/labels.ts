/** The words of the Stop button. All of them can be replaced, such as by those of another language. */
import type { Receipt, State } from "./live.js";

export interface Labels extends Record<State, string> {
  readonly stop: string;
  readonly stopNow: string;
  readonly lost: string;
  /** Names who stopped the run, why, and how long it took. */
  readonly receipt: (receipt: Receipt) => string;
}

export const LABELS: Labels = {
  stop: "Stop",
  stopNow: "Stop now",
  pending: "Waiting to begin",
  running: "Running",
  paused: "Waiting for a decision",
  stopping: "Stopping",
  completed: "Done",
  stopped: "Stopped",
  failed: "Failed",
  lost: "Connection lost, coming back",
  receipt: ({ who, why, tookMs }) =>
    [
      who && `by ${who}`,
      why && `“${why}”`,
      tookMs !== undefined &&
        (tookMs < 1000 ? `after ${String(tookMs)} ms` : `after ${(tookMs / 1000).toFixed(1)} s`),
    ]
      .filter(Boolean)
      .join(" "),
};
