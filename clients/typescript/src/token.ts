/** How a bearer token goes with every call. Where it comes from is the caller's business. */
import type { Interceptor } from "@connectrpc/connect";

/**
 * The bearer token of every call, or what is asked for it each time, so that one that was renewed is
 * used at once.
 */
export type Token = string | (() => string | Promise<string>);

/** Writes the token into each call, before other interceptors see it. */
export function bearer(token: Token): Interceptor {
  return (next) => async (request) => {
    const said = typeof token === "string" ? token : await token();
    request.header.set("authorization", `Bearer ${said}`);
    return next(request);
  };
}
