/** The receipt: who stopped the run, why, and how long it took. */
import { CancelCause, RunState } from "pullcord";
import type { VNode } from "preact";

import { now } from "../clock.js";
import type { Seen } from "../opened.js";
import { keyOf } from "../place.js";
import { receipts } from "../runs.js";
import { agoOf, at, causeOf, clockOf, lengthOf, modeOf, stageOf, whoOf } from "../words.js";

export function Receipt(it: Seen): VNode | null {
  const { opened } = it;
  const { cancellation, state, endMs, stage, run } = opened;
  if (!cancellation) return null;
  const accepted = at(cancellation.acceptTime) ?? now.value;
  const stopped = state === RunState.CANCELLED;
  const delivered = at(receipts.value.get(keyOf(run))?.deliverTime);
  const asked = cancellation.cause === CancelCause.USER;
  const who = whoOf(cancellation.actor) || (asked ? "somebody" : "the server");
  const facts: [string, string | undefined][] = [
    ["Cause", causeOf(cancellation)],
    ["How", modeOf(cancellation)],
    ["Asked", clockOf(accepted)],
    ["Code told", delivered === undefined ? undefined : `${lengthOf(delivered - accepted)} later`],
    [
      stopped ? "Stopped" : "Ended",
      endMs === undefined ? undefined : `${lengthOf(endMs - accepted)} later`,
    ],
    ["It took", stopped && stage !== undefined ? stageOf(stage) : undefined],
    ["Says it is", cancellation.claimedActor],
    ["Killed", run.killedProcesses.join(", ")],
  ];
  return (
    <div class={stopped ? "receipt stopped" : "receipt"}>
      <p class="sum">
        <strong>{stopped ? "Stopped" : opened.ended ? "Stop asked" : "Stopping"}</strong> by{" "}
        <b>{who}</b>
        {cancellation.reason && <q>{cancellation.reason}</q>}
        <span class="took">
          {endMs === undefined
            ? `asked ${agoOf(now.value - accepted)} ago`
            : `took ${lengthOf(endMs - accepted)}`}
        </span>
      </p>
      <details>
        <summary>Receipt</summary>
        <dl>
          {facts.map(
            ([name, value]) =>
              value && (
                <div key={name}>
                  <dt>{name}</dt>
                  <dd>{value}</dd>
                </div>
              ),
          )}
        </dl>
      </details>
    </div>
  );
}
