/** How the console says things: states, causes, times, amounts. Nothing here knows a page or a server. */
import { timestampMs } from "@bufbuild/protobuf/wkt";
import {
  CancelCause,
  CancelMode,
  type Cancellation,
  type Run,
  RunState,
  StopStage,
  ToolCallState,
  type Usage,
} from "pullcord";

type Timestamp = Parameters<typeof timestampMs>[0];

/** Where a run, step or tool call stands: a key for the style, and the word for people. */
export interface Stand {
  readonly key:
    "pending" | "running" | "paused" | "stopping" | "completed" | "stopped" | "failed" | "unknown";
  readonly word: string;
}

const RUN: Record<RunState, Stand> = {
  [RunState.UNSPECIFIED]: { key: "unknown", word: "Unknown" },
  [RunState.PENDING]: { key: "pending", word: "Pending" },
  [RunState.RUNNING]: { key: "running", word: "Running" },
  [RunState.PAUSED]: { key: "paused", word: "Waiting for a decision" },
  [RunState.CANCELLING]: { key: "stopping", word: "Stopping" },
  [RunState.COMPLETED]: { key: "completed", word: "Completed" },
  [RunState.CANCELLED]: { key: "stopped", word: "Stopped" },
  [RunState.FAILED]: { key: "failed", word: "Failed" },
};

const TOOL: Record<ToolCallState, Stand> = {
  [ToolCallState.UNSPECIFIED]: { key: "unknown", word: "Unknown" },
  [ToolCallState.RUNNING]: { key: "running", word: "Running" },
  [ToolCallState.COMPLETED]: { key: "completed", word: "Completed" },
  [ToolCallState.FAILED]: { key: "failed", word: "Failed" },
  [ToolCallState.INTERRUPTED]: { key: "stopped", word: "Interrupted" },
  [ToolCallState.UNKNOWN]: { key: "stopped", word: "Unknown, may have taken effect" },
  [ToolCallState.WAITING]: { key: "paused", word: "Waiting for a decision" },
  [ToolCallState.APPROVED]: { key: "paused", word: "Approved, not begun" },
  [ToolCallState.DECLINED]: { key: "stopped", word: "Declined" },
};

export function standOf(state: RunState): Stand {
  return (RUN as Partial<Record<number, Stand>>)[state] ?? RUN[RunState.UNSPECIFIED];
}

export function toolStandOf(state: ToolCallState): Stand {
  return (TOOL as Partial<Record<number, Stand>>)[state] ?? TOOL[ToolCallState.UNSPECIFIED];
}

export function isTerminal(state: RunState): boolean {
  return state >= RunState.COMPLETED;
}

/** Whether a stop can still be asked for. */
export function canStop(state: RunState): boolean {
  return state < RunState.CANCELLING;
}

const CAUSES: Record<CancelCause, string> = {
  [CancelCause.UNSPECIFIED]: "",
  [CancelCause.USER]: "somebody asked",
  [CancelCause.DEADLINE]: "the caller's deadline was near",
  [CancelCause.BUDGET]: "a limit was reached",
  [CancelCause.DISCONNECT]: "its last watcher left",
  [CancelCause.PARENT]: "its parent was stopped",
  [CancelCause.SUPERSEDED]: "a newer run of its session took its place",
  [CancelCause.SHUTDOWN]: "its server was stopped",
  [CancelCause.LOST]: "its replica died",
};

/** Why, in words; the limit by its name. */
export function causeOf({ cause, limit }: Cancellation): string {
  const words = (CAUSES as Partial<Record<number, string>>)[cause] ?? "";
  return limit ? `${words}: ${limit.replaceAll("_", " ")}` : words;
}

export function modeOf({ mode }: Cancellation): string {
  return mode === CancelMode.IMMEDIATE ? "at once" : "gracefully";
}

const STAGES: Record<StopStage, string> = {
  [StopStage.UNSPECIFIED]: "its code had not begun",
  [StopStage.ASK]: "its code was asked, and stopped",
  [StopStage.INTERRUPT]: "its code was interrupted",
  [StopStage.KILL]: "its process was killed",
  [StopStage.ABANDON]: "its code did not stop in time, and was abandoned",
};

export function stageOf(stage: StopStage): string {
  return (STAGES as Partial<Record<number, string>>)[stage] ?? "";
}

/** Who, without the port that an address came from. */
export function whoOf(actor: string): string {
  return /^ipv[46]:(\[.*\]|[^:]*)(:\d+)?$/.exec(actor)?.[1] ?? actor;
}

/** Whose a run is; empty where the server knows no callers. */
export function ownerOf({ tenant, owner }: Run): string {
  if (!owner || (tenant === "default" && owner === "local")) return "";
  return tenant === "default" ? owner : `${tenant}/${owner}`;
}

// --- times

export function at(time: Timestamp | undefined): number | undefined {
  return time && timestampMs(time);
}

/** A length of time: `14 ms`, `3.2 s`, `2 m 05 s`, `3 h 12 m`, `4 d 1 h`. */
export function lengthOf(ms: number): string {
  if (ms < 999.5) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = ms / 1000;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (number: number): string => String(number).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${two(whole % 60)} s`;
  if (whole < 86_400)
    return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} m`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

/** The same for what runs on, without the digits that would flicker. */
export function agoOf(ms: number): string {
  return ms < 60_000 ? `${Math.max(0, Math.floor(ms / 1000))} s` : lengthOf(ms);
}

const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
  hourCycle: "h23",
});
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

/** The time of day, with the day where it is another. */
export function clockOf(ms: number): string {
  const day = DAY.format(ms);
  return day === DAY.format(Date.now()) ? CLOCK.format(ms) : `${day}, ${CLOCK.format(ms)}`;
}

/** How long a run has been at work, or was. */
export function durationOf(run: Run, now: number): number {
  const began = at(run.startTime) ?? at(run.createTime) ?? now;
  return (at(run.endTime) ?? now) - began;
}

// --- amounts

const WHOLE = new Intl.NumberFormat("en-US");

export function tokensOf(usage: Usage | undefined): string {
  const total = Number(usage?.totalTokens ?? 0n);
  return total ? `${usage?.estimated ? "about " : ""}${WHOLE.format(total)} tokens` : "";
}

export function costOf(usage: Usage | undefined): string {
  if (!usage) return "";
  if (usage.costUnknown && !usage.cost) return usage.totalTokens ? "cost unknown" : "";
  if (!usage.cost) return "";
  return `${usage.costUnknown ? "at least " : ""}$${usage.cost.toFixed(usage.cost < 0.1 ? 4 : 2)}`;
}

export function many(count: number, one: string, more = `${one}s`): string {
  return `${WHOLE.format(count)} ${count === 1 ? one : more}`;
}

/** An id's first characters, which tell it from its neighbours. */
export function short(id: string): string {
  return id.length > 12 ? id.slice(0, 8) : id;
}
