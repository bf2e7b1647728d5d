/** What the run says: it follows the end, unless one scrolls up. Text is added, never drawn anew. */
import { signal } from "@preact/signals";
import type { VNode } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";

import type { View } from "../fold.js";
import type { Seen } from "../opened.js";
import { many } from "../words.js";
import { Voices, voicesOf } from "./voices.js";

const atEnd = signal(true);
/** Pixels from the end within which one still follows. */
const NEAR = 24;

export function Output(it: Seen): VNode {
  const { opened } = it;
  const box = useRef<HTMLDivElement>(null);
  const said = useRef<HTMLDivElement>(null);
  const shown = useRef<{ view: View; text: string }>(undefined);
  useLayoutEffect(() => {
    const { current: node } = said;
    if (!node) return;
    const last = shown.current;
    if (last?.view === opened && opened.text.startsWith(last.text)) {
      append(node, opened.text.slice(last.text.length));
    } else {
      node.textContent = opened.text;
      if (last?.view !== opened) atEnd.value = true;
    }
    shown.current = { view: opened, text: opened.text };
    if (atEnd.peek()) toEnd(box.current);
  });
  const speaking = opened.text ? [] : voicesOf(opened.branches);
  return (
    <section class="output" aria-label="Output">
      {opened.holes.map(({ first, last }) => (
        <p class="gap" key={String(first)}>
          {first === last
            ? `Event ${first} is no longer kept.`
            : `Events ${first} to ${last} are no longer kept.`}{" "}
          The text is whole.
        </p>
      ))}
      {opened.reasoning && (
        <details class="part reasoning">
          <summary>Reasoning, {many(opened.reasoning.length, "character")}</summary>
          <pre class="plain" tabIndex={0}>
            {opened.reasoning}
          </pre>
        </details>
      )}
      <div
        class="said"
        ref={box}
        tabIndex={0}
        role="region"
        aria-label="What the run said"
        onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
          atEnd.value = scrollHeight - scrollTop - clientHeight < NEAR;
        }}
      >
        <div class="words" ref={said} />
        <Voices speaking={speaking} />
        {!opened.text && !speaking.length && (
          <p class="hint">{opened.ended ? "It said nothing." : "Nothing yet."}</p>
        )}
      </div>
      {!atEnd.value && (
        <button
          type="button"
          class="to-end"
          onClick={() => {
            atEnd.value = true;
            toEnd(box.current);
          }}
        >
          To the end ↓
        </button>
      )}
    </section>
  );
}

function append(node: HTMLElement, more: string): void {
  if (!more) return;
  const { lastChild } = node;
  if (lastChild instanceof Text) lastChild.appendData(more);
  else node.append(more);
}

function toEnd(box: HTMLElement | null): void {
  if (box) box.scrollTop = box.scrollHeight;
}
