/** Stopping many runs: a filter, then which runs those are, then one confirmation for exactly so many. */
import { signal } from "@preact/signals";
import { CancelMode, CancelOutcome, type Run, TooManyAffected } from "pullcord";
import type { TargetedSubmitEvent, VNode } from "preact";

import { client, told } from "../api.js";
import { filterOf, keyOf, labelsOf, place, STATES } from "../place.js";
import { first } from "../room.js";
import { refresh } from "../runs.js";
import { many, short, standOf } from "../words.js";
import { Dialog, State } from "./parts.js";

type Filter = ReturnType<typeof filterOf>;

const shown = signal(false);
const filter = signal<Filter>({ runnable: "", sessionId: "", userId: "", labels: {} });
const found = signal<readonly Found[] | undefined>(undefined);
const refused = signal("");
const done = signal("");
const busy = signal(false);
const NAMED = 200;

interface Found {
  readonly key: string;
  readonly runId: string;
  /** Undefined: it is not among those that were listed. */
  readonly run: Run | undefined;
}

export function showBulk(): void {
  filter.value = filterOf(place.peek());
  found.value = undefined;
  refused.value = done.value = "";
  shown.value = true;
}

async function preview(event: TargetedSubmitEvent<HTMLFormElement>): Promise<void> {
  event.preventDefault();
  const data = new FormData(event.currentTarget);
  const said = (name: string): string => {
    const value = data.get(name);
    return typeof value === "string" ? value.trim() : "";
  };
  filter.value = {
    runnable: said("runnable"),
    sessionId: said("session"),
    userId: said("user"),
    labels: labelsOf(said("labels")),
  };
  await look();
}

async function look(): Promise<void> {
  busy.value = true;
  refused.value = done.value = "";
  try {
    const results = await client.cancelMany({ ...filter.peek(), validateOnly: true });
    const runs = new Map<string, Run>();
    for await (const run of client.list({
      ...filter.peek(),
      states: STATES.live,
      pageSize: NAMED,
    })) {
      runs.set(keyOf(run), run);
      if (runs.size === NAMED) break;
    }
    found.value = results.map((result) => {
      const key = keyOf(result);
      return { key, runId: result.runId, run: runs.get(key) };
    });
  } catch (reason) {
    found.value = undefined;
    refused.value = told(reason);
  } finally {
    busy.value = false;
  }
}

async function stopAll(now: boolean): Promise<void> {
  const maxAffected = found.peek()?.length ?? 0;
  const reason = document.querySelector<HTMLInputElement>("#bulk-reason")?.value.trim() ?? "";
  const mode = now ? CancelMode.IMMEDIATE : CancelMode.GRACEFUL;
  busy.value = true;
  refused.value = "";
  try {
    const results = await first(() =>
      client.cancelMany({ ...filter.peek(), reason, mode, maxAffected }),
    );
    const already = results.filter(({ outcome }) => outcome === CancelOutcome.ALREADY_FINISHED);
    done.value =
      `${many(results.length - already.length, "run is", "runs are")} stopping` +
      (already.length ? `; ${many(already.length, "had ended", "had ended")} before.` : ".");
    refresh();
  } catch (failed) {
    if (failed instanceof TooManyAffected) {
      await look();
      refused.value = "More runs match than were shown, so nothing was stopped. Look again.";
    } else {
      refused.value = told(failed);
    }
  } finally {
    busy.value = false;
  }
}

export function Bulk(): VNode {
  return (
    <Dialog open={shown.value} title="Stop many runs" onClose={() => (shown.value = false)}>
      {done.value ? <Done /> : <Ask />}
    </Dialog>
  );
}

function Done(): VNode {
  return (
    <div class="stack">
      <p role="status">
        <strong>{done.value}</strong>
      </p>
      <div class="actions">
        <button type="button" onClick={() => void look()}>
          What is left?
        </button>
        <button type="button" class="primary" onClick={() => (shown.value = false)}>
          Close
        </button>
      </div>
    </div>
  );
}

function Ask(): VNode {
  const { runnable, sessionId, userId, labels } = filter.value;
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  const fields = [
    ["runnable", "Runnable", runnable, "agents/…"],
    ["session", "Session", sessionId, ""],
    ["user", "User", userId, ""],
    ["labels", "Labels", pairs.join(", "), "key=value"],
  ] as const;
  return (
    <>
      <form
        class="stack"
        onSubmit={(event) => void preview(event)}
        onInput={() => (found.value = undefined)}
      >
        <p class="hint">All live runs that match every field. One field at least is needed.</p>
        <div class="grid">
          {fields.map(([name, word, value, hint]) => (
            <label key={name}>
              {word}
              <input name={name} defaultValue={value} placeholder={hint} autocomplete="off" />
            </label>
          ))}
        </div>
        <div class="actions">
          <button type="submit" class={found.value ? "" : "primary"} disabled={busy.value}>
            Which runs are these?
          </button>
        </div>
      </form>
      {refused.value && (
        <p class="refused" role="alert">
          {refused.value}
        </p>
      )}
      {found.value && <Preview runs={found.value} />}
    </>
  );
}

function Preview({ runs }: { runs: readonly Found[] }): VNode {
  if (!runs.length) return <p role="status">No live run matches. There is nothing to stop.</p>;
  return (
    <div class="stack preview">
      <p role="status">
        <strong>{many(runs.length, "live run")}</strong> will stop:
      </p>
      <ul tabIndex={0} aria-label="Runs that will stop">
        {runs.map(({ key, runId, run }) => (
          <li key={key}>
            {run ? <State stand={standOf(run.state)} /> : null}
            <span class="name">{run?.runnable ?? runId}</span>
            <span class="details">{short(runId)}</span>
          </li>
        ))}
      </ul>
      <label>
        Reason, if you like
        <input id="bulk-reason" maxLength={1024} autocomplete="off" />
      </label>
      <div class="actions">
        <button
          type="button"
          class="stop now"
          disabled={busy.value}
          onClick={() => void stopAll(true)}
        >
          Stop {runs.length} now
        </button>
        <button
          type="button"
          class="stop"
          disabled={busy.value}
          onClick={() => void stopAll(false)}
        >
          Stop {many(runs.length, "run")}
        </button>
      </div>
    </div>
  );
}
