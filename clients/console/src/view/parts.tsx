/** Small parts that several views draw: a state, something to copy, a dialog. */
import { signal } from "@preact/signals";
import type { ComponentChildren, VNode } from "preact";
import { useEffect, useRef } from "preact/hooks";

import type { Stand } from "../words.js";

export function State({ stand }: { stand: Stand }): VNode {
  return (
    <span class={`state ${stand.key}`}>
      <span class="dot" aria-hidden="true" />
      {stand.word}
    </span>
  );
}

const copied = signal("");

/** A button that copies a text, and says so. */
export function Copy({ text, children }: { text: string; children: ComponentChildren }): VNode {
  const done = copied.value === text;
  return (
    <button
      type="button"
      class="copy"
      title="Copy"
      onClick={() => {
        void navigator.clipboard.writeText(text).then(() => (copied.value = text));
      }}
      onBlur={() => (copied.value = "")}
    >
      {children}
      <span class="did" role="status">
        {done ? "copied" : ""}
      </span>
    </button>
  );
}

interface DialogProps {
  readonly open: boolean;
  readonly title: string;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
}

/** A dialog of the browser's own: it keeps the focus, and Escape closes it. */
export function Dialog({ open, title, onClose, children }: DialogProps): VNode {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = ref.current;
    if (!dialog) return;
    if (open && !dialog.open) {
      dialog.showModal();
      dialog.querySelector<HTMLElement>("input, select, textarea")?.focus();
    }
    if (!open && dialog.open) dialog.close();
  }, [open]);
  return (
    <dialog ref={ref} aria-label={title} onClose={onClose}>
      {open && (
        <>
          <div class="title">
            <h2>{title}</h2>
            <button type="button" class="round" aria-label="Close" onClick={onClose}>
              ✕
            </button>
          </div>
          {children}
        </>
      )}
    </dialog>
  );
}
