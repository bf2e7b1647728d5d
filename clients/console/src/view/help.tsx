/** Help and settings: the keys, and the name that receipts say. */
import { signal } from "@preact/signals";
import type { VNode } from "preact";

import { sayName, yourName } from "../api.js";
import { lookAtSession, session, signOut } from "../session.js";
import { KEYS, keysOff, switchKeys } from "./keys.js";
import { Dialog } from "./parts.js";

const shown = signal(false);

export function showHelp(): void {
  shown.value = true;
  void lookAtSession();
}

export function Help(): VNode {
  return (
    <Dialog open={shown.value} title="Help and settings" onClose={() => (shown.value = false)}>
      <form class="stack" onSubmit={(event) => event.preventDefault()}>
        <You />
        <label class="check">
          <input
            type="checkbox"
            checked={!keysOff.value}
            onChange={({ currentTarget }) => switchKeys(currentTarget.checked)}
          />
          Single keys do something
        </label>
      </form>
      <dl class="keys">
        {KEYS.map(([key, does]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
      <p class="hint">
        Stop lets a tool call in flight finish, for a while. Stop now interrupts it. What a run has
        made is kept either way.
      </p>
    </Dialog>
  );
}

/** Who is signed in; where the server knows no callers, the name that receipts say. */
function You(): VNode {
  const { ways, subject } = session.value;
  if (ways.length) {
    return (
      <p class="you">
        Signed in as <strong>{subject ?? "nobody"}</strong>
        <button
          type="button"
          onClick={() => {
            shown.value = false;
            void signOut();
          }}
        >
          Sign out
        </button>
      </p>
    );
  }
  return (
    <label>
      Your name
      <input
        value={yourName.value}
        placeholder="such as ann"
        maxLength={100}
        autocomplete="off"
        onInput={({ currentTarget }) => sayName(currentTarget.value.trim())}
      />
      <small>
        Receipts say it where the server knows no callers. Where it does, they say who is signed in.
      </small>
    </label>
  );
}
