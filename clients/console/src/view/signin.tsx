/** The page of a server that knows its callers, before it knows this one. The token is kept nowhere here. */
import { signal } from "@preact/signals";
import type { TargetedSubmitEvent, VNode } from "preact";

import { signedOut } from "../api.js";
import { refresh } from "../runs.js";

const refused = signal("");
const busy = signal(false);

async function signIn(event: TargetedSubmitEvent<HTMLFormElement>): Promise<void> {
  event.preventDefault();
  const token = new FormData(event.currentTarget).get("token");
  busy.value = true;
  refused.value = "";
  try {
    const answer = await fetch("./v1/session", {
      method: "POST",
      headers: { authorization: `Bearer ${typeof token === "string" ? token.trim() : ""}` },
    });
    if (answer.ok) {
      signedOut.value = false;
      refresh();
    } else {
      refused.value = await wordsOf(answer);
    }
  } catch {
    refused.value = "The server does not answer. Try again.";
  } finally {
    busy.value = false;
  }
}

async function wordsOf(answer: Response): Promise<string> {
  try {
    const { detail } = (await answer.json()) as { detail?: unknown };
    if (typeof detail === "string") return detail;
  } catch {
    // It is no problem+json.
  }
  return `The server refused the token (${answer.status}).`;
}

export function SignIn(): VNode {
  return (
    <main class="signin">
      <form class="stack" onSubmit={(event) => void signIn(event)}>
        <h1>Pullcord</h1>
        <p>This server knows its callers. Sign in with your token.</p>
        <label>
          Token
          <input name="token" type="password" required autocomplete="current-password" />
        </label>
        {refused.value && (
          <p class="refused" role="alert">
            {refused.value}
          </p>
        )}
        <button type="submit" class="primary" disabled={busy.value}>
          Sign in
        </button>
        <p class="hint">
          The server keeps it in a cookie that no script can read. It ends with the browser’s
          session.
        </p>
      </form>
    </main>
  );
}
