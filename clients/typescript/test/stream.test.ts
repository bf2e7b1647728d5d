/** One run's events over lines that break, run dry and are left: against a real HTTP/2 server. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { describe, it } from "node:test";
import { promisify } from "node:util";

import { Code, ConnectError } from "@connectrpc/connect";
import { CancelOutcome, MAX_TIMEOUT_MS, type RunEvent, RunState } from "pullcord";
import { connect } from "pullcord/node";

import { ErrorInfoSchema, RetryInfoSchema } from "../src/google/rpc/error_details_pb.js";
import {
  aborted,
  completed,
  event,
  FakeServer,
  heartbeat,
  HURRIED,
  Moment,
  seen,
  started,
  text,
  unknown,
} from "./fake.js";

const SPEC = { runnable: "agents/fake", runId: "r" };

function drains(): ConnectError {
  const value = { reason: "DRAINING", domain: "pullcord" };
  return new ConnectError("", Code.Unavailable, {}, [
    { desc: ErrorInfoSchema, value },
    { desc: RetryInfoSchema, value: { retryDelay: { nanos: 1 } } },
  ]);
}

function* said(...events: RunEvent[]): Generator<{ event: RunEvent }> {
  for (const one of events) yield { event: one };
}

describe("a stream", () => {
  it("shows a run's events in order, and ends with its own end, not a member's", async (t) => {
    const source = { id: "member", runId: "m", path: ["team", "member"] };
    const [client] = await FakeServer.play(t, {
      async *run() {
        yield* said(
          started(),
          event(2, { case: "runCompleted", value: { output: "theirs" } }, { source }),
          text(3, "ours"),
          completed(4, "ours"),
          text(5, "nothing comes after the end"),
        );
      },
    });
    const stream = client.run(SPEC);
    assert.equal(stream.runId, "r");
    assert.deepEqual(await seen(stream), [
      "1 runStarted",
      "2 runCompleted",
      "3 contentDelta",
      "4 runCompleted",
    ]);
    assert.deepEqual([stream.result?.case, stream.result?.value.output], ["runCompleted", "ours"]);
    assert.equal(stream.afterSequence, 4n);
    assert.deepEqual(await stream.next(), { done: true, value: undefined });
  });

  it("calls at once, before anybody asks for an event", async (t) => {
    const called = new Moment();
    const [client] = await FakeServer.play(t, {
      async *run() {
        called.come();
        yield* said(completed(1));
      },
    });
    const stream = client.run(SPEC);
    await called.wait;
    await stream.return();
  });

  it("that fails before anybody asks tells whoever asks", async (t) => {
    const refused = new Moment();
    const [client] = await FakeServer.play(t, {
      async *run() {
        refused.come();
        throw drains();
      },
      getRun: () => ({ run: {} }),
    });
    const stream = client.run(SPEC);
    await refused.wait;
    await client.get("r"); // its answer is behind the refusal's on the line
    await assert.rejects(stream.next(), { name: "Draining" });
    assert.deepEqual(await stream.next(), { done: true, value: undefined });
  });

  it("hides heartbeats unless they are asked for", async (t) => {
    const [client] = await FakeServer.play(t, {
      async *watchRun() {
        yield* said(started(), heartbeat(1), completed(2));
      },
    });
    assert.deepEqual(await seen(client.watch("r")), ["1 runStarted", "2 runCompleted"]);
    assert.deepEqual(await seen(client.watch("r", { heartbeats: true })), [
      "1 runStarted",
      "1 heartbeat",
      "2 runCompleted",
    ]);
  });
});

describe("a line that breaks", () => {
  it("is made anew from the last event, and no event comes twice or not at all", async (t) => {
    const places: bigint[] = [];
    const [client, server] = await FakeServer.play(t, {
      async *run(_, { signal }) {
        yield* said(started(), text(2, "a"));
        await aborted(signal);
      },
      async *watchRun({ afterSequence }, { signal }) {
        places.push(afterSequence);
        if (places.length === 1) {
          yield* said(text(2, "a"), text(3, "b"), unknown(4), heartbeat(4));
          await aborted(signal);
        }
        yield* said(text(5, "c"), completed(6));
      },
    });
    const found: string[] = [];
    for await (const { sequence, payload } of client.run(SPEC, { heartbeats: true })) {
      found.push(`${String(sequence)} ${String(payload.case)}`);
      if (found.length === 2 || payload.case === "heartbeat") server.cut();
    }
    assert.deepEqual(found, [
      "1 runStarted",
      "2 contentDelta",
      "3 contentDelta",
      "4 heartbeat",
      "5 contentDelta",
      "6 runCompleted",
    ]);
    assert.deepEqual(places, [2n, 4n]);
    assert.equal(server.names[0], "Run");
  });

  it("before the first event starts the same run again", async (t) => {
    const asked: (string | undefined)[] = [];
    const [client, server] = await FakeServer.play(t, {
      async *run({ spec }, { signal }) {
        asked.push(`${String(spec?.runId)} ${String(spec?.input)}`);
        if (asked.length < 3) {
          server.cut();
          await aborted(signal);
        }
        yield* said(completed(1));
      },
    });
    const stream = client.run({ runnable: "agents/fake", input: "on" });
    assert.deepEqual(await seen(stream), ["1 runCompleted"]);
    assert.deepEqual(asked, Array(3).fill(`${stream.runId} on`));
    assert.deepEqual(server.names, ["Run", "Run", "Run"]);
  });

  for (const [what, error] of Object.entries({
    UNAVAILABLE: new ConnectError("", Code.Unavailable),
    "a CANCELLED that is not ours": new ConnectError("", Code.Canceled),
    "DRAINING, of a run that is known,": drains(),
  })) {
    it(`with ${what} is made anew`, async (t) => {
      let calls = 0;
      const [client] = await FakeServer.play(
        t,
        {
          async *watchRun() {
            if (++calls < 3) throw error;
            yield* said(completed(1));
          },
        },
        { pace: { ...HURRIED, clock: () => 0 } },
      );
      assert.deepEqual(await seen(client.watch("r")), ["1 runCompleted"]);
    });
  }

  it("is given up when patience is at its end", async (t) => {
    const [client] = await FakeServer.play(
      t,
      {
        async *run() {
          throw new ConnectError("down for long", Code.Unavailable);
        },
      },
      { pace: { reconnectForMs: 0 } },
    );
    await assert.rejects(seen(client.run(SPEC)), {
      name: "ConnectionLost",
      message: "down for long",
      runId: "r",
    });
  });

  it("is not made anew after any other error", async (t) => {
    const [client, server] = await FakeServer.play(t, {
      async *watchRun() {
        yield* said(started());
        throw new ConnectError("no", Code.PermissionDenied);
      },
    });
    await assert.rejects(seen(client.watch("r")), {
      name: "CallFailed",
      code: "PERMISSION_DENIED",
    });
    assert.deepEqual(server.names, ["WatchRun"]);
  });
});

describe("a stream that ended in peace before the run", () => {
  it("goes on where the run does", async (t) => {
    const states = [RunState.RUNNING, RunState.COMPLETED];
    const [client, server] = await FakeServer.play(t, {
      async *run() {
        yield* said(started());
      },
      async *watchRun({ afterSequence }) {
        yield* afterSequence === 1n ? said(text(2, "a")) : said(completed(3));
      },
      getRun: () => ({ run: { state: states.shift() ?? RunState.UNSPECIFIED, lastSequence: 3n } }),
    });
    assert.deepEqual(await seen(client.run(SPEC)), [
      "1 runStarted",
      "2 contentDelta",
      "3 runCompleted",
    ]);
    assert.deepEqual(server.names, ["Run", "GetRun", "WatchRun", "GetRun", "WatchRun"]);
  });

  it("ends where the caller had seen the end before", async (t) => {
    const [client, server] = await FakeServer.play(t, {
      async *watchRun() {
        yield* said();
      },
      getRun: () => ({ run: { state: RunState.CANCELLED, lastSequence: 3n } }),
    });
    assert.deepEqual(await seen(client.watch("r", { afterSequence: 3n })), []);
    assert.deepEqual(server.names, ["WatchRun", "GetRun"]);
  });

  it("tells what the question met", async (t) => {
    const [client] = await FakeServer.play(t, {
      async *watchRun() {
        yield* said(started());
      },
      getRun() {
        throw new ConnectError("forgotten", Code.NotFound);
      },
    });
    await assert.rejects(seen(client.watch("r")), { code: "NOT_FOUND" });
  });
});

describe("leaving", () => {
  /** A client of a run that says two words and is then silent, and what becomes of its call. */
  async function silent(t: Parameters<typeof FakeServer.play>[0]): Promise<{
    client: ReturnType<typeof connect>;
    server: FakeServer;
    left: Promise<void>;
  }> {
    const left = new Moment();
    const [client, server] = await FakeServer.play(
      t,
      {
        async *run(_, { signal }) {
          yield* said(started(), text(2, "a"));
          await aborted(signal);
          left.come();
        },
        cancelRun: () => ({ outcome: CancelOutcome.REQUESTED }),
      },
      { pace: { reconnectForMs: 0 } },
    ); // leaving is no loss
    return { client, server, left: left.wait };
  }

  it("by `break` ends the call, and asks for nothing", async (t) => {
    const { client, server, left } = await silent(t);
    for await (const { sequence } of client.run(SPEC)) if (sequence === 2n) break;
    await left;
    assert.deepEqual(server.names, ["Run"]);
  });

  it("by `return` from elsewhere ends the stream of whoever awaits its next event", async (t) => {
    const { client, server, left } = await silent(t);
    const stream = client.run(SPEC);
    await stream.next();
    await stream.next();
    const next = stream.next();
    await stream.return();
    assert.deepEqual(await next, { done: true, value: undefined });
    await left;
    assert.deepEqual(server.names, ["Run"]);
  });

  it("by `await using` ends the call", async (t) => {
    const { client, left } = await silent(t);
    {
      await using stream = client.run(SPEC);
      await stream.next();
    }
    await left;
  });

  it("by the caller's signal ends the call, and throws the signal's reason", async (t) => {
    const { client, server, left } = await silent(t);
    const leaving = new AbortController();
    const stream = client.run(SPEC, { signal: leaving.signal });
    await stream.next();
    await stream.next();
    const next = stream.next();
    const reason = new Error("enough");
    leaving.abort(reason);
    await assert.rejects(next, (error) => error === reason);
    await left;
    assert.deepEqual(server.names, ["Run"]);
  });

  it("leaves nothing behind that keeps the process awake until the deadline", async (t) => {
    const { server, left } = await silent(t);
    const program = `
      import { connect } from ${JSON.stringify(import.meta.resolve("pullcord/node"))};
      const spec = ${JSON.stringify(SPEC)};
      const client = connect("${server.target}");
      for await (const event of client.run(spec, { timeoutMs: ${String(MAX_TIMEOUT_MS)} })) break;
      console.log("left");
    `;
    const run = promisify(execFile);
    const { stdout } = await run(process.execPath, ["--input-type=module", "--eval", program], {
      timeout: 30_000, // else a program that stays would be waited for
    });
    assert.equal(stdout, "left\n");
    await left;
  });

  it("before the beginning calls nobody", async (t) => {
    const { client, server } = await silent(t);
    const stream = client.run(SPEC, { signal: AbortSignal.abort(new Error("too late")) });
    await assert.rejects(stream.next(), { message: "too late" });
    await client.cancel("r");
    assert.deepEqual(server.names, ["CancelRun"]);
  });

  it("between two connections ends the wait", async (t) => {
    const slow = { firstDelayMs: 1e6, maxDelayMs: 1e6, reconnectForMs: 1e6 };
    const asked = new Moment();
    const [client] = await FakeServer.play(
      t,
      {
        async *watchRun() {
          asked.come();
          throw new ConnectError("down", Code.Unavailable);
        },
      },
      { pace: slow },
    );
    const stream = client.watch("r");
    const next = stream.next();
    await asked.wait;
    await stream.return();
    assert.deepEqual(await next, { done: true, value: undefined });
  });

  it("while the run is asked about throws the signal's reason", async (t) => {
    const asked = new Moment();
    const [client] = await FakeServer.play(t, {
      async *watchRun() {
        yield* said();
      },
      async getRun(_, { signal }) {
        asked.come();
        await aborted(signal);
        return {};
      },
    });
    const leaving = new AbortController();
    const next = client.watch("r", { signal: leaving.signal }).next();
    await asked.wait;
    const reason = new Error("enough");
    leaving.abort(reason);
    await assert.rejects(next, (error) => error === reason);
  });

  it("by closing the client ends every stream, with words", async (t) => {
    const { client, left } = await silent(t);
    const stream = client.run(SPEC);
    await stream.next();
    await stream.next();
    const next = stream.next();
    client.close();
    await assert.rejects(next, { name: "CallFailed", message: "the client is closed" });
    await left;
    await assert.rejects(client.get("r"), { message: "the client is closed" });
    await assert.rejects(seen(client.watch("r")), { message: "the client is closed" });
  });
});

describe("a deadline", () => {
  it("travels with every connection, less what is spent", async (t) => {
    let now = 0;
    const [client, server] = await FakeServer.play(
      t,
      {
        async *run() {
          yield* said(started());
          now = 4_000;
          throw new ConnectError("", Code.Unavailable);
        },
        async *watchRun() {
          yield* said(completed(2));
        },
      },
      { pace: { ...HURRIED, clock: () => now } },
    );
    await seen(client.run(SPEC, { timeoutMs: 10_000 }));
    assert.deepEqual(
      server.calls.map(({ header }) => header.get("grpc-timeout")),
      ["10000m", "6000m"],
    );
  });

  it("that is none is not sent", async (t) => {
    const [client, server] = await FakeServer.play(t, {
      async *run() {
        yield* said(completed(1));
      },
    });
    await seen(client.run(SPEC));
    assert.equal(server.calls[0]?.header.has("grpc-timeout"), false);
  });

  it("that is over is DeadlineExceeded, and nobody comes back", async (t) => {
    const [client, server] = await FakeServer.play(t, {
      async *watchRun() {
        yield* said(started());
        throw new ConnectError("", Code.DeadlineExceeded);
      },
    });
    await assert.rejects(seen(client.watch("r", { timeoutMs: 10_000 })), {
      name: "DeadlineExceeded",
      code: "DEADLINE_EXCEEDED",
      runId: "r",
    });
    assert.deepEqual(server.names, ["WatchRun"]);
    await assert.rejects(seen(client.watch("r", { timeoutMs: 0 })), { name: "DeadlineExceeded" });
  });

  it("ends a call whose server says nothing", async (t) => {
    const [client] = await FakeServer.play(t, {
      async *watchRun(_, { signal }) {
        await aborted(signal);
      },
    });
    await assert.rejects(seen(client.watch("r", { timeoutMs: 20 })), { name: "DeadlineExceeded" });
  });
});

describe("a stream's cancel", () => {
  it("stops a run that may not have begun, and then only one that has", async (t) => {
    const asked: unknown[] = [];
    const [client] = await FakeServer.play(t, {
      async *run(_, { signal }) {
        yield* said(started());
        await aborted(signal);
      },
      cancelRun({ runId, reason, beforeStart }) {
        asked.push([runId, reason, beforeStart]);
        return { outcome: CancelOutcome.REQUESTED };
      },
    });
    const stream = client.run(SPEC);
    assert.equal((await stream.cancel("why")).outcome, CancelOutcome.REQUESTED);
    await stream.next();
    await stream.cancel({ reason: "why not" });
    await stream.cancel();
    assert.deepEqual(asked, [
      ["r", "why", true],
      ["r", "why not", false],
      ["r", "", false],
    ]);
    await stream.return();
  });
});

describe("a client that nobody answers", () => {
  it("does not end the process where nobody asks for the first event", async (t) => {
    const [, server] = await FakeServer.play(t, {});
    const client = connect(server.target.replace(/:\d+$/, ":1"), { pace: { reconnectForMs: 0 } });
    const stream = client.run(SPEC);
    await assert.rejects(client.get("r"), { name: "ConnectionLost" }); // by now the other has failed, too
    await assert.rejects(stream.next(), { name: "ConnectionLost" });
  });
});
