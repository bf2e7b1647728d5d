/**
 * One run as a page shows it: its text, its state, its stop. It follows the run over all breaks of the
 * line, and stops it, with `fetch` and nothing else; what is drawn is `element`'s and `react`'s business.
 */
import { messages } from "./sse.js";

export type State =
  "pending" | "running" | "paused" | "stopping" | "completed" | "stopped" | "failed";

/** Who stopped a run, why, and how long it took. */
export interface Receipt {
  /** The caller who asked; empty: the server decided. */
  readonly who: string;
  /** In their own words; empty: they gave none. */
  readonly why: string;
  /** `USER`, `DEADLINE`, `BUDGET`, … */
  readonly cause: string;
  /** Whether it had to stop at once, tools too. */
  readonly now: boolean;
  /** From the request to the stop; undefined: it has not stopped. */
  readonly tookMs: number | undefined;
}

/** A run at one moment; it is replaced, and never changed. */
export interface Shown {
  readonly state: State;
  readonly text: string;
  readonly receipt: Receipt | undefined;
  /** Why it failed; empty: it did not. */
  readonly error: string;
  /** Whether the line is away. It comes back by itself. */
  readonly lost: boolean;
  /** Why the run cannot be shown or stopped, in the server's words; empty: it can. */
  readonly refused: string;
}

export interface LiveOptions {
  /** The server's origin. Undefined: that of the page. */
  readonly server?: string | undefined;
  /** The token for this run, or what fetches a new one from your backend. Undefined: the origin's cookies. */
  readonly token?: string | (() => string | Promise<string>) | undefined;
}

export interface Stop {
  /** At once, tools too. */
  readonly now?: boolean | undefined;
  /** In the reader's own words. */
  readonly reason?: string | undefined;
}

const NOTHING: Shown = {
  state: "pending",
  text: "",
  receipt: undefined,
  error: "",
  lost: false,
  refused: "",
};
const STATES: Record<string, State> = {
  PENDING: "pending",
  RUNNING: "running",
  PAUSED: "paused",
  CANCELLING: "stopping",
  COMPLETED: "completed",
  CANCELLED: "stopped",
  FAILED: "failed",
};
const FIRST_WAIT_MS = 300;
const LONGEST_WAIT_MS = 5_000;
/** A stop that is not answered by then has this stream let go of its connection. */
const ROOM_MS = 150;

/** Why a stream was left by us: nobody listens, or a stop needs its connection. */
const LEFT = "left";

/** Whether nothing more will come. */
export function isOver(state: State): boolean {
  return state === "completed" || state === "stopped" || state === "failed";
}

/** Follows a run from when somebody listens until nobody does, or it has ended. */
export class LiveRun {
  readonly #base: string;
  readonly #token: LiveOptions["token"];
  readonly #listeners = new Set<() => void>();
  #shown = NOTHING;
  #sequence = "0";
  #following = false;
  #call: AbortController | undefined;

  constructor(runId: string, { server = "", token }: LiveOptions = {}) {
    this.#base = `${server.replace(/\/$/, "")}/v1/runs/${encodeURIComponent(runId)}`;
    this.#token = token;
  }

  get shown(): Shown {
    return this.#shown;
  }

  /** Calls with every change; the answer ends that. The first listener begins the following. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    if (!this.#following) void this.#follow();
    return () => {
      this.#listeners.delete(listener);
      if (!this.#listeners.size) this.#call?.abort(LEFT);
    };
  }

  /** Stops the run. It never throws: `shown` says what came of it. */
  async stop({ now = false, reason = "" }: Stop = {}): Promise<void> {
    const before = this.#shown.state;
    if (isOver(before)) return;
    this.#show({ state: "stopping", refused: "" });
    const room = setTimeout(() => {
      this.#call?.abort(LEFT);
    }, ROOM_MS);
    try {
      const mode = now ? "CANCEL_MODE_IMMEDIATE" : "CANCEL_MODE_GRACEFUL";
      const answer = await this.#fetch("/cancel", {
        method: "POST",
        body: JSON.stringify({ mode, reason }),
        keepalive: true,
      });
      if (!answer.ok) throw new Error(await wordsOf(answer));
      const { run, stopTime } = (await answer.json()) as Said;
      if (run?.cancellation && !isOver(this.#shown.state)) {
        this.#show({ receipt: receiptOf(run.cancellation, stopTime) });
      }
    } catch (reason) {
      const state =
        this.#shown.state === "stopping" && !this.#shown.receipt ? before : this.#shown.state;
      this.#show({ state, refused: reason instanceof Error ? reason.message : String(reason) });
    } finally {
      clearTimeout(room);
    }
  }

  async #follow(): Promise<void> {
    this.#following = true;
    let wait = FIRST_WAIT_MS;
    while (this.#listeners.size && !isOver(this.#shown.state)) {
      const before = this.#sequence;
      try {
        if (await this.#read()) break;
      } catch {
        // It comes back.
      }
      if (!this.#listeners.size || isOver(this.#shown.state)) break;
      wait = before === this.#sequence ? Math.min(wait * 2, LONGEST_WAIT_MS) : FIRST_WAIT_MS;
      if (this.#call?.signal.reason !== LEFT) this.#show({ lost: true });
      const pause = wait;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
    this.#following = false;
  }

  /** Reads one answer; whether there is no use in another. */
  async #read(): Promise<boolean> {
    const call = new AbortController();
    this.#call = call;
    const answer = await this.#fetch(`/events?after_sequence=${this.#sequence}`, {
      signal: call.signal,
    });
    if (answer.status === 204) return true;
    if (!answer.ok || !answer.body) {
      const words = await wordsOf(answer);
      // A token that has run out is asked for anew, where somebody can be asked.
      const passes =
        answer.status >= 500 ||
        answer.status === 429 ||
        (answer.status === 401 && typeof this.#token === "function");
      if (!passes) this.#show({ refused: words, lost: false });
      return !passes;
    }
    this.#show({ lost: false });
    const silent = (): void => {
      call.abort();
    };
    for await (const event of messages(answer.body, silent)) this.#take(event as Event);
    return false;
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    const token = typeof this.#token === "function" ? await this.#token() : this.#token;
    return fetch(this.#base + path, {
      ...init,
      ...(token && { headers: { authorization: `Bearer ${token}` } }),
    });
  }

  #take(event: Event): void {
    if (event.sequence && !event.gap) this.#sequence = event.sequence;
    if (event.source) return; // of a child: the run's own text is what it hands on
    const { contentDelta, cancelRequested, snapshot } = event;
    const end = event.runCompleted ?? event.runCancelled ?? event.runFailed;
    if (contentDelta) {
      this.#show({ text: this.#shown.text + contentDelta.text });
    } else if (end) {
      this.#show({
        state: event.runCompleted ? "completed" : event.runCancelled ? "stopped" : "failed",
        text: end.output ?? "",
        error: end.error?.message ?? "",
        receipt: end.cancellation && receiptOf(end.cancellation, event.createTime),
        lost: false,
        refused: "",
      });
    } else if (snapshot) {
      const { run } = snapshot;
      this.#show({ text: run.output ?? "", state: stateOf(run.state) });
    } else if (cancelRequested) {
      this.#show({ state: "stopping", receipt: receiptOf(cancelRequested.cancellation) });
    } else if (event.runPaused) {
      this.#show({ state: "paused" });
    } else if (event.runStarted ?? event.runContinued) {
      this.#show({ state: "running" });
    }
  }

  #show(change: Partial<Shown>): void {
    this.#shown = { ...this.#shown, ...change };
    for (const listener of [...this.#listeners]) listener();
  }
}

// --- what a server sends, as far as it is read here

interface Cancellation {
  readonly cause?: string;
  readonly actor?: string;
  readonly reason?: string;
  readonly mode?: string;
  readonly acceptTime?: string;
}

interface Said {
  readonly stopTime?: string;
  readonly run?: { readonly cancellation?: Cancellation };
}

interface End {
  readonly output?: string;
  readonly cancellation?: Cancellation;
  readonly error?: { readonly message?: string };
}

interface Event {
  readonly sequence?: string;
  readonly createTime?: string;
  readonly source?: unknown;
  readonly gap?: unknown;
  readonly runStarted?: unknown;
  readonly runContinued?: unknown;
  readonly runPaused?: unknown;
  readonly contentDelta?: { readonly text: string };
  readonly cancelRequested?: { readonly cancellation: Cancellation };
  readonly snapshot?: { readonly run: { readonly output?: string; readonly state?: string } };
  readonly runCompleted?: End;
  readonly runCancelled?: End;
  readonly runFailed?: End;
}

function stateOf(name = ""): State {
  return STATES[name.replace("RUN_STATE_", "")] ?? "running";
}

function receiptOf(said: Cancellation, stopTime?: string): Receipt {
  const { cause = "", actor = "", reason = "", mode, acceptTime } = said;
  const took = stopTime && acceptTime ? Date.parse(stopTime) - Date.parse(acceptTime) : undefined;
  return {
    who: /^ipv[46]:(\[.*\]|[^:]*)/.exec(actor)?.[1] ?? actor,
    why: reason,
    cause: cause.replace("CANCEL_CAUSE_", ""),
    now: mode === "CANCEL_MODE_IMMEDIATE",
    tookMs: took === undefined ? undefined : Math.max(0, took),
  };
}

async function wordsOf(answer: Response): Promise<string> {
  try {
    return String(((await answer.json()) as { detail?: unknown }).detail);
  } catch {
    return `the server answered ${String(answer.status)}`;
  }
}
