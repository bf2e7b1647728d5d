/** Who is signed in, and how one can: the server keeps the credential in a cookie that no script can read. */
import { signal } from "@preact/signals";

import { signedOut } from "./api.js";
import { refresh } from "./runs.js";

interface Session {
  readonly signed_in: boolean;
  /** `token` and `provider`; none where the server knows no callers. */
  readonly ways: readonly string[];
  readonly subject?: string;
}

export const session = signal<Session>({ signed_in: false, ways: [] });

const PATH = "./v1/session";

/** Asks the server who is signed in. */
export async function lookAtSession(): Promise<void> {
  const answer = await fetch(PATH);
  if (answer.ok) session.value = (await answer.json()) as Session;
}

/** Where the identity provider's sign-in begins; it comes out at this view. */
export function providerAddress(): string {
  return `${PATH}/begin?to=${encodeURIComponent(location.pathname + location.search)}`;
}

/** Signs in by a token. Throws an Error in the server's words. */
export async function signIn(token: string): Promise<void> {
  const answer = await fetch(PATH, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ token }),
  });
  if (!answer.ok) throw new Error(await wordsOf(answer));
  await lookAtSession();
  signedOut.value = false;
  refresh();
}

export async function signOut(): Promise<void> {
  await fetch(PATH, { method: "DELETE" });
  await lookAtSession();
  signedOut.value = true;
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
