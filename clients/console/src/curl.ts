/** The requests of the console as commands that a terminal takes. */
import { toJson } from "@bufbuild/protobuf";
import { RunSpecSchema, type RunSpec } from "pullcord";

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

export function startCommand(spec: RunSpec): string {
  const body = JSON.stringify({ spec: toJson(RunSpecSchema, spec) });
  return [
    `curl ${location.origin}/pullcord.v1.RunService/StartRun`,
    `  -H 'content-type: application/json'`,
    `  -d ${quoted(body)}`,
  ].join(" \\\n");
}

export function followCommand(runId: string): string {
  return `curl -N ${location.origin}/v1/runs/${runId}/events`;
}

export function stopCommand(runId: string): string {
  return `curl -X POST ${location.origin}/v1/runs/${runId}/cancel`;
}
