/** A followed list over whole and broken lines, and how it is left. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Code, ConnectError } from "@connectrpc/connect";
import { CallFailed, ConnectionLost, RunState, type WatchRunsRequest } from "pullcord";

import { aborted, FakeServer, Moment } from "./fake.js";

const LIVE = { run: { runId: "r", state: RunState.RUNNING }, position: "1" };

describe("a followed list", () => {
  it("goes on behind its last position, also one that is not shown", async (t) => {
    const asked: WatchRunsRequest[] = [];
    const [client, server] = await FakeServer.play(t, {
      async *watchRuns(request) {
        asked.push(request);
        if (asked.length === 1) {
          yield LIVE;
          yield { caughtUp: true, position: "2" };
          yield { position: "3" };
          server.cut();
        } else if (asked.length === 2) {
          throw new ConnectError("shed", Code.Canceled);
        } else if (asked.length === 3) {
          yield { missed: true, position: "4" };
        } else {
          yield { run: { runId: "r", state: RunState.COMPLETED }, position: "5" };
        }
      },
    });
    const seen: string[] = [];
    for await (const { position } of client.watchRuns({ userId: "u" })) {
      seen.push(position);
      if (position === "5") break;
    }
    // A line that is cut may take what was last sent with it: it is then sent again.
    assert.deepEqual(seen.slice(-2), ["4", "5"]);
    assert.equal(asked.length, 4);
    assert.equal(asked[3]?.after, "4");
    assert.ok(asked.every(({ userId }) => userId === "u"));
  });

  it("ends with what is no lost connection, and where nothing comes", async (t) => {
    const refuse = { code: Code.PermissionDenied };
    const service = {
      async *watchRuns() {
        if (refuse.code === Code.PermissionDenied) yield LIVE;
        throw new ConnectError("no", refuse.code);
      },
    };
    const [client] = await FakeServer.play(t, service, { pace: { reconnectForMs: 0 } });
    const changes = client.watchRuns();
    assert.equal((await changes.next()).value?.run?.runId, "r");
    await assert.rejects(changes.next(), CallFailed);
    assert.equal((await changes.next()).done, true);
    refuse.code = Code.Unavailable;
    await assert.rejects(client.watchRuns().next(), ConnectionLost);
  });

  it("is left by leaving the loop, by a signal, and with its client", async (t) => {
    let left = new Moment();
    const [client] = await FakeServer.play(t, {
      async *watchRuns(_, { signal }) {
        yield LIVE;
        await aborted(signal);
        left.come();
      },
    });
    for await (const { position } of client.watchRuns()) {
      assert.equal(position, "1");
      break;
    }
    await left.wait;
    left = new Moment();
    const controller = new AbortController();
    const changes = client.watchRuns({}, { signal: controller.signal });
    await changes.next();
    const waiting = changes.next();
    controller.abort(new Error("enough"));
    await assert.rejects(waiting, /enough/);
    await left.wait;
    left = new Moment();
    const others = client.watchRuns();
    await others.next();
    const last = others.next();
    client.close();
    await assert.rejects(last, /closed/);
    await left.wait;
  });
});
