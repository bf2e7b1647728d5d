/**
 * The events of one run, over as many connections as it takes. It calls and awaits; what a broken
 * stream does next is decided in `resume`.
 */
import { errorOf, type PullcordError } from "./errors.js";
import type { CancelInit, StopInit } from "./requests.js";
import type { Result, Resume } from "./resume.js";
import { pause, Tied } from "./signals.js";
import type { RunEvent } from "./v1/event_pb.js";
import type { Run, RunSpec } from "./v1/run_pb.js";
import type { CancelRunResponse } from "./v1/run_service_pb.js";

/** How long a call's status may take to follow the run's terminal event. */
const FAREWELL_MS = 1_000;

/** One message of either call that streams. */
interface Response {
  readonly event?: RunEvent | undefined;
}

/** What a stream needs of its client. */
export interface Line {
  /** Makes a connection's call: of Run while the run may not be known, else of WatchRun. */
  open(resume: Resume, spec: RunSpec | undefined, signal: AbortSignal): AsyncIterable<Response>;
  get(runId: string, options: { signal: AbortSignal }): Promise<Run>;
  cancel(request: CancelInit): Promise<CancelRunResponse>;
}

/**
 * The events of one run, in order, each once. It ends after the terminal event.
 *
 * Leaving it (`break`, `return`, an exception, the caller's signal) leaves the run to its disconnect
 * policy; `cancel` stops the run. The first call is made at once, also where nobody has asked for an
 * event yet.
 */
export class RunStream implements AsyncIterableIterator<RunEvent, undefined> {
  readonly runId: string;
  readonly #line: Line;
  readonly #resume: Resume;
  readonly #heartbeats: boolean;
  readonly #spec: RunSpec | undefined;
  readonly #call: Tied;
  readonly #events = this.#follow();
  #left = false;
  #responses: AsyncIterator<Response> | undefined;
  #pending: Promise<IteratorResult<Response>> | undefined;

  /** @internal */
  constructor(line: Line, resume: Resume, call: Tied, heartbeats = false, spec?: RunSpec) {
    this.runId = resume.runId;
    this.#line = line;
    this.#resume = resume;
    this.#heartbeats = heartbeats;
    this.#call = call;
    this.#spec = spec;
    this.#pending = this.#connect();
    this.#pending.catch(() => undefined); // the reader of the first event gets the error
  }

  /** What the run came to; undefined before its terminal event was seen. */
  get result(): Result | undefined {
    return this.#resume.result;
  }

  /** The number of the last event seen: what another watch can go on with. */
  get afterSequence(): bigint {
    return this.#resume.afterSequence;
  }

  /** Stops the run, also where it has not begun; its last events then come as usual. */
  async cancel(request: string | StopInit = {}): Promise<CancelRunResponse> {
    const asked = typeof request === "string" ? { reason: request } : request;
    return this.#line.cancel({ beforeStart: !this.#resume.begun, ...asked, runId: this.runId });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The next event. One call must be answered before the next is made. */
  next(): Promise<IteratorResult<RunEvent, undefined>> {
    return this.#events.next();
  }

  /** Leaves the stream; a reader that awaits its next event sees it end. */
  return(): Promise<IteratorResult<RunEvent, undefined>> {
    this.#leave();
    return this.#events.return(undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  async *#follow(): AsyncGenerator<RunEvent, undefined> {
    try {
      while (!this.#resume.ended && !this.#isOver()) {
        const event = await this.#receive();
        if (event) yield event;
      }
      if (this.#resume.ended) await this.#seeOut();
    } finally {
      this.#leave();
    }
    return undefined;
  }

  /** Whether the caller has left. Throws the reason of the caller's signal. */
  #isOver(): boolean {
    if (!this.#left) this.#call.signal.throwIfAborted();
    return this.#left;
  }

  /** The next event that is new to the caller; undefined where something else happened. */
  async #receive(): Promise<RunEvent | undefined> {
    const pending = this.#pending ?? this.#responses?.next() ?? this.#connect();
    this.#pending = undefined;
    let lost: PullcordError | undefined;
    try {
      const response = await pending;
      if (!response.done) return this.#show(response.value.event);
    } catch (reason) {
      lost = errorOf(reason, this.runId);
    }
    if (!this.#call.signal.aborted) await this.#recover(lost);
    return undefined;
  }

  #show(event: RunEvent | undefined): RunEvent | undefined {
    if (!event || !this.#resume.admit(event)) return undefined;
    return this.#heartbeats || event.payload.case !== "heartbeat" ? event : undefined;
  }

  // Async, so that a reader gets whatever it throws; it calls at once all the same.
  async #connect(): Promise<IteratorResult<Response>> {
    this.#call.signal.throwIfAborted();
    const responses = this.#line.open(this.#resume, this.#spec, this.#call.signal);
    this.#responses = responses[Symbol.asyncIterator]();
    return this.#responses.next();
  }

  /** Waits until it is time for the next connection. Throws what the caller is to see. */
  async #recover(lost: PullcordError | undefined): Promise<void> {
    this.#responses = undefined;
    const { signal } = this.#call;
    let error = lost;
    if (!error && this.#resume.begun) {
      try {
        this.#resume.learn(await this.#line.get(this.runId, { signal }));
      } catch (reason) {
        if (signal.aborted) return;
        error = errorOf(reason, this.runId);
      }
    }
    if (!this.#resume.ended) await pause(this.#resume.lost(error), signal);
  }

  /** Takes the call's status, which follows the terminal event at once, so that the call ends in peace. */
  async #seeOut(): Promise<void> {
    const timer = setTimeout(() => {
      this.#call.abort();
    }, FAREWELL_MS);
    try {
      await this.#responses?.next();
    } catch {
      // The run has ended, and with it whatever the call might have to say.
    } finally {
      clearTimeout(timer);
    }
  }

  #leave(): void {
    this.#left = true;
    this.#call.abort();
    // Connect lets go of the deadline's timer when it is asked again, and the timer keeps Node awake.
    this.#responses?.next().catch(() => undefined);
  }
}
