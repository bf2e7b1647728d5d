/** What a broken stream does next, rule by rule, on a clock that the test moves. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import {
  CallFailed,
  ConnectionLost,
  DEFAULT_PACE,
  DeadlineExceeded,
  Draining,
  MAX_TIMEOUT_MS,
  type PullcordError,
  type Run,
  RunNotFound,
  RunSchema,
  RunState,
  ServerBusy,
  StoreUnavailable,
} from "pullcord";

import { Resume } from "../src/resume.js";
import { completed, event, heartbeat, started, text, unknown } from "./fake.js";

const LOST = new ConnectionLost("gone");

class Clock {
  now = 1_000;
  pace = { ...DEFAULT_PACE, clock: () => this.now, random: () => 1 };

  resume(options?: ConstructorParameters<typeof Resume>[2]): Resume {
    return new Resume("r", this.pace, options);
  }
}

function snapshot(sequence: number): ReturnType<typeof event> {
  return event(sequence, { case: "snapshot", value: { run: { output: "all" } } });
}

function gap(sequence: number, first: number, last: number): ReturnType<typeof event> {
  const value = { firstSequence: BigInt(first), lastSequence: BigInt(last) };
  return event(sequence, { case: "gap", value });
}

function run(state: RunState, lastSequence: number): Run {
  return create(RunSchema, { state, lastSequence: BigInt(lastSequence) });
}

/** The waits of one break after the other, the clock standing still. */
function waits(resume: Resume, times: number, error?: PullcordError): number[] {
  return Array.from({ length: times }, () => resume.lost(error));
}

describe("events", () => {
  it("are new once, and move the place", () => {
    const resume = new Clock().resume();
    assert.equal(resume.admit(started(1)), true);
    assert.equal(resume.admit(text(4, "three merged", 3)), true);
    assert.equal(resume.admit(text(4, "again")), false);
    assert.equal(resume.admit(text(3, "before")), false);
    assert.equal(resume.afterSequence, 4n);
  });

  it("end with the terminal one, unless it has a source", () => {
    const resume = new Clock().resume();
    const source = { id: "member", runId: "m", path: ["team", "member"] };
    const beneath = event(2, { case: "runFailed", value: {} }, { source });
    assert.equal(resume.admit(beneath), true);
    const { ended, result } = resume;
    assert.deepEqual([ended, result], [false, undefined]);
    assert.equal(resume.admit(completed(3, "done")), true);
    assert.equal(resume.ended, true);
    assert.equal(resume.result?.value.output, "done");
  });

  for (const kind of ["runCompleted", "runCancelled", "runFailed"] as const) {
    it(`end with ${kind}`, () => {
      const resume = new Clock().resume();
      resume.admit(event(1, { case: kind, value: {} }));
      assert.equal(resume.ended, true);
      assert.equal(resume.result?.case, kind);
    });
  }

  it("that nobody knows are not shown, and their number counts", () => {
    const resume = new Clock().resume();
    assert.equal(resume.admit(unknown(7)), false);
    assert.equal(resume.afterSequence, 7n);
  });

  it("say that the run has begun, heartbeats too, which move nothing", () => {
    const resume = new Clock().resume({ starting: true });
    assert.equal(resume.begun, false);
    assert.equal(resume.admit(heartbeat(5)), true);
    assert.equal(resume.begun, true);
    assert.equal(resume.afterSequence, 0n);
  });

  it("are watched from where the caller says", () => {
    const resume = new Clock().resume({ afterSequence: 5n });
    assert.equal(resume.begun, true);
    assert.equal(resume.admit(text(5, "old")), false);
    assert.equal(resume.admit(text(6, "new")), true);
  });
});

describe("a gap", () => {
  it("does not move the place, and the snapshot behind it does", () => {
    const resume = new Clock().resume({ afterSequence: 3n });
    assert.equal(resume.admit(gap(9, 4, 9)), true);
    assert.equal(resume.afterSequence, 3n);
    assert.equal(resume.admit(snapshot(9)), true);
    assert.equal(resume.afterSequence, 9n);
  });

  it("is dropped where nothing of it is missing", () => {
    const resume = new Clock().resume({ afterSequence: 9n });
    assert.equal(resume.admit(gap(9, 4, 9)), false);
    assert.equal(resume.admit(gap(10, 4, 10)), true);
  });

  it("has a snapshot that is dropped only where its number is before the place", () => {
    const resume = new Clock().resume({ afterSequence: 9n });
    assert.equal(resume.admit(snapshot(8)), false);
    assert.equal(resume.admit(snapshot(9)), true);
  });
});

describe("a stream that ended in peace without an end", () => {
  it("ends where the run has, and all was seen", () => {
    const resume = new Clock().resume({ afterSequence: 5n });
    resume.learn(run(RunState.COMPLETED, 5));
    assert.equal(resume.ended, true);
  });

  it("goes on where the run does, or where something was not seen", () => {
    const resume = new Clock().resume({ afterSequence: 5n });
    resume.learn(run(RunState.CANCELLING, 5));
    resume.learn(run(RunState.FAILED, 6));
    assert.equal(resume.ended, false);
    assert.equal(resume.lost(), 100);
  });
});

describe("waits", () => {
  it("double from 0.1 s to 5 s", () => {
    const resume = new Clock().resume();
    assert.deepEqual(waits(resume, 8, LOST), [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
  });

  it("are between half their length and all of it, at random", () => {
    const clock = new Clock();
    clock.pace.random = () => 0;
    assert.deepEqual(waits(clock.resume(), 3, LOST), [50, 100, 200]);
    clock.pace.random = () => 0.5;
    assert.deepEqual(waits(clock.resume(), 3, LOST), [75, 150, 300]);
  });

  it("are at least what RetryInfo says", () => {
    const resume = new Clock().resume();
    assert.equal(resume.lost(new Draining("", 3_000)), 3_000);
    assert.equal(resume.lost(new ServerBusy("", 10)), 200);
  });

  it("end with the caller's deadline and with patience", () => {
    const clock = new Clock();
    const resume = clock.resume({ timeoutMs: 30 });
    assert.equal(resume.lost(LOST), 30);
    const patient = clock.resume();
    patient.lost(LOST);
    clock.now += 59_990;
    assert.equal(patient.lost(LOST), 10);
  });
});

describe("patience", () => {
  it("is at its end after 60 s without progress, with the last error", () => {
    const clock = new Clock();
    const resume = clock.resume();
    resume.lost(LOST);
    clock.now += 59_999;
    resume.lost(LOST);
    clock.now += 1;
    const last = new ConnectionLost("still gone");
    assert.throws(
      () => resume.lost(last),
      (error) => error === last,
    );
  });

  it("ends with ConnectionLost where there was no error", () => {
    const clock = new Clock();
    const resume = clock.resume();
    resume.lost();
    clock.now += 60_000;
    assert.throws(
      () => resume.lost(),
      (error) => error instanceof ConnectionLost && error.runId === "r",
    );
    const shed = new CallFailed("CANCELLED", "shed");
    assert.throws(() => resume.lost(shed), { name: "ConnectionLost", message: "shed" });
  });

  it("is restored by a new event, and not by an old one", () => {
    const clock = new Clock();
    const resume = clock.resume({ afterSequence: 1n });
    assert.deepEqual(waits(resume, 2, LOST), [100, 200]);
    resume.admit(text(1, "old"));
    resume.admit(heartbeat(1));
    assert.equal(resume.lost(LOST), 400);
    clock.now += 60_000;
    resume.opening();
    resume.admit(text(2, "new"));
    assert.equal(resume.lost(LOST), 100, "however short the connection lived");
  });

  it("is restored by a connection that said something and lived for 5 s", () => {
    const clock = new Clock();
    const resume = clock.resume();
    resume.lost(LOST);
    resume.opening();
    clock.now += 5_000;
    assert.equal(resume.lost(LOST), 200, "it said nothing");
    resume.opening();
    resume.admit(heartbeat(0));
    clock.now += 4_999;
    assert.equal(resume.lost(LOST), 400, "it did not live for long");
    resume.opening();
    resume.admit(heartbeat(0));
    clock.now += 5_000;
    assert.equal(resume.lost(LOST), 100);
    resume.opening();
    clock.now += 5_000;
    assert.equal(resume.lost(LOST), 200, "it said nothing, whatever the one before said");
  });

  it("may be none", () => {
    const clock = new Clock();
    clock.pace.reconnectForMs = 0;
    assert.throws(
      () => clock.resume().lost(LOST),
      (error) => error === LOST,
    );
  });
});

describe("an error", () => {
  const delays = [new Draining("", 1), new ServerBusy("", 1), new StoreUnavailable("")];
  for (const delay of delays) {
    it(`${delay.name} is an answer to a new run, and a delay to the watcher of a known one`, () => {
      const clock = new Clock();
      assert.throws(
        () => clock.resume({ starting: true }).lost(delay),
        (error) => error === delay,
      );
      assert.equal(clock.resume().lost(delay), 100);
    });
  }

  it("of the line is passed by, also before the run has begun", () => {
    for (const error of [LOST, new CallFailed("CANCELLED", "shed"), undefined]) {
      assert.equal(new Clock().resume({ starting: true }).lost(error), 100);
    }
  });

  it("of any other kind is the caller's to see", () => {
    for (const error of [
      new RunNotFound("", "r"),
      new CallFailed("INTERNAL", ""),
      new DeadlineExceeded(""),
    ]) {
      assert.throws(
        () => new Clock().resume().lost(error),
        (thrown) => thrown === error,
      );
    }
  });
});

describe("a deadline", () => {
  it("counts from the beginning, over all connections", () => {
    const clock = new Clock();
    const resume = clock.resume({ timeoutMs: 1_000 });
    assert.equal(resume.opening(), 1_000);
    clock.now += 400.5;
    assert.equal(resume.opening(), 600, "gRPC takes whole milliseconds");
    clock.now += 599.5;
    assert.throws(() => resume.opening(), { name: "DeadlineExceeded", runId: "r" });
  });

  it("may be missing", () => {
    assert.equal(new Clock().resume().opening(), undefined);
  });

  it("must be one that gRPC can carry", () => {
    for (const timeoutMs of [-1, NaN, Infinity, MAX_TIMEOUT_MS + 1]) {
      assert.throws(() => new Clock().resume({ timeoutMs }), RangeError);
    }
    assert.equal(new Clock().resume({ timeoutMs: MAX_TIMEOUT_MS }).opening(), MAX_TIMEOUT_MS);
  });
});
