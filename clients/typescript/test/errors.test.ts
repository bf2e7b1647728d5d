/** Each refusal becomes its class, read from real google.rpc details of a real line. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";

import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import * as pullcord from "pullcord";
import { RunState } from "pullcord";
import { connect } from "pullcord/node";

import { errorOf } from "../src/errors.js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../src/google/rpc/error_details_pb.js";
import { FakeServer } from "./fake.js";

type OutgoingDetail = NonNullable<ConstructorParameters<typeof ConnectError>[3]>[number];

function info(
  reason: string,
  metadata: Record<string, string> = {},
  domain = "pullcord",
): OutgoingDetail {
  return { desc: ErrorInfoSchema, value: { reason, domain, metadata } };
}

function retryIn(milliseconds: number): OutgoingDetail {
  return { desc: RetryInfoSchema, value: { retryDelay: durationFromMs(milliseconds) } };
}

/** What a client meets whose call is refused so. */
async function met(
  t: TestContext,
  code: Code,
  details: OutgoingDetail[] = [],
): Promise<pullcord.PullcordError> {
  const [client] = await FakeServer.play(t, {
    getRun() {
      throw new ConnectError("the words", code, undefined, details);
    },
  });
  const error: unknown = await client.get("asked").catch((reason: unknown) => reason);
  assert.ok(error instanceof pullcord.PullcordError);
  assert.equal(error.message, "the words");
  assert.ok(error instanceof pullcord[error.name as "RunNotFound"], "its name is its class");
  return error;
}

type Row = [Code, OutgoingDetail[], Record<string, unknown>];

const WRONG = [
  { field: "spec.runnable", description: "must be set" },
  { field: "spec.run_id", description: "is too long" },
];

const ROWS: Record<string, Row> = {
  InvalidArgument: [
    Code.InvalidArgument,
    [info("INVALID_ARGUMENT"), { desc: BadRequestSchema, value: { fieldViolations: WRONG } }],
    { code: "INVALID_ARGUMENT", violations: WRONG },
  ],
  RunNotFound: [
    Code.NotFound,
    [info("RUN_NOT_FOUND", { run_id: "r1" })],
    { code: "NOT_FOUND", runId: "r1" },
  ],
  RunnableNotFound: [
    Code.NotFound,
    [info("RUNNABLE_NOT_FOUND", { runnable: "agents/x" })],
    { code: "NOT_FOUND", runnable: "agents/x" },
  ],
  RunExists: [
    Code.AlreadyExists,
    [info("RUN_EXISTS", { run_id: "r1" })],
    { code: "ALREADY_EXISTS", runId: "r1" },
  ],
  ServerBusy: [
    Code.ResourceExhausted,
    [info("SERVER_BUSY"), retryIn(2_500)],
    { code: "RESOURCE_EXHAUSTED", retryAfterMs: 2_500 },
  ],
  Draining: [
    Code.Unavailable,
    [info("DRAINING"), retryIn(500)],
    { code: "UNAVAILABLE", retryAfterMs: 500 },
  ],
  StoreUnavailable: [Code.Unavailable, [info("STORE_UNAVAILABLE")], { code: "UNAVAILABLE" }],
  Unauthenticated: [Code.Unauthenticated, [info("UNAUTHENTICATED")], { code: "UNAUTHENTICATED" }],
  PermissionDenied: [
    Code.PermissionDenied,
    [info("PERMISSION_DENIED", { verb: "cancel", what: "run 'r1'" })],
    { code: "PERMISSION_DENIED", verb: "cancel" },
  ],
  QuotaExceeded: [
    Code.ResourceExhausted,
    [info("QUOTA_EXCEEDED", { quota: "starts_per_minute", subject: "caller" }), retryIn(500)],
    { code: "RESOURCE_EXHAUSTED", quota: "starts_per_minute", retryAfterMs: 500 },
  ],
  CredentialExpired: [
    Code.Unauthenticated,
    [info("CREDENTIAL_EXPIRED", { run_id: "r1" })],
    { code: "UNAUTHENTICATED", runId: "r1" },
  ],
  SessionBusy: [
    Code.Aborted,
    [info("SESSION_BUSY", { session_id: "s1", run_id: "r1" })],
    { code: "ABORTED", sessionId: "s1", runId: "r1" },
  ],
  TooManyAffected: [
    Code.FailedPrecondition,
    [info("TOO_MANY_AFFECTED", { matched: "12", allowed: "10" })],
    { code: "FAILED_PRECONDITION", matched: 12, allowed: 10 },
  ],
  RunNotPaused: [
    Code.FailedPrecondition,
    [info("RUN_NOT_PAUSED", { run_id: "r1", state: "COMPLETED", repeated: "true" })],
    { code: "FAILED_PRECONDITION", runId: "r1", state: RunState.COMPLETED, repeated: true },
  ],
  ServerFault: [Code.Internal, [info("INTERNAL")], { code: "INTERNAL" }],
};

describe("a refusal with its reason", () => {
  for (const [name, [code, details, fields]] of Object.entries(ROWS)) {
    it(`is ${name}`, async (t) => {
      const error = await met(t, code, details);
      assert.equal(error.name, name);
      assert.equal(error.constructor.name, name);
      for (const [field, value] of Object.entries(fields)) {
        assert.deepEqual(Reflect.get(error, field), value, field);
      }
    });
  }

  it("covers every reason of the API", () => {
    const reasons = Object.keys(pullcord.ErrorReason).filter((key) => /^[A-Z]/.test(key));
    const told = Object.values(ROWS).map(([, [detail]]) => {
      assert.ok(detail);
      return (detail.value as { reason: string }).reason;
    });
    assert.deepEqual([...told, "UNSPECIFIED"].sort(), reasons.sort());
  });

  it("waits a second where nobody says how long", async (t) => {
    const error = await met(t, Code.Unavailable, [info("DRAINING")]);
    assert.ok(error instanceof pullcord.Draining);
    assert.equal(error.retryAfterMs, 1_000);
  });

  it("may name a state that only a newer client knows", async (t) => {
    const details = [info("RUN_NOT_PAUSED", { run_id: "r1", state: "DREAMING" })];
    const error = await met(t, Code.FailedPrecondition, details);
    assert.ok(error instanceof pullcord.RunNotPaused);
    assert.deepEqual([error.state, error.repeated], [RunState.UNSPECIFIED, false]);
  });
});

describe("a refusal without a reason that is known", () => {
  const cases: [string, Code, OutgoingDetail[], string, string][] = [
    ["no details", Code.PermissionDenied, [], "CallFailed", "PERMISSION_DENIED"],
    ["no details, CANCELLED", Code.Canceled, [], "CallFailed", "CANCELLED"],
    ["no details, INTERNAL", Code.Internal, [], "CallFailed", "INTERNAL"],
    ["no details, ABORTED", Code.Aborted, [], "CallFailed", "ABORTED"],
    ["no details, UNAVAILABLE", Code.Unavailable, [], "ConnectionLost", "UNAVAILABLE"],
    ["no details, DEADLINE", Code.DeadlineExceeded, [], "DeadlineExceeded", "DEADLINE_EXCEEDED"],
    [
      "another domain",
      Code.NotFound,
      [info("RUN_NOT_FOUND", { run_id: "r" }, "x")],
      "CallFailed",
      "NOT_FOUND",
    ],
    ["a newer reason", Code.NotFound, [info("MOON_NOT_FOUND")], "CallFailed", "NOT_FOUND"],
    ["a detail too few", Code.NotFound, [info("RUN_NOT_FOUND")], "CallFailed", "NOT_FOUND"],
    [
      "no number",
      Code.FailedPrecondition,
      [info("TOO_MANY_AFFECTED", { matched: "many", allowed: "10" })],
      "CallFailed",
      "FAILED_PRECONDITION",
    ],
  ];
  for (const [what, code, details, name, status] of cases) {
    it(`(${what}) is ${name} with the status`, async (t) => {
      const error = await met(t, code, details);
      assert.deepEqual([error.name, error.code], [name, status]);
      assert.equal(error.runId, "asked", "what the call was about");
    });
  }
});

describe("a call that the line ended", () => {
  it("is ConnectionLost where nobody listens", async () => {
    await assert.rejects(connect("127.0.0.1:1").get("asked"), {
      name: "ConnectionLost",
      code: "UNAVAILABLE",
      runId: "asked",
    });
  });

  it("is ConnectionLost where it broke midway", async (t) => {
    const [client, server] = await FakeServer.play(t, {
      getRun() {
        server.cut();
        return {};
      },
    });
    await assert.rejects(client.get("asked"), { name: "ConnectionLost", runId: "asked" });
  });

  it("is not ConnectionLost where a server says so in the line's words", async (t) => {
    const [client] = await FakeServer.play(t, {
      getRun() {
        throw new ConnectError("http/2 stream closed", Code.Internal);
      },
    });
    await assert.rejects(client.get("asked"), { name: "CallFailed", code: "INTERNAL" });
  });

  it("is ConnectionLost where a browser's fetch says so", () => {
    const failed = ConnectError.from(new TypeError("Failed to fetch"), Code.Internal);
    assert.equal(errorOf(failed).name, "ConnectionLost");
    const bug = ConnectError.from(new RangeError("out of it"), Code.Internal);
    assert.equal(errorOf(bug).name, "CallFailed");
  });
});
