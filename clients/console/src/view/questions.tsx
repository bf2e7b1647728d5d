/** What a paused run asks: each call that waits, and approve, decline or an answer in its place. */
import { signal } from "@preact/signals";
import type { ToolCall } from "pullcord";
import type { VNode } from "preact";

import { client, told } from "../api.js";
import type { Question, View } from "../fold.js";
import type { Seen } from "../opened.js";
import { refresh } from "../runs.js";
import { pretty } from "./tree.js";

type Verdict = "approve" | "decline" | "answer";
interface Decided {
  readonly verdict?: Verdict;
  readonly words: string;
}

/** By the run and the call. */
const decided = signal<ReadonlyMap<string, Decided>>(new Map());
const refused = signal("");
const sending = signal("");

export function Questions(it: Seen): VNode | null {
  const { opened } = it;
  const asked = [...opened.questions.values()];
  if (!asked.length || opened.ended || opened.cancellation) return null;
  return (
    <section class="questions" aria-label="Waits for a decision">
      {asked.map((question) => (
        <Ask key={question.runId} question={question} {...it} />
      ))}
      {refused.value && (
        <p class="refused" role="alert">
          {refused.value}
        </p>
      )}
    </section>
  );
}

function idOf(question: Question, call: ToolCall): string {
  return `${question.runId}/${call.toolCallId}`;
}

function Ask({ question, opened }: { question: Question; opened: View }): VNode {
  const { calls, words, who, runId } = question;
  const all = calls.every((call) => decided.value.get(idOf(question, call))?.verdict);
  return (
    <form
      class="ask"
      onSubmit={(event) => {
        event.preventDefault();
        void send(question, opened);
      }}
    >
      <h2>{who ? `${who} waits for your decision` : "It waits for your decision"}</h2>
      {words && <p>{words}</p>}
      {calls.map((call) => (
        <Call key={call.toolCallId} id={idOf(question, call)} call={call} />
      ))}
      <button type="submit" class="primary" disabled={!all || sending.value === runId}>
        Go on
      </button>
    </form>
  );
}

const VERDICTS: readonly [Verdict, string, string][] = [
  ["approve", "Approve", "It is executed."],
  ["decline", "Decline", "It is not executed; the note is told to the model."],
  ["answer", "Answer", "It is not executed; these words are its result."],
];

function Call({ id, call }: { id: string; call: ToolCall }): VNode {
  const now = decided.value.get(id) ?? { words: "" };
  const change = (more: Partial<Decided>): void => {
    decided.value = new Map([...decided.value, [id, { ...now, ...more }]]);
  };
  return (
    <fieldset>
      <legend>
        <code>{call.toolName}</code>
      </legend>
      {call.arguments && (
        <pre class="plain" tabIndex={0} aria-label={`Arguments of ${call.toolName}`}>
          {pretty(call.arguments)}
        </pre>
      )}
      <div class="verdicts">
        {VERDICTS.map(([verdict, word, means]) => (
          <label key={verdict} class={`verdict ${verdict}`} title={means}>
            <input
              type="radio"
              name={id}
              checked={now.verdict === verdict}
              onChange={() => change({ verdict })}
            />
            {word}
          </label>
        ))}
      </div>
      <label class="note">
        {now.verdict === "answer" ? "Answer" : "Note, if you like"}
        <input
          value={now.words}
          maxLength={1024}
          autocomplete="off"
          onInput={({ currentTarget }) => change({ words: currentTarget.value })}
        />
      </label>
    </fieldset>
  );
}

async function send(question: Question, opened: View): Promise<void> {
  const { runId, calls } = question;
  const { tenant, owner } = opened.run;
  sending.value = runId;
  refused.value = "";
  try {
    await client.continueRun({
      runId,
      tenant,
      owner,
      decisions: calls.map((call) => {
        const { verdict, words = "" } = decided.peek().get(idOf(question, call)) ?? {};
        return {
          toolCallId: call.toolCallId,
          approved: verdict === "approve",
          ...(verdict === "answer" ? { answer: words } : { note: words }),
        };
      }),
    });
    opened.questions.delete(runId);
    refresh();
  } catch (failed) {
    refused.value = told(failed);
  } finally {
    sending.value = "";
  }
}
