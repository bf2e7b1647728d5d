/** What the children and steps of a run say, while the run itself has said nothing yet. */
import type { VNode } from "preact";

import type { Branch } from "../fold.js";

/** So many characters of each are shown, the last ones: the steps have them all. */
const SHOWN = 20_000;

/** Who has spoken, each once: of a step and the run that it consists of, the run. */
export function voicesOf(branches: readonly Branch[]): readonly Branch[] {
  return branches.flatMap((branch) => {
    if (branch.kind === "tool") return [];
    const within = voicesOf(branch.children);
    if (within.length) return within;
    return branch.text ? [branch] : [];
  });
}

export function Voices({ speaking }: { speaking: readonly Branch[] }): VNode {
  return (
    <>
      {speaking.map(({ key, name, text }) => (
        <section class="voice" key={key} aria-label={name}>
          <h2>{name}</h2>
          <p>{text.slice(-SHOWN)}</p>
        </section>
      ))}
    </>
  );
}
