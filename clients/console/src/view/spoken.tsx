/** What a screen reader is told by itself: how the open run stands. The text that flows is not: it would stammer. */
import type { VNode } from "preact";

import { seen } from "../opened.js";
import { stopRefused } from "../runs.js";
import { lengthOf, standOf, at } from "../words.js";

export function Spoken(): VNode {
  return (
    <div class="unseen" aria-live="polite" id="spoken">
      {words()}
    </div>
  );
}

function words(): string {
  const opened = seen()?.opened;
  if (stopRefused.value) return `Not stopped: ${stopRefused.value}`;
  if (!opened) return "";
  const { word } = standOf(opened.state);
  const accepted = at(opened.cancellation?.acceptTime);
  const took =
    accepted !== undefined && opened.endMs !== undefined ? opened.endMs - accepted : undefined;
  return `${opened.run.runnable}: ${word}${took === undefined ? "" : ` after ${lengthOf(took)}`}`;
}
