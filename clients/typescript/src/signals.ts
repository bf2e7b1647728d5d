/**
 * AbortSignals that belong to a call: tied to those of the caller while it lasts, and let go after it,
 * so that a signal that outlives many calls does not gather listeners.
 */

/** Aborts with the first of other signals, or by itself, until it is let go. */
export class Tied {
  readonly #controller = new AbortController();
  readonly #followed: AbortSignal[];

  constructor(...signals: (AbortSignal | undefined)[]) {
    this.#followed = signals.filter((signal) => signal !== undefined);
    for (const signal of this.#followed) {
      if (signal.aborted) this.abort(signal.reason);
      else signal.addEventListener("abort", this.#follow);
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(reason?: unknown): void {
    this.letGo();
    this.#controller.abort(reason);
  }

  letGo(): void {
    for (const signal of this.#followed) signal.removeEventListener("abort", this.#follow);
  }

  readonly #follow = (event: Event): void => {
    this.abort((event.target as AbortSignal).reason);
  };
}

/** Waits, never too short; a signal ends the wait. */
export async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  const end = performance.now() + milliseconds;
  // A timer counts from when its turn of the loop began, and so may come a little early.
  for (let left = milliseconds; left > 0 && !signal.aborted; left = end - performance.now()) {
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, Math.ceil(left));
      signal.addEventListener("abort", done);
    });
  }
}
