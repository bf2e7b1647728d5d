/** The form that starts a run; from a run, it starts the same again. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { signal } from "@preact/signals";
import { type Run, type Runnable, type RunSpec, RunSpecSchema } from "pullcord";
import type { TargetedSubmitEvent, VNode } from "preact";

import { client, told } from "../api.js";
import { startCommand } from "../curl.js";
import { go, labelsOf, openAt } from "../place.js";
import { refresh } from "../runs.js";
import { Copy, Dialog } from "./parts.js";

const shown = signal(false);
const like = signal<Run | undefined>(undefined);
const offered = signal<readonly Runnable[]>([]);
const refused = signal("");
const busy = signal(false);
const command = signal("");

/** `run`: what the form says at first, such as to run it again. */
export function showStart(run?: Run): void {
  like.value = run;
  refused.value = command.value = "";
  shown.value = true;
  client.runnables().then(
    (found) => (offered.value = found),
    (reason: unknown) => (refused.value = told(reason)),
  );
}

function specOf(form: HTMLFormElement): RunSpec {
  const data = new FormData(form);
  const said = (name: string): string => {
    const value = data.get(name);
    return typeof value === "string" ? value.trim() : "";
  };
  const seconds = Number(said("timeout"));
  const limits = {
    ...(seconds > 0 && { timeout: durationFromMs(seconds * 1000) }),
    maxTokens: BigInt(Math.trunc(Number(said("maxTokens")))),
    maxCost: Number(said("maxCost")),
    maxSteps: Math.trunc(Number(said("maxSteps"))),
    maxToolCalls: Math.trunc(Number(said("maxToolCalls"))),
  };
  const input = data.get("input");
  return create(RunSpecSchema, {
    runnable: said("runnable"),
    input: typeof input === "string" ? input : "",
    sessionId: said("session"),
    userId: said("user"),
    labels: labelsOf(said("labels")),
    ...(Object.values(limits).some(Boolean) && { limits }),
  });
}

async function begin(event: TargetedSubmitEvent<HTMLFormElement>): Promise<void> {
  event.preventDefault();
  busy.value = true;
  refused.value = "";
  try {
    const run = await client.start(specOf(event.currentTarget));
    shown.value = false;
    go(openAt(run));
    refresh();
  } catch (reason) {
    refused.value = told(reason);
  } finally {
    busy.value = false;
  }
}

const LIMITS = [
  ["timeout", "Seconds", "any"],
  ["maxTokens", "Tokens", "1"],
  ["maxCost", "US dollars", "any"],
  ["maxSteps", "Steps", "1"],
  ["maxToolCalls", "Tool calls", "1"],
] as const;

function limitOf(run: Run | undefined, name: (typeof LIMITS)[number][0]): string {
  const limits = run?.limits;
  if (!limits) return "";
  if (name === "timeout") return limits.timeout ? String(durationMs(limits.timeout) / 1000) : "";
  return limits[name] ? String(limits[name]) : "";
}

/** Whether a run has something that the form shows only when asked. */
function isDetailed(run: Run | undefined): boolean {
  if (!run) return false;
  return Boolean(run.sessionId || run.userId || Object.keys(run.labels).length || hasLimits(run));
}

function hasLimits(run: Run): boolean {
  return LIMITS.some(([name]) => limitOf(run, name));
}

export function Start(): VNode {
  const run = like.value;
  const labels = Object.entries(run?.labels ?? {}).map(([key, value]) => `${key}=${value}`);
  const described = offered.value.find(({ name }) => name === run?.runnable) ?? offered.value[0];
  return (
    <Dialog
      open={shown.value}
      title={run ? "Run again" : "New run"}
      onClose={() => (shown.value = false)}
    >
      <form
        class="stack"
        onSubmit={(event) => void begin(event)}
        onInput={() => (command.value = "")}
      >
        <label>
          Runnable
          <select name="runnable" required key={offered.value.length}>
            {offered.value.map(({ name, displayName }) => (
              <option key={name} value={name} selected={name === described?.name}>
                {displayName && displayName !== name ? `${name} (${displayName})` : name}
              </option>
            ))}
          </select>
        </label>
        <label>
          Input
          <textarea name="input" rows={3} defaultValue={run?.input ?? ""} />
        </label>
        <details class="options" open={isDetailed(run) || undefined} key={run?.runId}>
          <summary>Session, user, labels and limits</summary>
          <div class="grid">
            <label>
              Session
              <input name="session" autocomplete="off" defaultValue={run?.sessionId ?? ""} />
            </label>
            <label>
              User
              <input name="user" autocomplete="off" defaultValue={run?.userId ?? ""} />
            </label>
          </div>
          <label>
            Labels
            <input
              name="labels"
              autocomplete="off"
              placeholder="key=value, key=value"
              defaultValue={labels.join(", ")}
            />
          </label>
          <fieldset class="limits">
            <legend>Limits, if any</legend>
            <div class="grid five">
              {LIMITS.map(([name, word, step]) => (
                <label key={name}>
                  {word}
                  <input
                    type="number"
                    name={name}
                    min="0"
                    step={step}
                    inputMode="decimal"
                    defaultValue={limitOf(run, name)}
                  />
                </label>
              ))}
            </div>
          </fieldset>
        </details>
        {refused.value && (
          <p class="refused" role="alert">
            {refused.value}
          </p>
        )}
        {command.value && (
          <Copy text={command.value}>
            <code>{command.value}</code>
          </Copy>
        )}
        <div class="actions">
          <button
            type="button"
            onClick={({ currentTarget: { form } }) => {
              if (form) command.value = startCommand(specOf(form));
            }}
          >
            As a command
          </button>
          <button type="submit" class="primary" disabled={busy.value}>
            Start
          </button>
        </div>
      </form>
    </Dialog>
  );
}
