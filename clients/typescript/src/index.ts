/** What the package offers anywhere. `pullcord/node` connects from Node. */
export { CALL_TIMEOUT_MS, type ClientOptions, RunClient } from "./client.js";
export * from "./errors.js";
export type * from "./requests.js";
export { DEFAULT_PACE, MAX_TIMEOUT_MS, type Pace, type Result } from "./resume.js";
export { RunStream } from "./stream.js";
export * from "./v1/cancel_pb.js";
export * from "./v1/error_pb.js";
export * from "./v1/event_pb.js";
export * from "./v1/run_pb.js";
export * from "./v1/run_service_pb.js";
export * from "./v1/runnable_pb.js";
export { VERSION } from "./version.js";
