/**
 * A server that does as a test says, on a real HTTP/2 port, so that lines can really break; and short
 * words for what it sends. It decides nothing.
 */
import { once } from "node:events";
import {
  createSecureServer,
  createServer,
  type SecureServerOptions,
  type ServerHttp2Session,
} from "node:http2";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import type { ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { type Pace, type RunClient, type RunEvent, RunEventSchema, RunService } from "pullcord";
import { connect, type ConnectOptions } from "pullcord/node";

export type Service = Partial<ServiceImpl<typeof RunService>>;

/** Waits so short that nobody notices them. */
export const HURRIED: Partial<Pace> = { firstDelayMs: 1, maxDelayMs: 2 };

/** A server that plays a service, and the line to it. */
export class FakeServer {
  readonly calls: { name: string; header: Headers }[] = [];
  target = "";
  /** How many calls were begun, also where nothing came of them. */
  begun = 0;
  readonly #sessions = new Set<ServerHttp2Session>();

  /** A server and a client of it; both are gone when the test is. */
  static async play(
    t: TestContext,
    service: Service,
    options: ConnectOptions = {},
    secure?: SecureServerOptions,
  ): Promise<[RunClient, FakeServer]> {
    const fake = new FakeServer();
    const adapter = connectNodeAdapter({
      routes: (router) => router.service(RunService, service),
      interceptors: [
        (next) => (request) => {
          fake.calls.push({ name: request.method.name, header: request.header });
          return next(request);
        },
      ],
    });
    const server = secure ? createSecureServer(secure, adapter) : createServer(adapter);
    server.on("session", (session) => {
      fake.#sessions.add(session);
      session.on("close", () => fake.#sessions.delete(session));
      session.on("error", () => undefined); // a line that is cut
    });
    server.on("request", () => fake.begun++);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    fake.target = `127.0.0.1:${String((server.address() as AddressInfo).port)}`;
    const client = connect(fake.target, { pace: HURRIED, ...options });
    t.after(() => {
      client.close();
      fake.cut();
      server.close();
    });
    return [client, fake];
  }

  /** Breaks every line to this server; a new one may be made at once. */
  cut(): void {
    for (const session of this.#sessions) session.destroy();
  }

  /** Closes every line as a server does that has had it for long: with GOAWAY. */
  sayGoodbye(): void {
    for (const session of this.#sessions) session.goaway();
  }

  /** The names of the calls that came. */
  get names(): string[] {
    return this.calls.map(({ name }) => name);
  }
}

type EventInit = MessageInitShape<typeof RunEventSchema>;

/** An event of a number. */
export function event(
  sequence: number,
  payload: NonNullable<EventInit["payload"]>,
  rest: Omit<Exclude<EventInit, RunEvent>, "sequence" | "payload"> = {},
): RunEvent {
  return create(RunEventSchema, { ...rest, sequence: BigInt(sequence), payload });
}

export function started(sequence = 1): RunEvent {
  return event(sequence, { case: "runStarted", value: { runnable: "agents/fake" } });
}

export function text(sequence: number, words: string, count = 1): RunEvent {
  return event(sequence, { case: "contentDelta", value: { text: words, count } });
}

export function completed(sequence: number, output = ""): RunEvent {
  return event(sequence, { case: "runCompleted", value: { output } });
}

export function heartbeat(sequence: number): RunEvent {
  return event(sequence, { case: "heartbeat", value: {} });
}

/** An event whose payload only a newer client knows: field 99. */
export function unknown(sequence: number): RunEvent {
  const made = event(sequence, { case: undefined });
  made.$unknown = [{ no: 99, wireType: WireType.LengthDelimited, data: new Uint8Array([0]) }];
  return made;
}

/** The numbers and payloads of all events that come. */
export async function seen(events: AsyncIterable<RunEvent>): Promise<string[]> {
  const found: string[] = [];
  for await (const { sequence, payload } of events) {
    found.push(`${String(sequence)} ${payload.case ?? "?"}`);
  }
  return found;
}

/** Something that a test waits for. */
export class Moment {
  come: () => void = () => undefined;
  readonly wait = new Promise<void>((resolve) => {
    this.come = resolve;
  });
}

/** Resolves when a call is ended by the other side. */
export async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, "abort");
}
