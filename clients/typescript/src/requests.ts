/** The shapes in which a caller may write what is asked for, and the options of the calls. */
import type { MessageInitShape } from "@bufbuild/protobuf";

import type { RunSpecSchema } from "./v1/run_pb.js";
import type {
  CancelRunRequest,
  CancelRunRequestSchema,
  CancelRunsRequestSchema,
  ContinueRunRequestSchema,
  CreateRunTokenRequestSchema,
  EraseRunsRequestSchema,
  ListRunsRequestSchema,
  WatchRunsRequestSchema,
} from "./v1/run_service_pb.js";

/** What a run is asked to be. Without a `runId` the client mints one. */
export type SpecInit = MessageInitShape<typeof RunSpecSchema>;
export type CancelInit = MessageInitShape<typeof CancelRunRequestSchema>;
/** How a run that is known already must be stopped. */
export type StopInit = Omit<Exclude<CancelInit, CancelRunRequest>, "runId">;
export type CancelManyInit = MessageInitShape<typeof CancelRunsRequestSchema>;
export type ContinueInit = MessageInitShape<typeof ContinueRunRequestSchema>;
/** Whose runs are erased; at least one field is needed. */
export type EraseInit = MessageInitShape<typeof EraseRunsRequestSchema>;
export type RunTokenInit = MessageInitShape<typeof CreateRunTokenRequestSchema>;
export type ListInit = MessageInitShape<typeof ListRunsRequestSchema>;
/** Which runs a list follows; `after` is the position of the last change that was seen. */
export type WatchRunsInit = MessageInitShape<typeof WatchRunsRequestSchema>;

export interface CallOptions {
  /** Ends the call, and never the run; the call then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Whose run is meant, where the caller may see the runs of several, and two may have the same id. */
export interface WhoseOptions {
  /** Undefined: the caller's own, else any that it may see. */
  readonly tenant?: string | undefined;
  /** Undefined: the caller, else any that it may see. */
  readonly owner?: string | undefined;
}

export interface GetOptions extends CallOptions, WhoseOptions {}

export interface TimeOptions extends CallOptions {
  /** From the call on, over all connections. Undefined: as long as it takes. */
  readonly timeoutMs?: number | undefined;
}

export interface WaitOptions extends TimeOptions, WhoseOptions {}

export interface FollowOptions extends TimeOptions {
  /** Whether heartbeats are shown, too. */
  readonly heartbeats?: boolean | undefined;
}

export interface WatchOptions extends FollowOptions, WhoseOptions {
  /** The number of the last event that was seen. Undefined: all events are shown. */
  readonly afterSequence?: bigint | undefined;
}
