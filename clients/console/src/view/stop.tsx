/** The Stop button, always in one place: Stop, then Stop now, then nothing, with the same words everywhere. */
import { CancelMode, type Cancellation, type Run, RunState } from "pullcord";
import type { VNode } from "preact";

import { keyOf } from "../place.js";
import { asking, stop } from "../runs.js";
import { canStop } from "../words.js";

interface Props {
  readonly run: Run;
  readonly state: RunState;
  readonly cancellation: Cancellation | undefined;
  /** The reader's own words; asked for when the button is pressed. */
  readonly reason?: () => string;
}

export function StopButton({ run, state, cancellation, reason }: Props): VNode | null {
  const asked = asking.value.has(keyOf(run));
  const name = `${run.runnable} ${run.runId}`;
  const press = (now: boolean): void => void stop(run, { now, reason: reason?.() ?? "" });
  if (canStop(state) && !asked) {
    return (
      <button type="button" class="stop" aria-label={`Stop ${name}`} onClick={() => press(false)}>
        Stop
      </button>
    );
  }
  if (state > RunState.CANCELLING) return null;
  if (cancellation?.mode === CancelMode.IMMEDIATE)
    return <span class="hastened">Stopping now</span>;
  return (
    <button
      type="button"
      class="stop now"
      aria-label={`Stop now ${name}`}
      onClick={() => press(true)}
    >
      Stop now
    </button>
  );
}
