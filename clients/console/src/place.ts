/**
 * Where the reader is: the filter and the open run, as the page's address says them, so that a view can
 * be sent to a colleague. The address is changed here and nowhere else.
 */
import { computed, signal } from "@preact/signals";
import { RunState } from "pullcord";

/** What the list shows, in one word. */
export type Which = "all" | "live" | "waiting" | "ended";

export interface Place {
  readonly which: Which;
  readonly runnable: string;
  readonly session: string;
  readonly user: string;
  /** As it is written: `key=value`, several parted by commas. */
  readonly label: string;
  /** Whether runs are listed that are part of another. */
  readonly children: boolean;
  /** The open run's id; empty: none is open. */
  readonly run: string;
  /** Whose run that is; empty: not said, as where the server knows no callers. */
  readonly tenant: string;
  readonly owner: string;
}

export const STATES: Record<Which, RunState[]> = {
  all: [],
  live: [RunState.PENDING, RunState.RUNNING, RunState.PAUSED, RunState.CANCELLING],
  waiting: [RunState.PAUSED],
  ended: [RunState.COMPLETED, RunState.CANCELLED, RunState.FAILED],
};

function read(search: string): Place {
  const said = new URLSearchParams(search);
  const which = said.get("state") ?? "";
  return {
    which: which in STATES ? (which as Which) : "all",
    runnable: said.get("runnable") ?? "",
    session: said.get("session") ?? "",
    user: said.get("user") ?? "",
    label: said.get("label") ?? "",
    children: said.has("children"),
    run: said.get("run") ?? "",
    tenant: said.get("tenant") ?? "",
    owner: said.get("owner") ?? "",
  };
}

export function written(place: Place): string {
  const said = new URLSearchParams();
  if (place.which !== "all") said.set("state", place.which);
  for (const key of ["runnable", "session", "user", "label"] as const) {
    if (place[key]) said.set(key, place[key]);
  }
  if (place.children) said.set("children", "");
  if (place.run) {
    for (const key of ["run", "tenant", "owner"] as const) {
      if (place[key]) said.set(key, place[key]);
    }
  }
  const text = said.toString().replace(/=(?=&|$)/g, "");
  return text ? `?${text}` : location.pathname;
}

export const place = signal(read(location.search));
/** The id of the open run alone, which changes less often. */
export const openId = computed(() => place.value.run);
/** The same with whose it is: two callers may have runs of one id. */
export const openKey = computed(() => keyOf(openIn(place.value)));

function openIn({ tenant, owner, run }: Place): Whose & { runId: string } {
  return { tenant, owner, runId: run };
}

/** Whether a run is the open one; where the address does not say whose that is, its id tells. */
export function isOpen(run: Whose & { runId: string }): boolean {
  const said = place.value;
  return openId.value === run.runId && (!said.owner || openKey.value === keyOf(run));
}

/** Whose a run is. */
export interface Whose {
  readonly tenant: string;
  readonly owner: string;
}

/** What tells one run from another, as the address does; where the server knows no callers it is the id. */
export function keyOf({ runId, ...whose }: Whose & { runId: string }): string {
  const { tenant, owner } = whoseOf(whose);
  return `${tenant}/${owner}/${runId}`;
}

/** Whose a run is, as the address says it. */
export function whoseOf({ tenant, owner }: Whose): Whose {
  const isNobodys = tenant === "default" && owner === "local";
  return isNobodys ? { tenant: "", owner: "" } : { tenant, owner };
}

/** The place where a run is open. */
export function openAt(run: Whose & { runId: string }): Pick<Place, "run" | "tenant" | "owner"> {
  return { run: run.runId, ...whoseOf(run) };
}

addEventListener("popstate", () => {
  place.value = read(location.search);
});

/** Goes to another place; what is not said stays. Typing replaces the address instead of adding one. */
export function go(change: Partial<Place>, { replace = false } = {}): void {
  const next = { ...place.peek(), ...change };
  const address = written(next);
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  place.value = next;
}

/** The labels that a text says; what is no `key=value` is left out. */
export function labelsOf(text: string): Record<string, string> {
  const pairs = text.split(",").map((pair) => pair.trim().split(/=(.*)/s));
  return Object.fromEntries(
    pairs.flatMap(([key, value]) => (key && value !== undefined ? [[key, value]] : [])),
  );
}

/** The filter as a request has it. */
export function filterOf({ runnable, session, user, label }: Place): {
  runnable: string;
  sessionId: string;
  userId: string;
  labels: Record<string, string>;
} {
  return { runnable, sessionId: session, userId: user, labels: labelsOf(label) };
}

/** What tells one filter from another. */
export function filterKey({ which, runnable, session, user, label, children }: Place): string {
  return JSON.stringify([which, runnable, session, user, label, children]);
}

export function isFiltered({ runnable, session, user, label }: Place): boolean {
  return Boolean(runnable || session || user || Object.keys(labelsOf(label)).length);
}
