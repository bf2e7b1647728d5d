/** The open run: its head with the Stop button and the receipt, then what it asks, says and did. */
import type { VNode } from "preact";

import { now } from "../clock.js";
import { followCommand, stopCommand } from "../curl.js";
import { type Seen, seen, trouble, way } from "../opened.js";
import { go, openId, place, written } from "../place.js";
import { line } from "../api.js";
import { stopRefused } from "../runs.js";
import {
  agoOf,
  at,
  clockOf,
  costOf,
  durationOf,
  isTerminal,
  lengthOf,
  ownerOf,
  short,
  standOf,
  tokensOf,
} from "../words.js";
import { Bars } from "./bars.js";
import { Events } from "./events.js";
import { Copy, State } from "./parts.js";
import { Questions } from "./questions.js";
import { Receipt } from "./receipt.js";
import { showStart } from "./start.js";
import { StopButton } from "./stop.js";
import { Output } from "./text.js";
import { Tree } from "./tree.js";

export function OpenRun(): VNode {
  const it = seen();
  if (!openId.value) {
    return (
      <section class="run none" aria-label="Run">
        <p>
          Choose a run to follow it, or start one. A live run has a Stop button in the list and at
          the top of its page.
        </p>
      </section>
    );
  }
  if (!it) {
    return (
      <section class="run none" aria-label="Run">
        <Back />
        <p role="status">{trouble.value || "Looking for the run…"}</p>
      </section>
    );
  }
  const { opened } = it;
  return (
    <section class="run" aria-label={`Run ${opened.run.runId}`}>
      <Head {...it} />
      <div class="body">
        <Questions {...it} />
        {opened.error && (
          <div class="failure" role="alert">
            <strong>{opened.error.type || "Failed"}</strong>
            <p>{opened.error.message}</p>
          </div>
        )}
        <Output {...it} />
        <Tree {...it} />
        <Given {...it} />
        <Events {...it} />
        <Commands {...it} />
      </div>
    </section>
  );
}

function Back(): VNode {
  return (
    <button type="button" class="back" onClick={() => go({ run: "" })}>
      <span aria-hidden="true">‹</span> Runs
    </button>
  );
}

function Head(it: Seen): VNode {
  const { opened } = it;
  const { run, state } = opened;
  return (
    <header class="head">
      <div class="what">
        <Back />
        <h1>{run.runnable}</h1>
        <State stand={standOf(state)} />
        <Elapsed {...it} />
        <Reached {...it} />
      </div>
      <Facts {...it} />
      <Bars {...it} />
      <Receipt {...it} />
      <Cord {...it} />
    </header>
  );
}

/** The one place of the Stop button: in the head, and on a phone under the thumb. */
function Cord(it: Seen): VNode {
  const { opened } = it;
  const { run, state, cancellation } = opened;
  const said = (): string =>
    document.querySelector<HTMLInputElement>("#reason")?.value.trim() ?? "";
  return (
    <div class="pull">
      {stopRefused.value && (
        <p class="refused" role="alert">
          Not stopped: {stopRefused.value}
        </p>
      )}
      {isTerminal(state) ? (
        <button type="button" onClick={() => showStart(run)}>
          Run again…
        </button>
      ) : (
        <>
          {!cancellation && (
            <input
              id="reason"
              key={run.runId}
              aria-label="Reason for the stop"
              placeholder="Reason, if you like"
              maxLength={1024}
              autocomplete="off"
            />
          )}
          <StopButton run={run} state={state} cancellation={cancellation} reason={said} />
        </>
      )}
    </div>
  );
}

function Elapsed(it: Seen): VNode {
  const { opened } = it;
  const { run, state, endMs } = opened;
  const began = at(run.startTime) ?? at(run.createTime) ?? now.value;
  if (endMs !== undefined) return <span class="age">{lengthOf(endMs - began)}</span>;
  return <span class="age">{isTerminal(state) ? "" : agoOf(durationOf(run, now.value))}</span>;
}

/** Says that the line is lost, or that this tab does not follow all the time. */
function Reached(it: Seen): VNode | null {
  const { opened } = it;
  if (trouble.value) {
    return (
      <span class="reached lost" role="status">
        {trouble.value}
      </span>
    );
  }
  if (opened.ended) return null;
  if (line.value === "lost") {
    return (
      <span class="reached lost" role="status">
        Connection lost, coming back. Nothing will be missed.
      </span>
    );
  }
  if (way.value === "looks") {
    return <span class="reached">Updated now and then: other tabs are followed live.</span>;
  }
  return null;
}

function Facts(it: Seen): VNode {
  const { opened } = it;
  const { run, usage } = opened;
  const created = at(run.createTime);
  const labels = Object.entries(run.labels);
  return (
    <p class="facts">
      <Copy text={run.runId}>{run.runId}</Copy>
      {run.sessionId && (
        <a
          href={written({ ...place.value, session: run.sessionId })}
          onClick={link({ session: run.sessionId })}
        >
          session {run.sessionId}
        </a>
      )}
      {run.userId && <span>for {run.userId}</span>}
      {ownerOf(run) && <span>of {ownerOf(run)}</span>}
      {run.parentRunId && (
        <a
          href={written({ ...place.value, run: run.parentRunId })}
          onClick={link({ run: run.parentRunId })}
        >
          part of {short(run.parentRunId)}
        </a>
      )}
      {created !== undefined && <span>started {clockOf(created)}</span>}
      {tokensOf(usage) && <span>{tokensOf(usage)}</span>}
      {costOf(usage) && <span>{costOf(usage)}</span>}
      {labels.map(([key, value]) => (
        <span class="label" key={key}>
          {key}={value}
        </span>
      ))}
    </p>
  );
}

function link(change: Parameters<typeof go>[0]): (event: MouseEvent) => void {
  return (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(change);
  };
}

function Given(it: Seen): VNode | null {
  const { opened } = it;
  const { input, parts } = opened.run;
  if (!input && !parts.length) return null;
  return (
    <details class="part">
      <summary>Input</summary>
      <pre class="plain" tabIndex={0}>
        {input}
        {parts.map(({ name, mediaType }) => `\n[${name || "a file"}, ${mediaType}]`)}
      </pre>
    </details>
  );
}

function Commands(it: Seen): VNode {
  const { opened } = it;
  const { runId } = opened.run;
  return (
    <details class="part">
      <summary>As commands</summary>
      <div class="commands">
        {[followCommand(runId), stopCommand(runId)].map((command) => (
          <Copy key={command} text={command}>
            <code>{command}</code>
          </Copy>
        ))}
      </div>
    </details>
  );
}
