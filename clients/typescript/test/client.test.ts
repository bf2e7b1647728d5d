/** What a client asks for, as a server hears it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { hostname, userInfo } from "node:os";
import { describe, it } from "node:test";
import { setImmediate } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  CancelMode,
  CancelOutcome,
  type ListRunsRequest,
  RunSpecSchema,
  RunState,
  VERSION,
} from "pullcord";
import { DEFAULT_TARGET } from "pullcord/node";

import { aborted, completed, FakeServer, Moment, seen, started } from "./fake.js";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

describe("an id", () => {
  it("is minted before the call where the spec has none, and kept where it has one", async (t) => {
    const ids: unknown[] = [];
    const [client] = await FakeServer.play(t, {
      async *run({ spec }) {
        ids.push(spec?.runId);
        yield { event: completed(1) };
      },
      startRun({ spec }) {
        ids.push(spec?.runId);
        return { run: { runId: spec?.runId ?? "" } };
      },
    });
    const spec = create(RunSpecSchema, { runnable: "agents/fake" });
    const stream = client.run(spec);
    assert.match(stream.runId, UUID);
    await seen(stream);
    const { runId } = await client.start(spec);
    assert.match(runId, UUID);
    await seen(client.run({ runnable: "agents/fake", runId: "mine" }));
    await client.start({ runnable: "agents/fake", runId: "mine" });
    assert.deepEqual(ids, [stream.runId, runId, "mine", "mine"]);
    assert.equal(spec.runId, "", "the caller's own spec is left alone");
  });
});

describe("whose run is meant", () => {
  it("goes with get, and with all that a watch asks", async (t) => {
    const asked: (readonly string[])[] = [];
    const note = (name: string, { tenant, owner }: { tenant: string; owner: string }): void => {
      asked.push([name, tenant, owner]);
    };
    const ended = { run: { runId: "r", state: RunState.COMPLETED, lastSequence: 1n } };
    const [client] = await FakeServer.play(t, {
      getRun(request) {
        note("get", request);
        return ended;
      },
      async *watchRun(request) {
        note("watch", request);
        yield { event: started() };
      },
      cancelRun(request) {
        note("cancel", request);
        return {};
      },
    });
    const whose = { tenant: "acme", owner: "ann" };
    await client.get("r", whose);
    const stream = client.watch("r", whose);
    await seen(stream);
    await stream.cancel("enough");
    await client.get("r");
    assert.deepEqual(asked, [
      ["get", "acme", "ann"],
      ["watch", "acme", "ann"],
      ["get", "acme", "ann"],
      ["cancel", "acme", "ann"],
      ["get", "", ""],
    ]);
  });
});

describe("erase", () => {
  it("asks what is said, and answers what is gone and what is live", async (t) => {
    const asked: string[] = [];
    const [client] = await FakeServer.play(t, {
      eraseRuns({ userId, validateOnly }) {
        asked.push(`${userId} ${String(validateOnly)}`);
        return { runs: 3n, liveRunIds: ["live"] };
      },
    });
    const { runs, liveRunIds } = await client.erase({ userId: "ann", validateOnly: true });
    assert.deepEqual([runs, liveRunIds, asked], [3n, ["live"], ["ann true"]]);
  });
});

describe("every call", () => {
  it("carries the metadata, and who asks", async (t) => {
    const service = {
      async *watchRun() {
        yield { event: completed(1) };
      },
      listRunnables: () => ({}),
    };
    const metadata = { authorization: "Bearer token" };
    const [ann, server] = await FakeServer.play(t, service, { metadata, actor: "Zoë" });
    await ann.runnables();
    await seen(ann.watch("r"));
    assert.equal(server.calls.length, 2);
    for (const { header } of server.calls) {
      assert.equal(header.get("authorization"), "Bearer token");
      assert.equal(header.get("pullcord-actor"), "Zo%C3%AB");
    }
  });

  it("is asked by this process unless another is said", async (t) => {
    const [client, server] = await FakeServer.play(t, { listRunnables: () => ({}) });
    await client.runnables();
    const actor = decodeURIComponent(server.calls[0]?.header.get("pullcord-actor") ?? "");
    assert.equal(actor, `${userInfo().username}@${hostname()}`);
  });

  it("is asked by whom the metadata say, unless an actor is said, too", async (t) => {
    const metadata = { "pullcord-actor": "ann" };
    for (const [actor, expected] of [
      [undefined, "ann"],
      ["bob", "bob"],
    ] as const) {
      const service = { listRunnables: () => ({}) };
      const [client, server] = await FakeServer.play(t, service, { metadata, actor });
      await client.runnables();
      assert.equal(server.calls[0]?.header.get("pullcord-actor"), expected);
    }
  });

  it("has 30 s, and more where a cancel waits", async (t) => {
    const [client, server] = await FakeServer.play(t, {
      startRun: () => ({ run: {} }),
      getRun: () => ({ run: {} }),
      listRuns: () => ({}),
      listRunnables: () => ({}),
      continueRun: () => ({ run: {} }),
      cancelRun: () => ({ outcome: CancelOutcome.STOPPED }),
      cancelRuns: () => ({}),
    });
    await client.start({ runnable: "agents/fake" });
    await client.get("r");
    for await (const run of client.list()) assert.fail(run.runId);
    await client.runnables();
    await client.continueRun({ runId: "r" });
    await client.cancelMany({ sessionId: "s" });
    await client.cancel("r");
    await client.cancel({ runId: "r", wait: { seconds: 5n } });
    await client.cancel({ runId: "r", wait: { seconds: 1_000_000_000n } });
    assert.deepEqual(
      server.calls.map(({ header }) => header.get("grpc-timeout")),
      [...Array<string>(7).fill("30000m"), "35000m", "99999999m"],
    );
  });

  it("can be left, and then throws the signal's reason", async (t) => {
    const asked = new Moment();
    const [client, server] = await FakeServer.play(t, {
      listRunnables: () => ({}),
      async getRun(_, { signal }) {
        asked.come();
        await aborted(signal);
        return {};
      },
    });
    const leaving = new AbortController();
    const answer = client.get("r", { signal: leaving.signal });
    await asked.wait;
    const reason = new Error("enough");
    leaving.abort(reason);
    await assert.rejects(answer, (error) => error === reason);
    await assert.rejects(client.get("r", { signal: leaving.signal }), (error) => error === reason);
    await client.runnables(); // a call of before would be known by now
    assert.equal(server.begun, 2, "a signal that has come calls nobody");
  });

  it("takes messages of up to 64 MiB, and not more", async (t) => {
    const MIB = 1024 * 1024;
    const [client] = await FakeServer.play(t, {
      getRun: ({ runId }) => ({ run: { output: "x".repeat(Number(runId) * MIB) } }),
    });
    assert.equal((await client.get("63")).output.length, 63 * MIB);
    await assert.rejects(client.get("65"), { name: "CallFailed", code: "RESOURCE_EXHAUSTED" });
  });
});

describe("list", () => {
  it("shows all pages, and asks for one only when the one before is used up", async (t) => {
    const pages: [string, string, number][] = [];
    const [client, server] = await FakeServer.play(t, {
      listRuns({ sessionId, pageToken, pageSize }: ListRunsRequest) {
        pages.push([sessionId, pageToken, pageSize]);
        const page = Number(pageToken || "1");
        const runs = [{ runId: `${String(page)}a` }, { runId: `${String(page)}b` }];
        return { runs, nextPageToken: page < 3 ? String(page + 1) : "" };
      },
    });
    const found: string[] = [];
    for await (const { runId } of client.list({ sessionId: "s", pageSize: 2 })) {
      if (runId === "1a") assert.equal(server.calls.length, 1);
      found.push(runId);
    }
    assert.deepEqual(found, ["1a", "1b", "2a", "2b", "3a", "3b"]);
    assert.deepEqual(pages, [
      ["s", "", 2],
      ["s", "2", 2],
      ["s", "3", 2],
    ]);
  });
});

describe("cancel", () => {
  it("takes an id and a reason, or all that a request has", async (t) => {
    const asked: unknown[] = [];
    const [client] = await FakeServer.play(t, {
      cancelRun({ runId, reason, mode, beforeStart }) {
        asked.push([runId, reason, mode, beforeStart]);
        return { outcome: CancelOutcome.REQUESTED };
      },
    });
    await client.cancel("r");
    await client.cancel("r", "why");
    await client.cancel({ runId: "r", mode: CancelMode.IMMEDIATE, beforeStart: true });
    assert.deepEqual(asked, [
      ["r", "", CancelMode.UNSPECIFIED, false],
      ["r", "why", CancelMode.UNSPECIFIED, false],
      ["r", "", CancelMode.IMMEDIATE, true],
    ]);
  });

  it("of many answers with what became of each", async (t) => {
    const [client] = await FakeServer.play(t, {
      cancelRuns: ({ sessionId }) => ({ results: [{ runId: `of ${sessionId}` }] }),
    });
    const [one] = await client.cancelMany({ sessionId: "s", validateOnly: true });
    assert.equal(one?.runId, "of s");
  });
});

describe("wait", () => {
  it("comes back where the line breaks, with what is left of its time", async (t) => {
    let now = 0;
    const asked: unknown[] = [];
    const [client, server] = await FakeServer.play(
      t,
      {
        waitRun({ timeout }) {
          asked.push(timeout?.seconds);
          now += 4_000;
          if (asked.length < 3) throw new ConnectError("", Code.Unavailable);
          return { run: { state: RunState.COMPLETED } };
        },
      },
      { pace: { firstDelayMs: 1, clock: () => now } },
    );
    assert.equal((await client.wait("r", { timeoutMs: 10_000 })).state, RunState.COMPLETED);
    assert.deepEqual(asked, [10n, 6n, 2n]);
    assert.deepEqual(
      server.calls.map(({ header }) => header.get("grpc-timeout")),
      ["40000m", "36000m", "32000m"],
    );
  });

  it("without a time has no deadline", async (t) => {
    const [client, server] = await FakeServer.play(t, {
      waitRun: ({ timeout }) => ({ run: { output: timeout ? "some" : "none" } }),
    });
    assert.equal((await client.wait("r")).output, "none");
    assert.equal(server.calls[0]?.header.has("grpc-timeout"), false);
  });

  it("tells every other error, and gives up in the end", async (t) => {
    const [client, server] = await FakeServer.play(
      t,
      {
        waitRun({ runId }) {
          throw new ConnectError("", runId === "gone" ? Code.Unavailable : Code.PermissionDenied);
        },
      },
      { pace: { reconnectForMs: 0 } },
    );
    await assert.rejects(client.wait("mine"), { name: "CallFailed", code: "PERMISSION_DENIED" });
    await assert.rejects(client.wait("gone"), { name: "ConnectionLost", runId: "gone" });
    assert.deepEqual(server.names, ["WaitRun", "WaitRun"]);
  });

  it("ends with the client, and with the caller's signal", async (t) => {
    let asked = new Moment();
    const [client] = await FakeServer.play(t, {
      async waitRun(_, { signal }) {
        asked.come();
        await aborted(signal);
        return {};
      },
    });
    const leaving = new AbortController();
    const left = client.wait("r", { signal: leaving.signal });
    await asked.wait;
    leaving.abort(new Error("enough"));
    await assert.rejects(left, { message: "enough" });
    asked = new Moment();
    const closed = client.wait("r");
    await asked.wait;
    client.close();
    await assert.rejects(closed, { name: "CallFailed", message: "the client is closed" });
  });
});

describe("the line", () => {
  it("goes to a server on this machine unless another is said", () => {
    assert.equal(DEFAULT_TARGET, "127.0.0.1:50051");
  });

  it("is made anew where the server closes it in peace, whatever is called meanwhile", async (t) => {
    const [client, server] = await FakeServer.play(t, { getRun: () => ({ run: { runId: "r" } }) });
    for (let turn = 0; turn < 100; turn++) {
      assert.equal((await client.get("r")).runId, "r");
      server.sayGoodbye();
      for (let later = 0; later < turn % 7; later++) await setImmediate();
    }
  });

  it("can be encrypted", async (t) => {
    const shared = { psk: Buffer.from("a secret of both"), identity: "test" };
    const secure = {
      ciphers: "PSK",
      pskCallback: () => shared.psk,
      maxVersion: "TLSv1.2",
    } as const;
    const [client] = await FakeServer.play(
      t,
      {
        async *run() {
          yield* [{ event: started() }, { event: completed(2) }];
        },
      },
      {
        tls: {
          ciphers: "PSK",
          maxVersion: "TLSv1.2",
          pskCallback: () => shared,
          checkServerIdentity: () => undefined,
        },
      },
      secure,
    );
    assert.deepEqual(await seen(client.run({ runnable: "agents/fake" })), [
      "1 runStarted",
      "2 runCompleted",
    ]);
  });
});

it("the version is the manifest's", () => {
  const manifest = JSON.parse(
    readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
  ) as { version: string };
  assert.equal(VERSION, manifest.version);
});
