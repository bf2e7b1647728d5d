/** The Stop button for React: a hook that follows and stops a run, and two components that show it. */
import { createElement, type ReactElement, useMemo, useRef, useSyncExternalStore } from "react";

import { LABELS, type Labels } from "./button/labels.js";
import { isOver, type LiveOptions, LiveRun, type Shown, type Stop } from "./button/live.js";

export { type Labels, LABELS } from "./button/labels.js";
export type { Receipt, Shown, State, Stop } from "./button/live.js";

/** A run as it is now, and its stop. */
export interface Followed extends Shown {
  /** Stops it; it never throws. */
  readonly stop: (stop?: Stop) => Promise<void>;
}

/** Follows a run while the component is there. A token that is a function may change with each rendering. */
export function useRun(runId: string, { server, token }: LiveOptions = {}): Followed {
  const latest = useRef(token);
  latest.current = token;
  const fixed = typeof token === "function" ? undefined : token;
  const asks = typeof token === "function";
  const [run, subscribe, read, stop] = useMemo(() => {
    const ask = async (): Promise<string> => {
      const now = latest.current;
      return (typeof now === "function" ? await now() : now) ?? "";
    };
    const made = new LiveRun(runId, { server, token: asks ? ask : fixed });
    return [
      made,
      (listener: () => void) => made.listen(listener),
      () => made.shown,
      (how?: Stop) => made.stop(how),
    ] as const;
  }, [runId, server, fixed, asks]);
  const shown = useSyncExternalStore(subscribe, read, () => run.shown);
  return useMemo(() => ({ ...shown, stop }), [shown, stop]);
}

export interface StopButtonProps {
  readonly run: Followed;
  readonly reason?: string;
  readonly labels?: Partial<Labels>;
  readonly className?: string;
}

/** Stop, then Stop now, then nothing. */
export function StopButton({
  run,
  reason,
  labels,
  className,
}: StopButtonProps): ReactElement | null {
  const words = { ...LABELS, ...labels };
  if (isOver(run.state) || run.receipt?.now) return null;
  const now = run.state === "stopping";
  return createElement(
    "button",
    { type: "button", className, onClick: () => void run.stop({ now, reason }) },
    now ? words.stopNow : words.stop,
  );
}

export interface RunViewProps extends LiveOptions {
  readonly runId: string;
  readonly reason?: string;
  readonly labels?: Partial<Labels>;
  readonly className?: string;
}

/** A run's text, its Stop button, its state and the receipt. */
export function RunView(props: RunViewProps): ReactElement {
  const { runId, server, token, labels, className, ...button } = props;
  const run = useRun(runId, { server, token });
  const words = { ...LABELS, ...labels };
  const { state, text, receipt, error, lost, refused } = run;
  const note = refused || error || (lost ? words.lost : "");
  return createElement(
    "div",
    { className, "data-state": state },
    createElement("div", { "data-part": "text", style: { whiteSpace: "pre-wrap" } }, text),
    createElement(StopButton, { run, labels: words, ...button }),
    createElement("span", { "data-part": "state", role: "status" }, words[state]),
    receipt && createElement("span", { "data-part": "receipt" }, words.receipt(receipt)),
    note && createElement("span", { "data-part": "note" }, note),
  );
}
