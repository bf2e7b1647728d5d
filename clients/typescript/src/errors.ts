/**
 * The errors that a caller can meet, and how they are read from a refused call. A run's own failure is
 * not here: it is the event `runFailed`, since a failed run is a normal answer.
 */
import { Code, ConnectError } from "@connectrpc/connect";
import { durationMs } from "@bufbuild/protobuf/wkt";

import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "./google/rpc/error_details_pb.js";
import { RunState } from "./v1/run_pb.js";

const DOMAIN = "pullcord";

const STATUS = {
  [Code.Canceled]: "CANCELLED",
  [Code.Unknown]: "UNKNOWN",
  [Code.InvalidArgument]: "INVALID_ARGUMENT",
  [Code.DeadlineExceeded]: "DEADLINE_EXCEEDED",
  [Code.NotFound]: "NOT_FOUND",
  [Code.AlreadyExists]: "ALREADY_EXISTS",
  [Code.PermissionDenied]: "PERMISSION_DENIED",
  [Code.ResourceExhausted]: "RESOURCE_EXHAUSTED",
  [Code.FailedPrecondition]: "FAILED_PRECONDITION",
  [Code.Aborted]: "ABORTED",
  [Code.OutOfRange]: "OUT_OF_RANGE",
  [Code.Unimplemented]: "UNIMPLEMENTED",
  [Code.Internal]: "INTERNAL",
  [Code.Unavailable]: "UNAVAILABLE",
  [Code.DataLoss]: "DATA_LOSS",
  [Code.Unauthenticated]: "UNAUTHENTICATED",
} as const satisfies Record<Code, string>;

/** The name of a gRPC status. */
export type StatusName = (typeof STATUS)[Code];

/** The root of every error of a call. */
export class PullcordError extends Error {
  override name = "PullcordError";

  constructor(
    /** The gRPC status. */
    readonly code: StatusName,
    message: string,
    /** The run that the call was about, where there is one. */
    readonly runId?: string,
  ) {
    super(message);
  }
}

/** One field of a request that is wrong. */
export interface Violation {
  /** The field's path in the request, such as `spec.limits.timeout`; empty: the whole of it. */
  readonly field: string;
  /** What is wrong, and what would be right. */
  readonly description: string;
}

/** The caller's mistake: `violations` names every wrong field. */
export class InvalidArgument extends PullcordError {
  override name = "InvalidArgument";

  constructor(
    message: string,
    readonly violations: readonly Violation[],
  ) {
    super("INVALID_ARGUMENT", message);
  }
}

/** No such run, or it has been forgotten. */
export class RunNotFound extends PullcordError {
  override name = "RunNotFound";

  constructor(
    message: string,
    override readonly runId: string,
  ) {
    super("NOT_FOUND", message, runId);
  }
}

/** Nothing of that name is on offer. */
export class RunnableNotFound extends PullcordError {
  override name = "RunnableNotFound";

  constructor(
    message: string,
    readonly runnable: string,
  ) {
    super("NOT_FOUND", message);
  }
}

/** The run's id belongs to a run with another spec. */
export class RunExists extends PullcordError {
  override name = "RunExists";

  constructor(
    message: string,
    override readonly runId: string,
  ) {
    super("ALREADY_EXISTS", message, runId);
  }
}

/** No room for another run. Try again after `retryAfterMs`. */
export class ServerBusy extends PullcordError {
  override name = "ServerBusy";

  constructor(
    message: string,
    readonly retryAfterMs: number,
  ) {
    super("RESOURCE_EXHAUSTED", message);
  }
}

/** The server is stopping. Try another, or again after `retryAfterMs`. */
export class Draining extends PullcordError {
  override name = "Draining";

  constructor(
    message: string,
    readonly retryAfterMs: number,
  ) {
    super("UNAVAILABLE", message);
  }
}

/** The shared store does not answer. Nothing was changed. */
export class StoreUnavailable extends PullcordError {
  override name = "StoreUnavailable";

  constructor(message: string) {
    super("UNAVAILABLE", message);
  }
}

/** The session is busy with the run `runId`, and the spec said to reject. */
export class SessionBusy extends PullcordError {
  override name = "SessionBusy";

  constructor(
    message: string,
    readonly sessionId: string,
    override readonly runId: string,
  ) {
    super("ABORTED", message, runId);
  }
}

/** A filter matches more runs than the caller allowed. Nothing was cancelled. */
export class TooManyAffected extends PullcordError {
  override name = "TooManyAffected";

  constructor(
    message: string,
    readonly matched: number,
    readonly allowed: number,
  ) {
    super("FAILED_PRECONDITION", message);
  }
}

/** The run does not wait for a decision. Nothing was changed. */
export class RunNotPaused extends PullcordError {
  override name = "RunNotPaused";

  constructor(
    message: string,
    override readonly runId: string,
    /** Where it is instead; UNSPECIFIED: in a state that this client does not know. */
    readonly state: RunState,
    /** Whether it has gone on by the same decisions, such as when a call is tried again. */
    readonly repeated: boolean,
  ) {
    super("FAILED_PRECONDITION", message, runId);
  }
}

/** The call carries no credential, or one that is not valid. */
export class Unauthenticated extends PullcordError {
  override name = "Unauthenticated";

  constructor(message: string) {
    super("UNAUTHENTICATED", message);
  }
}

/** The caller may see this, but not do it. Nothing was changed. */
export class PermissionDenied extends PullcordError {
  override name = "PermissionDenied";

  constructor(
    message: string,
    /** What was asked for, such as `cancel`. */
    readonly verb: string,
  ) {
    super("PERMISSION_DENIED", message);
  }
}

/** The caller, or its tenant, has its share. Try again after `retryAfterMs`. */
export class QuotaExceeded extends PullcordError {
  override name = "QuotaExceeded";

  constructor(
    message: string,
    /** The name of the quota. */
    readonly quota: string,
    readonly retryAfterMs: number,
  ) {
    super("RESOURCE_EXHAUSTED", message);
  }
}

/**
 * A stream's credential is not valid any more. The run goes on for its lease: watch it with a fresh one,
 * after the last event seen.
 */
export class CredentialExpired extends PullcordError {
  override name = "CredentialExpired";

  constructor(
    message: string,
    override readonly runId: string,
  ) {
    super("UNAUTHENTICATED", message, runId);
  }
}

/** The server's own fault, never the caller's and never the run's. Its log says more. */
export class ServerFault extends PullcordError {
  override name = "ServerFault";

  constructor(message: string) {
    super("INTERNAL", message);
  }
}

/** A call that failed on its way, or with words that this client does not know. */
export class CallFailed extends PullcordError {
  override name = "CallFailed";
}

/** The server cannot be reached. The run may be at work all the same: watch it, or ask again. */
export class ConnectionLost extends CallFailed {
  override name = "ConnectionLost";

  constructor(message: string, runId?: string) {
    super("UNAVAILABLE", message, runId);
  }
}

/** The caller's own time for the call was up. The run is stopped only where the call says so. */
export class DeadlineExceeded extends CallFailed {
  override name = "DeadlineExceeded";

  constructor(message: string, runId?: string) {
    super("DEADLINE_EXCEEDED", message, runId);
  }
}

/** What a refusal says of itself. */
interface Told {
  readonly words: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** The value that the reason promises under a name. */
  said(name: string): string;
  readonly violations: readonly Violation[];
  readonly retryAfterMs: number;
}

/** By the reason that travels: the name in ErrorReason without its prefix. */
const TABLE = new Map<string, (told: Told) => PullcordError>([
  ["INVALID_ARGUMENT", (told) => new InvalidArgument(told.words, told.violations)],
  ["RUN_NOT_FOUND", (told) => new RunNotFound(told.words, told.said("run_id"))],
  ["RUNNABLE_NOT_FOUND", (told) => new RunnableNotFound(told.words, told.said("runnable"))],
  ["RUN_EXISTS", (told) => new RunExists(told.words, told.said("run_id"))],
  ["SERVER_BUSY", (told) => new ServerBusy(told.words, told.retryAfterMs)],
  ["DRAINING", (told) => new Draining(told.words, told.retryAfterMs)],
  ["STORE_UNAVAILABLE", (told) => new StoreUnavailable(told.words)],
  [
    "SESSION_BUSY",
    (told) => new SessionBusy(told.words, told.said("session_id"), told.said("run_id")),
  ],
  [
    "TOO_MANY_AFFECTED",
    (told) =>
      new TooManyAffected(told.words, count(told.said("matched")), count(told.said("allowed"))),
  ],
  ["RUN_NOT_PAUSED", notPaused],
  ["UNAUTHENTICATED", (told) => new Unauthenticated(told.words)],
  ["PERMISSION_DENIED", (told) => new PermissionDenied(told.words, told.said("verb"))],
  [
    "QUOTA_EXCEEDED",
    (told) => new QuotaExceeded(told.words, told.said("quota"), told.retryAfterMs),
  ],
  ["CREDENTIAL_EXPIRED", (told) => new CredentialExpired(told.words, told.said("run_id"))],
  ["INTERNAL", (told) => new ServerFault(told.words)],
]);

/** A promised detail is missing: somebody newer tells it in another way. */
class Untold extends Error {}

/** The error that the server meant, or what is known of a call that failed without words. */
export function errorOf(reason: unknown, runId?: string): PullcordError {
  if (reason instanceof PullcordError) return reason;
  const error = ConnectError.from(reason);
  const made = heard(error) ?? unheard(error, runId);
  made.cause = error;
  return made;
}

function heard(error: ConnectError): PullcordError | undefined {
  const info = error.findDetails(ErrorInfoSchema).find(({ domain }) => domain === DOMAIN);
  const make = info && TABLE.get(info.reason);
  if (!make) return undefined;
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  try {
    return make({
      words: error.rawMessage,
      metadata: info.metadata,
      said(name) {
        const value = info.metadata[name];
        if (value === undefined) throw new Untold(name);
        return value;
      },
      violations: error
        .findDetails(BadRequestSchema)
        .flatMap((told) => told.fieldViolations)
        .map(({ field, description }) => ({ field, description })),
      retryAfterMs: delay ? durationMs(delay) : 1000,
    });
  } catch (failed) {
    if (failed instanceof Untold) return undefined;
    throw failed;
  }
}

function unheard(error: ConnectError, runId?: string): PullcordError {
  const words = error.rawMessage;
  if (error.code === Code.DeadlineExceeded) return new DeadlineExceeded(words, runId);
  if (error.code === Code.Unavailable || isBrokenLine(error)) {
    return new ConnectionLost(words, runId);
  }
  return new CallFailed(STATUS[error.code], words, runId);
}

const BROKEN = /http\/2 stream closed|missing status|missing output message|sentinel completed/;

/**
 * Whether the line ended the call and no server did. Connect says so in several codes, with the
 * words of HTTP/2 or with the cause: an error of Node's sockets, which has a `code`, or fetch's TypeError.
 */
function isBrokenLine(error: ConnectError): boolean {
  if (error.metadata.has("grpc-status")) return false; // a server's own words
  if (![Code.Canceled, Code.Unknown, Code.Aborted, Code.Internal].includes(error.code))
    return false;
  if (BROKEN.test(error.rawMessage)) return true;
  const seen = new Set<unknown>();
  for (let cause = error.cause; cause instanceof Error && !seen.has(cause); cause = cause.cause) {
    if (cause instanceof TypeError || ("code" in cause && typeof cause.code === "string"))
      return true;
    seen.add(cause);
  }
  return false;
}

/**
 * Whether no server has looked at the call, as when it closes an old line just then: it may be made
 * again, whatever it asks for.
 */
export function isUnseen(reason: unknown): boolean {
  return reason instanceof ConnectError && reason.rawMessage.includes("REFUSED_STREAM");
}

function count(digits: string): number {
  if (!/^\d+$/.test(digits)) throw new Untold(digits);
  return Number(digits);
}

/** By name; an enum of TypeScript also has the names by number. */
const STATES: Readonly<Record<string, RunState | string | undefined>> = RunState;

function notPaused(told: Told): RunNotPaused {
  const state = STATES[told.said("state")];
  return new RunNotPaused(
    told.words,
    told.said("run_id"),
    typeof state === "number" ? state : RunState.UNSPECIFIED,
    told.metadata["repeated"] === "true",
  );
}
