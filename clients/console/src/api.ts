/**
 * The server that this page came from: the client, whether it answers, and who asks. What is done with
 * the answers is elsewhere.
 */
import type { Interceptor } from "@connectrpc/connect";
import { signal } from "@preact/signals";
import { CredentialExpired, PullcordError, Unauthenticated } from "pullcord";
import { connect } from "pullcord/browser";

/** How the line to the server is. */
export type Line = "new" | "up" | "lost";
export const line = signal<Line>("new");
/** Whether the server wants to know who asks before it answers. */
export const signedOut = signal(false);

const NAME = "pullcord-name";

/** What the reader says of itself where the server verifies nobody; receipts then name it. */
export const yourName = signal(recall(NAME));

export function sayName(name: string): void {
  yourName.value = name;
  remember(NAME, name);
}

/** Kept by the browser; nothing where it keeps nothing. */
export function recall(key: string): string {
  try {
    return localStorage.getItem(key) ?? "";
  } catch {
    return "";
  }
}

export function remember(key: string, value: string): void {
  try {
    if (value) localStorage.setItem(key, value);
    else localStorage.removeItem(key);
  } catch {
    // It is forgotten when the page is closed.
  }
}

/** Notes how the line is with every answer, also with each message of a stream. */
const listening: Interceptor = (next) => async (request) => {
  if (yourName.peek()) request.header.set("pullcord-actor", encodeURIComponent(yourName.peek()));
  try {
    const response = await next(request);
    line.value = "up";
    if (!response.stream) return response;
    return { ...response, message: heard(response.message, request.signal) };
  } catch (reason) {
    if (!request.signal.aborted && isLost(reason)) line.value = "lost";
    throw reason;
  }
};

async function* heard<T>(messages: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  try {
    for await (const message of messages) {
      line.value = "up";
      yield message;
    }
  } catch (reason) {
    if (!signal.aborted && isLost(reason)) line.value = "lost";
    throw reason;
  }
}

/** A refusal is an answer; anything else is a line that broke. */
function isLost(reason: unknown): boolean {
  return (
    !(reason instanceof Error && "metadata" in reason && "details" in reason) || hasCause(reason)
  );
}

function hasCause(reason: Error): boolean {
  return reason.cause instanceof TypeError || /unavailable|missing end/i.test(reason.message);
}

export const client = connect(location.origin, {
  interceptors: [listening],
  // An operator's page stays open for days: it never gives up.
  pace: { reconnectForMs: Number.MAX_SAFE_INTEGER },
});

/** What a refusal says to people; a lost session asks for a new one besides. */
export function told(reason: unknown): string {
  if (reason instanceof Unauthenticated || reason instanceof CredentialExpired) {
    signedOut.value = true;
  }
  if (reason instanceof PullcordError) return reason.message;
  return reason instanceof Error ? reason.message : String(reason);
}
