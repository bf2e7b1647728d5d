/**
 * RunClient: starts, follows, looks at and stops the runs of a server, over any Connect transport.
 * What belongs to Node alone is in `node`.
 */
import { clone, create } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import {
  type CallOptions as ConnectOptions,
  type Client,
  createClient,
  type Transport,
} from "@connectrpc/connect";

import { ACTOR_KEY, actorValue } from "./actor.js";
import { CallFailed, errorOf, isUnseen, type PullcordError } from "./errors.js";
import type {
  CallOptions,
  CancelInit,
  CancelManyInit,
  ContinueInit,
  EraseInit,
  FollowOptions,
  GetOptions,
  ListInit,
  RunTokenInit,
  SpecInit,
  WaitOptions,
  WatchOptions,
  WatchRunsInit,
  WhoseOptions,
} from "./requests.js";
import { DEFAULT_PACE, MAX_TIMEOUT_MS, type Pace, Resume } from "./resume.js";
import { pause, Tied } from "./signals.js";
import { type Line, RunStream } from "./stream.js";
import { type Run, type RunSpec, RunSpecSchema } from "./v1/run_pb.js";
import {
  CancelRunRequestSchema,
  type CancelRunResponse,
  type CancelRunsResult,
  type CreateRunTokenResponse,
  type EraseRunsResponse,
  type RunResponse,
  RunService,
  type WatchRunResponse,
  type WatchRunsResponse,
} from "./v1/run_service_pb.js";
import type { Runnable } from "./v1/runnable_pb.js";

/** How long a call may take which neither follows a run nor waits for one. */
export const CALL_TIMEOUT_MS = 30_000;

export interface ClientOptions {
  /** Goes with every call, such as `{ authorization: "Bearer …" }`. */
  readonly metadata?: Headers | Readonly<Record<string, string>> | undefined;
  /** Who asks, as receipts and events will say. Undefined: the server takes the caller's address. */
  readonly actor?: string | undefined;
  /** How a broken stream is taken up again. */
  readonly pace?: Partial<Pace> | undefined;
  /** Lets go of what carries the transport, when the client is closed. */
  readonly onClose?: (() => void) | undefined;
}

/** Every refusal is thrown as its class in `errors`; what has no class of its own is a CallFailed. */
export class RunClient {
  readonly #rpc: Client<typeof RunService>;
  readonly #headers: Headers;
  readonly #pace: Pace;
  readonly #onClose: (() => void) | undefined;
  readonly #closing = new AbortController();
  readonly #line = this.#lineOf({});

  constructor(transport: Transport, options: ClientOptions = {}) {
    this.#rpc = createClient(RunService, transport);
    this.#headers = new Headers(options.metadata);
    if (options.actor !== undefined) this.#headers.set(ACTOR_KEY, actorValue(options.actor));
    this.#pace = { ...DEFAULT_PACE, ...options.pace };
    this.#onClose = options.onClose;
  }

  /** Ends every stream and closes the line. Runs go on as their disconnect policy says. */
  close(): void {
    this.#closing.abort(new CallFailed("CANCELLED", "the client is closed"));
    this.#onClose?.();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  // --- starting and following

  /**
   * Starts a run and follows it. `timeoutMs` from now the run ends with cause DEADLINE, a little before
   * the call does.
   */
  run(spec: SpecInit, options: FollowOptions = {}): RunStream {
    const made = withId(spec);
    const { timeoutMs } = options;
    const resume = new Resume(made.runId, this.#pace, { starting: true, timeoutMs });
    return new RunStream(this.#line, resume, this.#tied(options), options.heartbeats, made);
  }

  /** Starts a run in the background. */
  async start(spec: SpecInit, options: CallOptions = {}): Promise<Run> {
    const made = withId(spec);
    const answer = this.#call(
      options,
      (rpc, call) => rpc.startRun({ spec: made }, call),
      made.runId,
    );
    return present((await answer).run);
  }

  /** Follows a run from any point to its end; `timeoutMs` from now the watching ends. */
  watch(runId: string, options: WatchOptions = {}): RunStream {
    const resume = new Resume(runId, this.#pace, options);
    const line = this.#lineOf(whoseOf(options));
    return new RunStream(line, resume, this.#tied(options), options.heartbeats);
  }

  /** The run once it has ended, or as it is after `timeoutMs`. */
  async wait(runId: string, options: WaitOptions = {}): Promise<Run> {
    const { timeoutMs } = options;
    const resume = new Resume(runId, this.#pace, { timeoutMs });
    const tied = this.#tied(options);
    const { signal } = tied;
    const named = { runId, ...whoseOf(options) };
    let left = timeoutMs === undefined ? undefined : Math.ceil(timeoutMs);
    try {
      for (;;) {
        try {
          return await this.#waitOnce(named, left, signal);
        } catch (reason) {
          signal.throwIfAborted();
          await pause(resume.lost(errorOf(reason, runId)), signal);
        }
        left = resume.opening();
      }
    } finally {
      tied.letGo();
    }
  }

  async #waitOnce(
    named: Whose & { runId: string },
    left: number | undefined,
    signal: AbortSignal,
  ): Promise<Run> {
    const { runId } = named;
    const request = left === undefined ? named : { ...named, timeout: durationFromMs(left) };
    const limit = left === undefined ? Infinity : left + CALL_TIMEOUT_MS;
    const answer = this.#call({ signal }, (rpc, call) => rpc.waitRun(request, call), runId, limit);
    return present((await answer).run);
  }

  // --- looking

  /** A run as it is now. */
  async get(runId: string, options: GetOptions = {}): Promise<Run> {
    const request = { runId, ...whoseOf(options) };
    const answer = this.#call(options, (rpc, call) => rpc.getRun(request, call), runId);
    return present((await answer).run);
  }

  /** All runs that match, the newest first, without input and output, page by page. */
  async *list(request: ListInit = {}, options: CallOptions = {}): AsyncGenerator<Run, undefined> {
    let pageToken = request.pageToken ?? "";
    do {
      const asked = { ...request, pageToken };
      const page = await this.#call(options, (rpc, call) => rpc.listRuns(asked, call));
      yield* page.runs;
      pageToken = page.nextPageToken;
    } while (pageToken);
    return undefined;
  }

  /**
   * Every live run that matches, and then each run that is new, changes or ends, without input and
   * output, over as many connections as it takes. It goes on until the loop is left or the signal
   * aborts. To go on later, ask `after` the `position` of the last change seen.
   */
  async *watchRuns(
    request: WatchRunsInit = {},
    options: CallOptions = {},
  ): AsyncGenerator<WatchRunsResponse, undefined> {
    const resume = new Resume("", this.#pace);
    const tied = this.#tied(options);
    const { signal } = tied;
    let after = request.after ?? "";
    try {
      for (;;) {
        signal.throwIfAborted();
        let lost: PullcordError | undefined;
        const call = this.#options(signal, resume.opening());
        try {
          for await (const change of this.#rpc.watchRuns({ ...request, after }, call)) {
            resume.progress();
            after = change.position;
            if (change.run || change.caughtUp || change.missed) yield change;
          }
        } catch (reason) {
          signal.throwIfAborted();
          lost = errorOf(reason);
        }
        await pause(resume.lost(lost), signal);
      }
    } finally {
      tied.abort(); // Connect does not end a call whose loop was left
    }
  }

  /** What can be run, in order of name. */
  async runnables(options: CallOptions = {}): Promise<Runnable[]> {
    return (await this.#call(options, (rpc, call) => rpc.listRunnables({}, call))).runnables;
  }

  // --- going on

  /**
   * Brings a paused run the decision on every call that waits; the run as it then is.
   *
   * @throws RunNotPaused where it does not wait, also because somebody else has decided.
   */
  async continueRun(request: ContinueInit, options: CallOptions = {}): Promise<Run> {
    const { runId } = request;
    const answer = this.#call(options, (rpc, call) => rpc.continueRun(request, call), runId);
    return present((await answer).run);
  }

  // --- stopping

  /** Stops a run. The answer waits for the stop where the request says so. */
  cancel(runId: string, reason?: string): Promise<CancelRunResponse>;
  cancel(request: CancelInit, options?: CallOptions): Promise<CancelRunResponse>;
  async cancel(
    run: string | CancelInit,
    more: string | CallOptions = {},
  ): Promise<CancelRunResponse> {
    const [reason, options] = typeof more === "string" ? [more, {}] : ["", more];
    const asked = typeof run === "string" ? { runId: run, reason } : run;
    const { wait, runId } = create(CancelRunRequestSchema, asked);
    const limit = CALL_TIMEOUT_MS + (wait ? durationMs(wait) : 0);
    return this.#call(options, (rpc, call) => rpc.cancelRun(asked, call), runId, limit);
  }

  /** Stops every live run that matches, by session, user, runnable and labels. */
  async cancelMany(
    request: CancelManyInit,
    options: CallOptions = {},
  ): Promise<CancelRunsResult[]> {
    return (await this.#call(options, (rpc, call) => rpc.cancelRuns(request, call))).results;
  }

  // --- erasing

  /**
   * Deletes for good what is kept of the ended runs that match, by user, session, tenant or owner. Live
   * runs stay, and are named. With `validateOnly` it only says what would be deleted.
   */
  async erase(request: EraseInit, options: CallOptions = {}): Promise<EraseRunsResponse> {
    return this.#call(options, (rpc, call) => rpc.eraseRuns(request, call));
  }

  // --- handing on

  /**
   * A short-lived token with which a web page may see one run, and stop it, and nothing else.
   * To be asked for by the page's own backend.
   */
  async createRunToken(
    request: RunTokenInit,
    options: CallOptions = {},
  ): Promise<CreateRunTokenResponse> {
    const { runId } = request;
    return this.#call(options, (rpc, call) => rpc.createRunToken(request, call), runId);
  }

  // --- calling

  async #call<T>(
    options: CallOptions,
    method: (rpc: Client<typeof RunService>, options: ConnectOptions) => Promise<T>,
    runId?: string,
    limitMs: number = CALL_TIMEOUT_MS,
  ): Promise<T> {
    const tied = this.#tied(options);
    const { signal } = tied;
    try {
      for (let again = true; ; again = false) {
        try {
          signal.throwIfAborted();
          return await method(this.#rpc, this.#options(signal, limitMs));
        } catch (reason) {
          signal.throwIfAborted();
          if (!again || !isUnseen(reason)) throw errorOf(reason, runId);
        }
      }
    } finally {
      tied.letGo();
    }
  }

  #lineOf(whose: Whose): Line {
    return {
      open: (resume, spec, signal) => this.#open(resume, spec, signal, whose),
      get: (runId, options) => this.get(runId, { ...options, ...whose }),
      cancel: (request) => this.cancel({ ...whose, ...request }),
    };
  }

  #open(
    resume: Resume,
    spec: RunSpec | undefined,
    signal: AbortSignal,
    whose: Whose,
  ): AsyncIterable<RunResponse | WatchRunResponse> {
    const options = this.#options(signal, resume.opening());
    if (spec && !resume.begun) return this.#rpc.run({ spec }, options);
    const { runId, afterSequence } = resume;
    return this.#rpc.watchRun({ runId, afterSequence, ...whose }, options);
  }

  #options(signal: AbortSignal, limitMs: number | undefined): ConnectOptions {
    const options = { headers: this.#headers, signal };
    if (limitMs === undefined || limitMs === Infinity) return options;
    return { ...options, timeoutMs: Math.min(Math.ceil(limitMs), MAX_TIMEOUT_MS) };
  }

  #tied({ signal }: CallOptions): Tied {
    return new Tied(signal, this.#closing.signal);
  }
}

/** What a request says of whose run is meant; a field that is not said is left out. */
type Whose = { [Key in keyof WhoseOptions]?: string };

function whoseOf({ tenant, owner }: WhoseOptions): Whose {
  return { ...(tenant !== undefined && { tenant }), ...(owner !== undefined && { owner }) };
}

/** The spec as it is sent: with an id of its own, so that a retry starts nothing twice. */
function withId(init: SpecInit): RunSpec {
  const spec = clone(RunSpecSchema, create(RunSpecSchema, init));
  spec.runId ||= crypto.randomUUID();
  return spec;
}

/** What a server always sends. */
function present(run: Run | undefined): Run {
  if (!run) throw new CallFailed("INTERNAL", "the server answered without the run");
  return run;
}
