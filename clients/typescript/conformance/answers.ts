/**
 * What the conformance driver answers: it does what a line asks, through the public face of the client.
 * tests/conformance/README.md is its contract. It knows no scenario, and neither Node nor a browser.
 */
import {
  create,
  type DescMessage,
  fromBinary,
  type Message,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { base64Decode, base64Encode } from "@bufbuild/protobuf/wire";
import {
  CancelRunRequestSchema,
  CancelRunResponseSchema,
  CancelRunsRequestSchema,
  CancelRunsResponseSchema,
  ContinueRunRequestSchema,
  EraseRunsRequestSchema,
  EraseRunsResponseSchema,
  type InvalidArgument,
  ListRunsRequestSchema,
  type Pace,
  PullcordError,
  type RunClient,
  RunEventSchema,
  type RunnableNotFound,
  RunnableSchema,
  type RunNotPaused,
  RunSchema,
  RunSpecSchema,
  RunState,
  type RunStream,
  type ServerBusy,
  type SessionBusy,
  type TooManyAffected,
  VERSION,
  WatchRunsRequestSchema,
  type WatchRunsResponse,
  WatchRunsResponseSchema,
} from "pullcord";

interface Request {
  readonly op: string;
  readonly target?: string;
  readonly metadata?: Record<string, string>;
  readonly actor?: string;
  /** Seconds. */
  readonly keepalive?: number;
  /** Seconds. */
  readonly keepalive_timeout?: number;
  /** Seconds. */
  readonly reconnect_for?: number;
  readonly spec?: string;
  readonly request?: string;
  readonly run_id?: string;
  readonly tenant?: string;
  readonly owner?: string;
  readonly after_sequence?: number;
  readonly stream?: number;
  /** Seconds. */
  readonly timeout?: number;
}

type Answer = Record<string, unknown>;

/** A list of runs that is followed. */
type Changes = AsyncGenerator<WatchRunsResponse, undefined>;

/** Makes a client of the server at a target. */
export type Connect = (
  target: string,
  options: {
    metadata: Record<string, string> | undefined;
    actor: string | undefined;
    keepaliveMs: number | undefined;
    keepaliveTimeoutMs: number | undefined;
    pace: Partial<Pace>;
  },
) => RunClient;

export class Driver {
  readonly #connect: Connect;
  #made: RunClient | undefined;
  readonly #streams: (RunStream | Changes)[] = [];

  readonly #operations: Record<string, (request: Request) => Answer | Promise<Answer>> = {
    connect: ({ target = "", metadata, actor, keepalive, keepalive_timeout, reconnect_for }) => {
      const reconnectForMs = inMs(reconnect_for);
      this.close();
      this.#made = this.#connect(target, {
        metadata,
        actor,
        keepaliveMs: inMs(keepalive),
        keepaliveTimeoutMs: inMs(keepalive_timeout),
        pace: reconnectForMs === undefined ? {} : { reconnectForMs },
      });
      return { language: "typescript", version: VERSION };
    },
    run: ({ spec, timeout }) =>
      this.#follow(this.#client.run(read(RunSpecSchema, spec), { timeoutMs: inMs(timeout) })),
    watch: ({ run_id = "", after_sequence = 0, timeout, tenant, owner }) =>
      this.#follow(
        this.#client.watch(run_id, {
          tenant,
          owner,
          afterSequence: BigInt(after_sequence),
          timeoutMs: inMs(timeout),
        }),
      ),
    watch_runs: ({ request }) => {
      const changes = this.#client.watchRuns(read(WatchRunsRequestSchema, request));
      return { stream: this.#streams.push(changes) - 1 };
    },
    next: async (request) => {
      const { done, value: event } = await this.#stream(request).next();
      if (done) return { end: true };
      if ("position" in event) return message(WatchRunsResponseSchema, event);
      return { event: written(RunEventSchema, event), payload: snake(event.payload.case ?? "") };
    },
    drop: async (request) => {
      await this.#stream(request).return(undefined);
      return {};
    },
    start: async ({ spec }) =>
      message(RunSchema, await this.#client.start(read(RunSpecSchema, spec))),
    wait: async ({ run_id = "", timeout, tenant, owner }) =>
      message(
        RunSchema,
        await this.#client.wait(run_id, { timeoutMs: inMs(timeout), tenant, owner }),
      ),
    get: async ({ run_id = "", tenant, owner }) =>
      message(RunSchema, await this.#client.get(run_id, { tenant, owner })),
    list: async ({ request }) => {
      const messages: string[] = [];
      for await (const run of this.#client.list(read(ListRunsRequestSchema, request))) {
        messages.push(written(RunSchema, run));
      }
      return { messages };
    },
    cancel: async ({ request }) =>
      message(
        CancelRunResponseSchema,
        await this.#client.cancel(read(CancelRunRequestSchema, request)),
      ),
    cancel_many: async ({ request }) =>
      message(
        CancelRunsResponseSchema,
        create(CancelRunsResponseSchema, {
          results: await this.#client.cancelMany(read(CancelRunsRequestSchema, request)),
        }),
      ),
    continue_run: async ({ request }) =>
      message(RunSchema, await this.#client.continueRun(read(ContinueRunRequestSchema, request))),
    erase: async ({ request }) =>
      message(
        EraseRunsResponseSchema,
        await this.#client.erase(read(EraseRunsRequestSchema, request)),
      ),
    runnables: async () => {
      const offered = await this.#client.runnables();
      return { messages: offered.map((one) => written(RunnableSchema, one)) };
    },
  };

  constructor(connect: Connect) {
    this.#connect = connect;
  }

  /** Does what one line asks; the line that answers it. */
  async answer(line: string): Promise<string> {
    return JSON.stringify(await this.#do(line));
  }

  close(): void {
    this.#made?.close();
  }

  get #client(): RunClient {
    if (!this.#made) throw new TypeError("the first op is connect");
    return this.#made;
  }

  async #do(line: string): Promise<Answer> {
    try {
      const request = JSON.parse(line) as Request;
      const operation = this.#operations[request.op];
      if (!operation) throw new TypeError(`there is no op ${request.op}`);
      return await operation(request);
    } catch (error) {
      return { error: told(error) };
    }
  }

  #follow(stream: RunStream): Answer {
    return { stream: this.#streams.push(stream) - 1, run_id: stream.runId };
  }

  #stream({ stream = -1 }: Request): RunStream | Changes {
    const found = this.#streams[stream];
    if (!found) throw new TypeError(`there is no stream ${String(stream)}`);
    return found;
  }
}

function read<Desc extends DescMessage>(schema: Desc, text = ""): MessageShape<Desc> {
  return fromBinary(schema, base64Decode(text));
}

function written<Desc extends DescMessage>(
  schema: Desc,
  made: MessageShape<Desc> & Message,
): string {
  return base64Encode(toBinary(schema, made));
}

function message<Desc extends DescMessage>(schema: Desc, made: MessageShape<Desc>): Answer {
  return { message: written(schema, made) };
}

function inMs(seconds: number | undefined): number | undefined {
  return seconds === undefined ? undefined : seconds * 1000;
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** What some of the errors have. */
type Fields = Partial<
  Pick<ServerBusy, "retryAfterMs"> &
    Pick<InvalidArgument, "violations"> &
    Pick<RunnableNotFound, "runnable"> &
    Pick<SessionBusy, "sessionId"> &
    Pick<RunNotPaused, "state"> &
    Pick<TooManyAffected, "matched" | "allowed">
>;

/** An error as the contract spells it; `undefined` is left out by JSON. */
function told(error: unknown): Answer {
  if (!(error instanceof PullcordError)) {
    return { kind: error instanceof Error ? error.name : "Error", message: String(error) };
  }
  const { name, code, message, runId, retryAfterMs, violations, runnable, sessionId, ...rest } =
    error as PullcordError & Fields;
  const { state, matched, allowed } = rest;
  return {
    kind: name,
    code,
    message,
    run_id: runId,
    retry_after: retryAfterMs === undefined ? undefined : retryAfterMs / 1000,
    violations,
    runnable,
    session_id: sessionId,
    state: state === undefined ? undefined : RunState[state],
    matched,
    allowed,
  };
}
