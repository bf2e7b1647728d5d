/**
 * What a stream that broke does next: which events are new, when to come back, when to give up.
 * Nothing here calls a server, waits, or reads a clock of its own.
 */
import {
  CallFailed,
  ConnectionLost,
  CredentialExpired,
  DeadlineExceeded,
  Draining,
  type PullcordError,
  ServerBusy,
  StoreUnavailable,
} from "./errors.js";
import type { RunEvent } from "./v1/event_pb.js";
import { type Run, RunState } from "./v1/run_pb.js";

/** How a broken stream is taken up again. */
export interface Pace {
  /** Without progress for so long, the client gives up. 0: it never reconnects. */
  readonly reconnectForMs: number;
  /** The longest wait after the first break; it doubles with each further one. */
  readonly firstDelayMs: number;
  /** The longest wait of all. */
  readonly maxDelayMs: number;
  /** The time in milliseconds, from anywhere. */
  readonly clock: () => number;
  /** From 0 to 1: waits are between half their length and all of it, so that clients part ways. */
  readonly random: () => number;
}

/** The pace of a client that says nothing else. */
export const DEFAULT_PACE: Pace = {
  reconnectForMs: 60_000,
  firstDelayMs: 100,
  maxDelayMs: 5_000,
  clock: () => performance.now(),
  random: Math.random,
};

/** What a run came to: the payload of its terminal event. */
export type Result = Extract<
  RunEvent["payload"],
  { case: "runCompleted" | "runCancelled" | "runFailed" }
>;

/** The longest deadline that gRPC can carry in milliseconds: a little under 28 hours. */
export const MAX_TIMEOUT_MS = 99_999_999;

const MAX_DOUBLINGS = 32;

/**
 * One stream's place in its run, over as many connections as it takes.
 *
 * 1. An event is shown once: what is numbered at most `afterSequence` was seen.
 * 2. A gap alone does not move the place. The snapshot behind it does, so that a line that breaks
 *    between the two loses neither.
 * 3. A break costs patience, a new event restores it. So does a connection that said something and
 *    lived for `maxDelayMs`, since a run may be silent for longer than that.
 */
export class Resume {
  /** The number of the last event seen: what to come back with. */
  afterSequence: bigint;
  /** Whether the server is known to have the run; else it must be asked for again. */
  begun: boolean;
  /** The terminal event's payload, once it was seen. */
  result: Result | undefined;
  /** Whether nothing more will come. */
  ended = false;

  readonly #pace: Pace;
  readonly #deadline: number | undefined;
  #opened: number;
  #heard = false;
  #lostAt: number | undefined;
  #attempts = 0;

  constructor(
    readonly runId: string,
    pace: Pace,
    options: {
      afterSequence?: bigint | undefined;
      starting?: boolean;
      timeoutMs?: number | undefined;
    } = {},
  ) {
    const { afterSequence = 0n, starting = false, timeoutMs } = options;
    if (timeoutMs !== undefined && !(timeoutMs >= 0 && timeoutMs <= MAX_TIMEOUT_MS)) {
      throw new RangeError(`timeoutMs must be from 0 to ${String(MAX_TIMEOUT_MS)}`);
    }
    this.afterSequence = afterSequence;
    this.begun = !starting;
    this.#pace = pace;
    this.#opened = pace.clock();
    this.#deadline = timeoutMs === undefined ? undefined : this.#opened + timeoutMs;
  }

  /**
   * A connection is about to be made; the milliseconds it may take (undefined: any).
   *
   * @throws DeadlineExceeded where none are left.
   */
  opening(): number | undefined {
    const now = this.#pace.clock();
    this.#opened = now;
    this.#heard = false;
    if (this.#deadline === undefined) return undefined;
    if (now >= this.#deadline) {
      throw new DeadlineExceeded("the call's time was up before the stream was", this.runId);
    }
    return Math.ceil(this.#deadline - now); // gRPC takes whole ones
  }

  /** Takes note of an event that came; whether it is new to the caller. */
  admit(event: RunEvent): boolean {
    this.#heard = this.begun = true;
    const { payload, sequence } = event;
    if (payload.case === "heartbeat") return true;
    if (payload.case === "gap") return payload.value.lastSequence > this.afterSequence;
    const place = this.afterSequence;
    const known = payload.case === "snapshot" ? sequence < place : sequence <= place;
    if (known) return false;
    this.afterSequence = sequence;
    this.#bePatientAgain();
    // With a source it is the end of a run beneath.
    if (!event.source && isResult(payload)) {
      this.result = payload;
      this.ended = true;
    }
    return payload.case !== undefined; // of a newer server: its number counts, and nobody could read it
  }

  /** Takes note that something came which is no event of a run. */
  progress(): void {
    this.#heard = true;
    this.#bePatientAgain();
  }

  /**
   * Takes note of how the run stands, after a stream that ended in peace but without an end. That is
   * no break where the caller had seen the terminal event before.
   */
  learn(run: Run): void {
    if (isTerminal(run.state) && run.lastSequence <= this.afterSequence) this.ended = true;
  }

  /**
   * The connection has ended before the run did; the milliseconds to wait before the next one.
   *
   * @param error Undefined where it ended in peace.
   * @throws What the caller is to see, where coming back is of no use or patience is at its end.
   */
  lost(error?: PullcordError): number {
    if (error && !this.#mayPass(error)) throw error;
    const { clock, random, reconnectForMs, firstDelayMs, maxDelayMs } = this.#pace;
    const now = clock();
    if (this.#heard && now - this.#opened >= maxDelayMs) this.#bePatientAgain();
    this.#lostAt ??= now;
    let left = this.#lostAt + reconnectForMs - now;
    if (left <= 0) throw this.#lastWords(error);
    const longest = Math.min(maxDelayMs, firstDelayMs * 2 ** this.#attempts);
    this.#attempts = Math.min(this.#attempts + 1, MAX_DOUBLINGS);
    let delay = (longest * (1 + random())) / 2;
    if (error instanceof ServerBusy || error instanceof Draining) {
      delay = Math.max(delay, error.retryAfterMs);
    }
    if (this.#deadline !== undefined) left = Math.min(left, Math.max(0, this.#deadline - now));
    return Math.min(delay, left);
  }

  #bePatientAgain(): void {
    this.#lostAt = undefined;
    this.#attempts = 0;
  }

  #mayPass(error: PullcordError): boolean {
    // Said to a new run it is an answer; said to a watcher of a known run it is a delay.
    if (isDelay(error)) return this.begun;
    // A bare CANCELLED that is not ours comes from a server or proxy that shed the call.
    const shed = error instanceof CallFailed && error.code === "CANCELLED";
    return shed || error instanceof ConnectionLost;
  }

  #lastWords(error?: PullcordError): PullcordError {
    if (error && (error instanceof ConnectionLost || isDelay(error))) return error;
    return new ConnectionLost(error?.message ?? "the stream ended before the run did", this.runId);
  }
}

function isDelay(error: PullcordError): boolean {
  return (
    error instanceof CredentialExpired || // the next connection has the token of that time
    error instanceof Draining ||
    error instanceof ServerBusy ||
    error instanceof StoreUnavailable
  );
}

function isResult(payload: RunEvent["payload"]): payload is Result {
  const kind = payload.case;
  return kind === "runCompleted" || kind === "runCancelled" || kind === "runFailed";
}

function isTerminal(state: RunState): boolean {
  return state >= RunState.COMPLETED && state <= RunState.FAILED;
}
