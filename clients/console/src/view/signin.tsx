/** The page of a server that knows its callers, before it knows this one. The token is kept nowhere here. */
import { signal } from "@preact/signals";
import type { TargetedSubmitEvent, VNode } from "preact";
import { useEffect } from "preact/hooks";

import { lookAtSession, providerAddress, session, signIn } from "../session.js";

const refused = signal("");
const busy = signal(false);

async function submit(event: TargetedSubmitEvent<HTMLFormElement>): Promise<void> {
  event.preventDefault();
  const token = new FormData(event.currentTarget).get("token");
  busy.value = true;
  refused.value = "";
  try {
    await signIn(typeof token === "string" ? token.trim() : "");
  } catch (reason) {
    refused.value = reason instanceof Error ? reason.message : String(reason);
  } finally {
    busy.value = false;
  }
}

export function SignIn(): VNode {
  useEffect(() => void lookAtSession(), []);
  const provider = session.value.ways.includes("provider");
  return (
    <main class="signin">
      <form class="stack" onSubmit={(event) => void submit(event)}>
        <h1>Pullcord</h1>
        <p>This server knows its callers.</p>
        {provider && (
          <a class="button primary" href={providerAddress()}>
            Sign in with your organisation
          </a>
        )}
        <label>
          Token
          <input name="token" type="password" required autocomplete="current-password" />
        </label>
        {refused.value && (
          <p class="refused" role="alert">
            {refused.value}
          </p>
        )}
        <button type="submit" class={provider ? "" : "primary"} disabled={busy.value}>
          Sign in with the token
        </button>
        <p class="hint">The server keeps it in a cookie that no script can read.</p>
      </form>
    </main>
  );
}
