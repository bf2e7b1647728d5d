/**
 * A stop button: starts a story, prints it as it comes, and stops it on Enter, or after two seconds
 * where nobody sits at the terminal. `pullcord serve` is the server; its address may be the argument.
 */
import { once } from "node:events";
import { setTimeout as after } from "node:timers/promises";

import { timestampDate, type Timestamp } from "@bufbuild/protobuf/wkt";
import { CancelCause, CancelOutcome, type CancelRunResponse, type RunStream } from "pullcord";
import { connect } from "pullcord/node";

const ATTENDED = process.stdin.isTTY;

async function main(target: string | undefined): Promise<void> {
  using client = connect(target);
  const stream = client.run({ runnable: "agents/storyteller", input: "a lighthouse that hums" });
  const pressed = new AbortController();
  const receipt = button(stream, pressed.signal);
  if (ATTENDED) console.log("Press Enter to stop the story.\n");
  for await (const event of stream) {
    if (event.payload.case === "contentDelta") process.stdout.write(event.payload.value.text);
  }
  pressed.abort();
  console.log(
    `\n\n${String(stream.result?.value.output.length)} characters were made and are kept.`,
  );
  show(await receipt);
}

/** Stops the run once somebody asks for it; undefined where the story ended before. */
async function button(
  stream: RunStream,
  ended: AbortSignal,
): Promise<CancelRunResponse | undefined> {
  try {
    if (ATTENDED) await once(process.stdin, "data", { signal: ended });
    else await after(2_000, undefined, { signal: ended });
  } catch {
    return undefined;
  } finally {
    process.stdin.pause(); // so that the process can end
  }
  return stream.cancel({ reason: "the reader has heard enough", wait: { seconds: 5n } });
}

function show(receipt: CancelRunResponse | undefined): void {
  if (!receipt) {
    console.log("The story had ended before anybody stopped it.");
    return;
  }
  const stop = receipt.run?.cancellation;
  console.log(`outcome    ${CancelOutcome[receipt.outcome]}`);
  console.log(`cause      ${stop ? CancelCause[stop.cause] : "-"}, by ${stop?.actor ?? "-"}`);
  console.log(`reason     ${stop?.reason ?? "-"}`);
  console.log(`accepted   ${time(receipt.acceptTime)}`);
  console.log(`delivered  ${time(receipt.deliverTime)}`);
  console.log(`stopped    ${time(receipt.stopTime)}`);
}

function time(moment: Timestamp | undefined): string {
  return moment ? timestampDate(moment).toISOString().slice(11, 23) : "-";
}

await main(process.argv[2]);
