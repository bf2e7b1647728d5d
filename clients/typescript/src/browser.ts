/**
 * What only a browser can do: Connect over `fetch`, from the page's own origin. How a browser shares its
 * few connections among tabs is the page's business.
 */
import type { Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";

import { type ClientOptions, RunClient } from "./client.js";
import { bearer, type Token } from "./token.js";

export interface ConnectOptions extends Omit<ClientOptions, "onClose"> {
  /** The bearer token of every call, or what is asked for it each time. Undefined: the origin's cookies. */
  readonly token?: Token | undefined;
  /** See every call. */
  readonly interceptors?: Interceptor[] | undefined;
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
  const { token, interceptors: given = [], ...rest } = options;
  const interceptors = token === undefined ? given : [bearer(token), ...given];
  return new RunClient(
    createConnectTransport({ baseUrl, interceptors, useBinaryFormat: true }),
    rest,
  );
}
