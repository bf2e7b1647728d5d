/** The list of runs: its filter, its rows, and what is newer than they are. */
import type { Run } from "pullcord";
import type { TargetedMouseEvent, VNode } from "preact";

import { now } from "../clock.js";
import { go, isFiltered, isOpen, keyOf, openAt, place, type Which, written } from "../place.js";
import {
  cursor,
  held,
  letGo,
  listed,
  more,
  newer,
  offered,
  refused,
  rows,
  showMore,
} from "../runs.js";
import {
  agoOf,
  at,
  costOf,
  durationOf,
  isTerminal,
  lengthOf,
  many,
  ownerOf,
  short,
  standOf,
  tokensOf,
} from "../words.js";
import { State } from "./parts.js";
import { showStart } from "./start.js";
import { StopButton } from "./stop.js";

export function List(): VNode {
  return (
    <section class="list" aria-labelledby="list-title">
      <h1 id="list-title" class="unseen">
        Runs
      </h1>
      <Filter />
      <div
        class="rows"
        tabIndex={rows.value.length ? -1 : undefined}
        onPointerEnter={({ pointerType }) => {
          if (pointerType === "mouse") held.value = true;
        }}
        onPointerLeave={({ currentTarget }) => {
          if (currentTarget.scrollTop < 8) letGo();
        }}
        onScroll={({ currentTarget }) => {
          held.value = currentTarget.scrollTop >= 8 || currentTarget.matches(":hover");
        }}
      >
        {refused.value && (
          <p class="refused" role="alert">
            {refused.value}
          </p>
        )}
        {listed.value && !rows.value.length && !refused.value && <Nothing />}
        <ul>
          {rows.value.map((run) => (
            <Row key={keyOf(run)} run={run} />
          ))}
        </ul>
        {more.value && (
          <button type="button" class="more" onClick={showMore}>
            Older runs
          </button>
        )}
      </div>
    </section>
  );
}

function Nothing(): VNode {
  const asked = place.value;
  if (asked.which !== "all" || isFiltered(asked)) {
    return (
      <div class="nothing">
        <p>No run matches this filter.</p>
        <button type="button" onClick={() => go(EMPTY)}>
          Show all runs
        </button>
      </div>
    );
  }
  return (
    <div class="nothing">
      <p>Nothing has run yet.</p>
      <button type="button" onClick={() => showStart()}>
        Start a run
      </button>
    </div>
  );
}

const EMPTY = { which: "all", runnable: "", session: "", user: "", label: "" } as const;

function Row({ run }: { run: Run }): VNode {
  const chosen = isOpen(run);
  const open = (event: TargetedMouseEvent<HTMLAnchorElement>): void => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(openAt(run));
  };
  const details = [
    run.sessionId && `session ${run.sessionId}`,
    run.userId && `for ${run.userId}`,
    ownerOf(run) && `of ${ownerOf(run)}`,
    tokensOf(run.usage),
    costOf(run.usage),
    run.parentRunId && `part of ${short(run.parentRunId)}`,
    short(run.runId),
  ].filter(Boolean);
  return (
    <li class={chosen ? "row chosen" : "row"} data-run={run.runId}>
      <a
        href={written({ ...place.value, ...openAt(run) })}
        aria-current={chosen ? "true" : undefined}
        onClick={open}
        onFocus={() => (cursor.value = keyOf(run))}
      >
        <span class="top">
          <State stand={standOf(run.state)} />
          <Age run={run} />
        </span>
        <span class="name">{run.runnable}</span>
        <span class="details">{details.join(" · ")}</span>
      </a>
      {!isTerminal(run.state) && (
        <span class="cord">
          <StopButton run={run} state={run.state} cancellation={run.cancellation} />
        </span>
      )}
    </li>
  );
}

function Age({ run }: { run: Run }): VNode {
  if (!isTerminal(run.state)) {
    return <span class="age">{agoOf(durationOf(run, now.value))}</span>;
  }
  const ended = at(run.endTime) ?? now.value;
  return (
    <span class="age">
      {lengthOf(durationOf(run, now.value))}, {agoOf(now.value - ended)} ago
    </span>
  );
}

// --- the filter

const WHICH: readonly [Which, string][] = [
  ["all", "All"],
  ["live", "Live"],
  ["waiting", "Waiting"],
  ["ended", "Ended"],
];

const FIELDS = [
  ["runnable", "Runnable", "agents/…"],
  ["session", "Session", "any"],
  ["user", "User", "any"],
  ["label", "Labels", "key=value"],
] as const;

function Filter(): VNode {
  const asked = place.value;
  return (
    <form
      class="filter"
      role="search"
      aria-label="Filter runs"
      onSubmit={(event) => event.preventDefault()}
    >
      <div class="which" role="group" aria-label="State">
        {WHICH.map(([which, word]) => (
          <button
            type="button"
            key={which}
            aria-pressed={asked.which === which}
            onClick={() => go({ which })}
          >
            {word}
          </button>
        ))}
      </div>
      <details class="fields" open={isFiltered(asked) || undefined}>
        <summary>Filter{isFiltered(asked) ? " is on" : ""}</summary>
        <div class="grid">
          {FIELDS.map(([name, word, hint]) => (
            <label key={name}>
              {word}
              <input
                name={name}
                value={asked[name]}
                placeholder={hint}
                autocomplete="off"
                spellcheck={false}
                list={name === "runnable" ? "offered" : undefined}
                onInput={({ currentTarget }) =>
                  go({ [name]: currentTarget.value.trim() }, { replace: true })
                }
              />
            </label>
          ))}
          <label class="check">
            <input
              type="checkbox"
              checked={asked.children}
              onChange={({ currentTarget }) => go({ children: currentTarget.checked })}
            />
            Also runs that are part of another
          </label>
        </div>
      </details>
      {newer.value > 0 && (
        <button type="button" class="newer" onClick={letGo}>
          {many(newer.value, "newer run")}
        </button>
      )}
      <datalist id="offered">
        {offered.value.map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
    </form>
  );
}
