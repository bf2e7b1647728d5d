/**
 * What only a browser can do: Connect over `fetch`, from the page's own origin. How a browser shares its
 * few connections among tabs is the page's business.
 */
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";

import { type ClientOptions, RunClient } from "./client.js";
import { bearer, type Token } from "./token.js";

/** Three heartbeats of a server that was not told otherwise. */
const SILENCE_MS = 45_000;

export interface ConnectOptions extends Omit<ClientOptions, "onClose"> {
  /** The bearer token of every call, or what is asked for it each time. Undefined: the origin's cookies. */
  readonly token?: Token | undefined;
  /** See every call. */
  readonly interceptors?: Interceptor[] | undefined;
  /**
   * How long a stream may be silent before it is given up and taken up again: a page cannot ping, but a
   * server sends heartbeats, each 15 s unless it was told otherwise. Undefined: 45 s.
   */
  readonly silenceMs?: number | undefined;
}

/**
 * A client of the server at an origin such as `https://runs.example.com`: that of `pullcord serve --http`.
 * Undefined: the origin of the page itself. Another origin must be allowed by the server, `--http-origin`.
 *
 * Over HTTP/1.1 a browser has six connections to an origin, in all of its tabs together, and each stream
 * takes one. Leave the streams that nobody looks at.
 */
export function connect(
  baseUrl: string = location.origin,
  options: ConnectOptions = {},
): RunClient {
  const { token, interceptors: given = [], silenceMs = SILENCE_MS, ...rest } = options;
  const interceptors = [...given, impatient(silenceMs)];
  if (token !== undefined) interceptors.unshift(bearer(token));
  return new RunClient(
    createConnectTransport({ baseUrl, interceptors, useBinaryFormat: true }),
    rest,
  );
}

/** Breaks a stream of which nothing was heard for so long, also before its first message. */
function impatient(silenceMs: number): Interceptor {
  return (next) => async (request) => {
    if (!request.stream) return next(request);
    const silence = new Silence(silenceMs);
    const signal = AbortSignal.any([request.signal, silence.signal]);
    const response = await silence.over(next({ ...request, signal }));
    if (!response.stream) return response;
    return { ...response, message: heard(response.message, silence) };
  };
}

async function* heard<T>(messages: AsyncIterable<T>, silence: Silence): AsyncGenerator<T> {
  const each = messages[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await silence.over(each.next());
      if (next.done) return;
      yield next.value;
    }
  } finally {
    await each.return?.();
  }
}

/** Waits for something, but no longer than for so long. */
class Silence {
  readonly #controller = new AbortController();
  readonly #ms: number;

  constructor(ms: number) {
    this.#ms = ms;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  async over<T>(awaited: Promise<T>): Promise<T> {
    const timer = setTimeout(() => {
      this.#controller.abort();
    }, this.#ms);
    try {
      return await awaited;
    } catch (reason) {
      if (!this.signal.aborted) throw reason;
      throw new ConnectError(`nothing was heard for ${String(this.#ms)} ms`, Code.Unavailable);
    } finally {
      clearTimeout(timer);
    }
  }
}
