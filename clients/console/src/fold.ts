/**
 * What the events of one run add up to: its text, its tree, its stop, what it asks. `fold` takes one event
 * and changes the view; nothing here calls, waits or draws.
 */
import {
  type Cancellation,
  type Run,
  type RunError,
  type RunEvent,
  RunState,
  SourceKind,
  type StopStage,
  type ToolCall,
  ToolCallState,
  type Usage,
} from "pullcord";

import { at, isTerminal, type Stand, standOf, toolStandOf } from "./words.js";

/** One line of the tree: a child run, a step or a tool call. */
export interface Branch {
  readonly key: string;
  readonly kind: "agent" | "team" | "workflow" | "step" | "tool";
  readonly name: string;
  /** The run that it is, for a child run; that it belongs to, for the others. */
  readonly runId: string;
  readonly depth: number;
  readonly start: number;
  stand: Stand;
  end: number | undefined;
  /** What it said, or a tool's result. */
  text: string;
  /** A tool's arguments. */
  given: string;
  error: string;
  readonly children: Branch[];
}

/** What a run waits for, of itself or of a child. */
export interface Question {
  readonly runId: string;
  readonly who: string;
  readonly words: string;
  readonly calls: ToolCall[];
}

/** Events that the log no longer had. */
export interface Hole {
  readonly first: bigint;
  readonly last: bigint;
}

const KEPT_EVENTS = 500;

export class View {
  run: Run;
  text: string;
  reasoning = "";
  usage: Usage | undefined;
  state: RunState;
  cancellation: Cancellation | undefined;
  stage: StopStage | undefined;
  error: RunError | undefined;
  endMs: number | undefined;
  /** How far the run's own code has come, by its own count. */
  progress: { readonly done: number; readonly total: number; readonly note: string } | undefined;
  sequence = 0n;
  readonly branches: Branch[] = [];
  readonly questions = new Map<string, Question>();
  readonly holes: Hole[] = [];
  /** The latest, the oldest first. */
  readonly events: RunEvent[] = [];
  readonly byPath = new Map<string, Branch>();
  readonly byId = new Map<string, Branch>();

  constructor(run: Run) {
    this.run = run;
    this.text = "";
    this.state = run.state;
    this.usage = run.usage;
    this.cancellation = run.cancellation;
    this.error = run.error;
    this.endMs = at(run.endTime);
  }

  get ended(): boolean {
    return isTerminal(this.state);
  }
}

/** Takes one event, in order. */
export function fold(view: View, event: RunEvent): void {
  const { payload, sequence } = event;
  if (payload.case !== "heartbeat" && payload.case !== "gap") view.sequence = sequence;
  keep(view, event);
  if (event.source) {
    foldBelow(view, event, event.source);
    return;
  }
  const time = at(event.createTime) ?? 0;
  switch (payload.case) {
    case "runStarted":
      if (view.state === RunState.PENDING) view.state = RunState.RUNNING;
      break;
    case "contentDelta":
      view.text += payload.value.text;
      break;
    case "reasoningDelta":
      view.reasoning += payload.value.text;
      break;
    case "progress":
      view.progress = payload.value;
      break;
    case "usageUpdated":
      view.usage = payload.value.usage;
      break;
    case "toolCallStarted":
    case "toolCallCompleted":
      if (payload.value.toolCall)
        tool(view, undefined, view.run.runId, payload.value.toolCall, time);
      break;
    case "stepStarted":
    case "stepCompleted":
      stepOf(view, undefined, event, payload.value);
      break;
    case "runPaused":
      view.state = RunState.PAUSED;
      ask(view, view.run.runId, "", payload.value.question, payload.value.toolCalls);
      break;
    case "runContinued":
      view.state = RunState.RUNNING;
      view.questions.delete(view.run.runId);
      break;
    case "cancelRequested":
      view.state = RunState.CANCELLING;
      view.cancellation = payload.value.cancellation;
      break;
    case "gap":
      view.holes.push({ first: payload.value.firstSequence, last: payload.value.lastSequence });
      break;
    case "snapshot":
      if (payload.value.run) settle(view, payload.value.run);
      break;
    case "runCompleted":
    case "runCancelled":
    case "runFailed":
      end(view, payload, time);
      break;
    default:
      break;
  }
}

type End = Extract<RunEvent["payload"], { case: "runCompleted" | "runCancelled" | "runFailed" }>;

const ENDS = {
  runCompleted: RunState.COMPLETED,
  runCancelled: RunState.CANCELLED,
  runFailed: RunState.FAILED,
} as const;

function end(view: View, payload: End, time: number): void {
  const { value } = payload;
  view.state = ENDS[payload.case];
  view.endMs = time;
  view.text = value.output;
  view.usage = value.usage ?? view.usage;
  view.questions.clear();
  if (payload.case === "runCancelled") view.stage = payload.value.stage;
  if ("cancellation" in value) view.cancellation = value.cancellation ?? view.cancellation;
  if ("error" in value) view.error = value.error;
  for (const call of value.toolCalls)
    tool(view, undefined, call.runId || view.run.runId, call, time);
  closeAll(view.branches, standOf(view.state), time);
}

/** What has not said its own end ended with the run that it is part of. */
function closeAll(branches: readonly Branch[], stand: Stand, time: number): void {
  for (const branch of branches) {
    closeAll(branch.children, stand, time);
    const waited = branch.kind === "tool" && branch.stand.key !== "running";
    if (branch.end === undefined) close(branch, waited ? branch.stand : stand, time);
  }
}

/** The run as a snapshot, or a look at it, says; its text replaces what there is. */
export function settle(view: View, run: Run): void {
  view.run = run;
  view.text = run.output;
  view.state = run.state;
  view.usage = run.usage ?? view.usage;
  view.cancellation = run.cancellation ?? view.cancellation;
  view.error = run.error;
  view.endMs = at(run.endTime);
  for (const call of run.toolCalls)
    tool(view, undefined, call.runId || run.runId, call, at(call.startTime) ?? 0);
  if (view.ended) closeAll(view.branches, standOf(view.state), view.endMs ?? 0);
  const waiting = run.toolCalls.filter(({ state }) => state === ToolCallState.WAITING);
  if (run.state === RunState.PAUSED && waiting.length && !view.questions.has(run.runId)) {
    ask(view, run.runId, "", "", waiting);
  }
}

function ask(view: View, runId: string, who: string, words: string, calls: ToolCall[]): void {
  view.questions.set(runId, { runId, who, words, calls });
}

function keep(view: View, event: RunEvent): void {
  if (event.payload.case === "heartbeat") return;
  view.events.push(event);
  if (view.events.length > KEPT_EVENTS * 2) view.events.splice(0, KEPT_EVENTS);
}

// --- the tree

type Source = NonNullable<RunEvent["source"]>;

const KINDS: Record<SourceKind, Branch["kind"]> = {
  [SourceKind.UNSPECIFIED]: "agent",
  [SourceKind.AGENT]: "agent",
  [SourceKind.TEAM]: "team",
  [SourceKind.WORKFLOW]: "workflow",
  [SourceKind.STEP]: "step",
};

function foldBelow(view: View, event: RunEvent, source: Source): void {
  const { payload } = event;
  const time = at(event.createTime) ?? 0;
  const step = source.kind === SourceKind.STEP;
  let branch = step ? view.byPath.get(pathOf(source)) : view.byId.get(source.runId);
  if (
    (payload.case === "stepStarted" || payload.case === "stepCompleted") &&
    !(step && source.id === payload.value.stepId)
  ) {
    stepOf(view, { source, branch: branch ?? grow(view, source, time) }, event, payload.value);
    return;
  }
  if (!branch || payload.case === "stepStarted") branch = grow(view, source, time);
  switch (payload.case) {
    case "contentDelta":
      branch.text += payload.value.text;
      break;
    case "toolCallStarted":
    case "toolCallCompleted":
      if (payload.value.toolCall) tool(view, branch, source.runId, payload.value.toolCall, time);
      break;
    case "runPaused":
      branch.stand = standOf(RunState.PAUSED);
      ask(view, source.runId, branch.name, payload.value.question, payload.value.toolCalls);
      break;
    case "runContinued":
      branch.stand = standOf(RunState.RUNNING);
      view.questions.delete(source.runId);
      break;
    case "cancelRequested":
      branch.stand = standOf(RunState.CANCELLING);
      break;
    case "stepCompleted":
      complete(branch, payload.value, time);
      break;
    case "runCompleted":
    case "runCancelled":
    case "runFailed":
      branch.text = payload.value.output;
      if (payload.case === "runFailed") branch.error = payload.value.error?.message ?? "";
      view.questions.delete(source.runId);
      closeAll(branch.children, standOf(ENDS[payload.case]), time);
      close(branch, standOf(ENDS[payload.case]), time);
      break;
    default:
      break;
  }
}

type Step = Extract<RunEvent["payload"], { case: "stepStarted" | "stepCompleted" }>["value"];

/** A step that has no source of its own: of this run, or within the branch that tells of it. */
function stepOf(
  view: View,
  within: { source: Source; branch: Branch } | undefined,
  event: RunEvent,
  step: Step,
): void {
  const time = at(event.createTime) ?? 0;
  const runId = within?.branch.runId ?? view.run.runId;
  const id = `step:${runId}:${step.stepId}`;
  let branch = view.byId.get(id);
  const again = event.payload.case === "stepStarted" && branch?.end !== undefined;
  if (!branch || again) {
    const name = step.name || step.stepId;
    const key = branch ? `${id}#${view.byId.size}#${view.sequence}` : id;
    branch = plant(view, within?.branch, { key, kind: "step", name, runId, start: time });
    view.byId.set(id, branch);
    const above = within?.source.path ?? view.run.runnable.split("/").slice(-1);
    view.byPath.set(pathOf({ path: [...above, name] }), branch);
  }
  if ("output" in step) complete(branch, step, time);
}

function complete(branch: Branch, step: Extract<Step, { output: string }>, time: number): void {
  branch.text = step.output;
  branch.error = step.error?.message ?? "";
  close(branch, standOf(step.state), time);
}

function pathOf({ path }: { path: string[] }): string {
  return path.join("/");
}

function grow(view: View, source: Source, time: number): Branch {
  const parent = view.byPath.get(pathOf({ path: source.path.slice(0, -1) }));
  const key =
    source.kind === SourceKind.STEP ? `${pathOf(source)}#${view.byId.size}` : source.runId;
  const branch = plant(view, parent, {
    key,
    kind: KINDS[source.kind],
    name: source.name || source.id,
    runId: source.runId,
    start: time,
  });
  view.byPath.set(pathOf(source), branch);
  return branch;
}

function plant(
  view: View,
  parent: Branch | undefined,
  made: Pick<Branch, "key" | "kind" | "name" | "runId" | "start">,
): Branch {
  const branch: Branch = {
    ...made,
    depth: parent ? parent.depth + 1 : 0,
    stand: standOf(RunState.RUNNING),
    end: undefined,
    text: "",
    given: "",
    error: "",
    children: [],
  };
  (parent?.children ?? view.branches).push(branch);
  view.byId.set(branch.key, branch);
  return branch;
}

function tool(
  view: View,
  parent: Branch | undefined,
  runId: string,
  call: ToolCall,
  time: number,
): void {
  const key = `tool:${runId}:${call.toolCallId}`;
  const branch =
    view.byId.get(key) ??
    plant(view, parent ?? view.byId.get(runId), {
      key,
      kind: "tool",
      name: call.toolName,
      runId,
      start: at(call.startTime) ?? time,
    });
  branch.given = call.arguments;
  branch.text = call.result;
  const stand = toolStandOf(call.state);
  if (stand.key === "running" || stand.key === "paused") branch.stand = stand;
  else close(branch, stand, at(call.endTime) ?? time);
}

function close(branch: Branch, stand: Stand, time: number): void {
  branch.stand = stand;
  branch.end ??= time;
}
