/** How much of each limit is used: bars that fill. */
import type { VNode } from "preact";
import { durationMs } from "@bufbuild/protobuf/wkt";

import { now } from "../clock.js";
import type { View } from "../fold.js";
import type { Seen } from "../opened.js";
import { at, lengthOf } from "../words.js";

interface Bar {
  readonly name: string;
  readonly used: number;
  readonly most: number;
  readonly words: (amount: number) => string;
}

function barsOf({ run, usage, endMs }: View): Bar[] {
  const limits = run.limits;
  if (!limits) return [];
  const plain = (amount: number): string => amount.toLocaleString("en-US");
  const began = at(run.startTime) ?? at(run.createTime) ?? now.value;
  const all: Bar[] = [
    {
      name: "Time",
      used: (endMs ?? now.value) - began,
      most: limits.timeout ? durationMs(limits.timeout) : 0,
      words: lengthOf,
    },
    {
      name: "Tokens",
      used: Number(usage?.totalTokens ?? 0n),
      most: Number(limits.maxTokens),
      words: plain,
    },
    {
      name: "Cost",
      used: usage?.cost ?? 0,
      most: limits.maxCost,
      words: (cost) => `$${cost.toFixed(cost < 0.1 ? 4 : 2)}`,
    },
    { name: "Steps", used: usage?.steps ?? 0, most: limits.maxSteps, words: plain },
    { name: "Tool calls", used: usage?.toolCalls ?? 0, most: limits.maxToolCalls, words: plain },
  ];
  return all.filter(({ most }) => most > 0);
}

/** How far the run has come, by its own count. */
function Progress({ opened }: Seen): VNode | null {
  const { progress, ended } = opened;
  if (!progress || ended) return null;
  const { done, total, note } = progress;
  return (
    <label class="progress">
      <span>
        {note || "Progress"} <small>{total ? `${done} of ${total}` : String(done)}</small>
      </span>
      {total > 0 && <progress max={total} value={Math.min(done, total)} />}
    </label>
  );
}

export function Bars(it: Seen): VNode | null {
  const { opened } = it;
  const bars = barsOf(opened);
  if (!bars.length && !opened.progress) return null;
  return (
    <div class="bars">
      <Progress {...it} />
      {bars.map(({ name, used, most, words }) => (
        <label key={name}>
          <span>
            {name} <small>{`${words(Math.max(0, used))} of ${words(most)}`}</small>
          </span>
          <meter min={0} max={most} high={most * 0.8} value={Math.min(Math.max(0, used), most)} />
        </label>
      ))}
    </div>
  );
}
