/**
 * Server-sent events over fetch, which can carry a token in a header, as EventSource cannot. It reads one
 * answer; coming back is `live`'s business.
 */

/** The most time between two messages of a server that is there: it sends a comment every 15 s. */
export const SILENCE_MS = 45_000;

/** The data of each message of an answer, as JSON. It ends with the answer, and throws where that breaks. */
export async function* messages(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
  onSilence: () => void,
): AsyncGenerator {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    for (;;) {
      clearTimeout(timer);
      timer = setTimeout(onSilence, SILENCE_MS);
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop() ?? "";
      for (const part of parts) {
        const data = /^data: ?(.*)$/m.exec(part)?.[1];
        if (data !== undefined) yield JSON.parse(data);
      }
    }
  } finally {
    clearTimeout(timer);
    reader.cancel().catch(() => undefined);
  }
}
