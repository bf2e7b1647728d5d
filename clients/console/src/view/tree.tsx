/** The run's children, steps and tool calls, each with its state, its time on a common scale, and its output. */
import type { VNode } from "preact";

import { now } from "../clock.js";
import type { Branch } from "../fold.js";
import type { Seen } from "../opened.js";
import { at, lengthOf } from "../words.js";
import { Copy, State } from "./parts.js";

export function Tree(it: Seen): VNode | null {
  const { opened } = it;
  if (!opened.branches.length) return null;
  const { run, endMs } = opened;
  const from = at(run.startTime) ?? at(run.createTime) ?? now.value;
  const to = Math.max(endMs ?? now.value, from + 1);
  return (
    <section class="tree" aria-label="Steps">
      <h2>Steps</h2>
      <ul>
        {opened.branches.map((branch) => (
          <Line key={branch.key} branch={branch} depth={0} from={from} to={to} beat={it.beat} />
        ))}
      </ul>
    </section>
  );
}

interface Props {
  readonly branch: Branch;
  readonly depth: number;
  readonly from: number;
  readonly to: number;
  /** A branch is one object, which changes; this says when it has. */
  readonly beat: number;
}

/** The one run that a step consists of, where both have the same name: one line shows both. */
function innerOf({ kind, name, children: [child, ...others] }: Branch): Branch | undefined {
  const isSame =
    kind === "step" &&
    child &&
    child.kind !== "tool" &&
    child.kind !== "step" &&
    slug(child.name) === slug(name);
  return isSame && !others.length ? child : undefined;
}

/** A name as ids are made of it: "Print paper" is `print-paper`, and `print_paper` is the same. */
function slug(name: string): string {
  return name.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-");
}

function Line({ branch, depth, from, to, beat }: Props): VNode {
  const { name, kind, stand, start, end, given } = branch;
  const inner = innerOf(branch);
  const { children, runId } = inner ?? branch;
  const text = branch.text || inner?.text;
  const error = branch.error || inner?.error;
  const stop = end ?? Math.max(to, start);
  const percent = (time: number): number =>
    Math.min(100, Math.max(0, ((time - from) / (to - from)) * 100));
  const left = percent(start);
  const width = Math.max(0.6, percent(stop) - left);
  return (
    <li>
      <details class="branch">
        <summary>
          <span class="label" style={{ "padding-left": `${depth * 18}px` }}>
            <span class="kind">{kind}</span>
            <span class="name">{name}</span>
          </span>
          <State stand={stand} />
          <span class="scale" aria-hidden="true">
            <span
              class={`mark ${stand.key}`}
              style={{ left: `${Math.min(left, 99.4)}%`, width: `${width}%` }}
            />
          </span>
          <span class="time">{lengthOf(stop - start)}</span>
        </summary>
        <div class="inside">
          {error && <p class="refused">{error}</p>}
          {given && (
            <pre class="plain" tabIndex={0} aria-label="Arguments">
              {pretty(given)}
            </pre>
          )}
          {text ? (
            <pre class="plain" tabIndex={0} aria-label="Output">
              {text}
            </pre>
          ) : (
            !error && <p class="hint">No output.</p>
          )}
          {(inner ?? (kind !== "step" && kind !== "tool")) && <Copy text={runId}>{runId}</Copy>}
        </div>
      </details>
      {children.length > 0 && (
        <ul>
          {children.map((child) => (
            <Line
              key={child.key}
              branch={child}
              depth={depth + 1}
              from={from}
              to={to}
              beat={beat}
            />
          ))}
        </ul>
      )}
    </li>
  );
}

/** JSON with line breaks; what is none stays as it is. */
export function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
