/** What only Node can do: the gRPC line over HTTP/2, and who runs this process. */
import { hostname, userInfo } from "node:os";
import type { Http2Session, ClientHttp2Stream, SecureClientSessionOptions } from "node:http2";

import type { Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import { ACTOR_KEY } from "./actor.js";
import { type ClientOptions, RunClient } from "./client.js";
import { bearer, type Token } from "./token.js";

/** Where a server listens unless it was told otherwise. */
export const DEFAULT_TARGET = "127.0.0.1:50051";

/** A terminal event repeats all of a run's output, and a snapshot its input besides. */
const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;

const KEEPALIVE_MS = 30_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;

export interface ConnectOptions extends Omit<ClientOptions, "onClose"> {
  /**
   * Whether the line is encrypted, or how, such as `{ ca: readFileSync("ca.pem") }`: the options of
   * `tls.connect`. Undefined: it is not.
   */
  readonly tls?: boolean | SecureClientSessionOptions | undefined;
  /** The bearer token of every call, or what is asked for it each time. */
  readonly token?: Token | undefined;
  /** How long a connection may be silent, while a call is open, before it is pinged; 30 s unless set. */
  readonly keepaliveMs?: number | undefined;
  /** How long a ping may go unanswered before the connection is lost; 10 s unless set. */
  readonly keepaliveTimeoutMs?: number | undefined;
  /** See every call, for instance to add a token that is renewed. */
  readonly interceptors?: Interceptor[] | undefined;
}

/**
 * A client of the server at `host:port`. The line is made with the first call, and made anew where it
 * broke. Unless `options` say another, by `actor` or in `metadata`, the actor is `user@host` of this process.
 */
export function connect(target: string = DEFAULT_TARGET, options: ConnectOptions = {}): RunClient {
  const { tls = false, interceptors: given = [], metadata, token, ...others } = options;
  const {
    keepaliveMs: pingIntervalMs = KEEPALIVE_MS,
    keepaliveTimeoutMs: pingTimeoutMs = KEEPALIVE_TIMEOUT_MS,
    ...rest
  } = others;
  const interceptors = token === undefined ? given : [bearer(token), ...given];
  const said = new Headers(metadata);
  const baseUrl = `${tls === false ? "http" : "https"}://${target}`;
  const session = typeof tls === "boolean" ? undefined : tls;
  const sessionManager = new Line(baseUrl, { pingIntervalMs, pingTimeoutMs }, session);
  const transport = createGrpcTransport({
    baseUrl,
    interceptors,
    readMaxBytes: MAX_MESSAGE_BYTES,
    sessionManager,
    writeMaxBytes: MAX_MESSAGE_BYTES,
  });
  return new RunClient(transport, {
    ...rest,
    metadata: said,
    actor: options.actor ?? (said.has(ACTOR_KEY) ? undefined : defaultActor()),
    onClose: () => {
      sessionManager.abort();
    },
  });
}

/**
 * The line, without a flaw of Connect's (2.1): a session that the server bade goodbye (GOAWAY) is closed
 * with an error, and where a call comes meanwhile nobody listens for that error any more. Node would end
 * the process.
 */
class Line extends Http2SessionManager {
  readonly #known = new WeakSet<Http2Session>();

  override async request(
    ...asked: Parameters<Http2SessionManager["request"]>
  ): Promise<ClientHttp2Stream> {
    const stream = await super.request(...asked);
    const { session } = stream;
    if (session && !this.#known.has(session)) {
      this.#known.add(session);
      session.on("error", () => undefined); // the streams on it are told by themselves
    }
    return stream;
  }
}

function defaultActor(): string {
  return `${userName()}@${hostname()}`;
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid-${String(process.getuid?.() ?? "unknown")}`; // a container's user may have no name
  }
}
