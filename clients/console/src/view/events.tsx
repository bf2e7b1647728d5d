/** The events as they came, each with its JSON: for those who write a client, or doubt this page. */
import { toJson } from "@bufbuild/protobuf";
import { signal } from "@preact/signals";
import { type RunEvent, RunEventSchema } from "pullcord";
import type { VNode } from "preact";

import type { Seen } from "../opened.js";
import { at, clockOf } from "../words.js";
import { Copy } from "./parts.js";

const shown = signal(false);
const chosen = signal<RunEvent | undefined>(undefined);
const AT_MOST = 200;

export function Events(it: Seen): VNode {
  const { opened } = it;
  const { events } = opened;
  const latest = events.slice(-AT_MOST);
  return (
    <details
      class="part events"
      open={shown.value}
      onToggle={({ currentTarget }) => (shown.value = currentTarget.open)}
    >
      <summary>Events: {String(opened.sequence)}</summary>
      {shown.value && (
        <ol>
          {events.length > latest.length && <li class="hint">The latest {AT_MOST}:</li>}
          {latest.map((event, index) => (
            <li key={`${event.sequence}-${index}`}>
              <button
                type="button"
                aria-expanded={chosen.value === event}
                onClick={() => (chosen.value = chosen.value === event ? undefined : event)}
              >
                <span class="number">{String(event.sequence)}</span>
                <span class="what">{snake(event.payload.case ?? "unknown")}</span>
                <span class="who">{event.source?.path.slice(1).join(" / ")}</span>
                <span class="when">{clockOf(at(event.createTime) ?? 0)}</span>
              </button>
              {chosen.value === event && <Raw event={event} />}
            </li>
          ))}
        </ol>
      )}
    </details>
  );
}

function Raw({ event }: { event: RunEvent }): VNode {
  const json = JSON.stringify(toJson(RunEventSchema, event), null, 2);
  return (
    <div class="raw">
      <Copy text={json}>Copy</Copy>
      <pre class="plain" tabIndex={0}>
        {json}
      </pre>
    </div>
  );
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
