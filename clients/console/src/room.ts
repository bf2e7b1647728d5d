/**
 * The few connections that a browser has to one origin over HTTP/1.1, six in all of its tabs together, and
 * how the console leaves room among them for the Stop button:
 *
 * 1. A tab holds one stream at most, and none while it is hidden: of its run, else of the list.
 * 2. All tabs together hold four for long, of lists two at most; another tab looks for a second now and then.
 * 3. A stop that is not answered at once asks every tab to leave its stream. They come back.
 */

/** The places that runs take, and those that lists do, so that some are always there for runs. */
const RUN = [3, 2, 1, 0] as const;
export const LIST = [0, 1] as const;
const LOOK_MS = 1_000;
const BETWEEN_LOOKS_MS = 2_000;
const PATIENCE_MS = 150;
/** How long the tabs stay away, so that what waited is answered. */
const AWAY_MS = 700;

const channel =
  typeof BroadcastChannel === "undefined" ? undefined : new BroadcastChannel("pullcord");
const leaving = new Set<() => void>();

function leaveAll(): void {
  for (const leave of [...leaving]) leave();
}

channel?.addEventListener("message", leaveAll);

/** A stop goes first: where its answer takes long, the streams of all tabs make room. */
export async function first<T>(call: () => Promise<T>): Promise<T> {
  const timer = setTimeout(() => {
    channel?.postMessage("leave");
    leaveAll();
  }, PATIENCE_MS);
  try {
    return await call();
  } finally {
    clearTimeout(timer);
  }
}

/** How a tab follows its run: all the time, or by looks at it, because other tabs follow theirs. */
export type Way = "live" | "looks";

/**
 * Opens a stream again and again, by the rules above, until it says that nothing more will come.
 *
 * @param open Follows until `left` aborts, and must then end soon; whether nothing more will come.
 */
export async function inTurn(
  open: (left: AbortSignal) => Promise<boolean>,
  gone: AbortSignal,
  onWay: (way: Way) => void,
  places: readonly number[] = RUN,
): Promise<void> {
  while (!gone.aborted) {
    await visible(gone);
    const release = await slot(places);
    onWay(release ? "live" : "looks");
    let over: boolean;
    let away = 0;
    try {
      const left = new AbortController();
      const leave = (): void => {
        away = AWAY_MS;
        left.abort();
      };
      const follow = (): void => {
        if (gone.aborted || document.hidden) left.abort();
      };
      const timer = release ? undefined : setTimeout(() => left.abort(), LOOK_MS);
      leaving.add(leave);
      gone.addEventListener("abort", follow);
      document.addEventListener("visibilitychange", follow);
      try {
        follow();
        over = left.signal.aborted ? false : await open(left.signal);
      } finally {
        clearTimeout(timer);
        leaving.delete(leave);
        gone.removeEventListener("abort", follow);
        document.removeEventListener("visibilitychange", follow);
      }
    } finally {
      release?.();
    }
    if (over) return;
    await rest(away || (release ? 0 : BETWEEN_LOOKS_MS), gone);
  }
}

async function visible(gone: AbortSignal): Promise<void> {
  while (document.hidden && !gone.aborted) {
    await new Promise<void>((resolve) => {
      const done = (): void => resolve();
      document.addEventListener("visibilitychange", done, { once: true });
      gone.addEventListener("abort", done, { once: true });
    });
  }
}

export async function rest(ms: number, gone: AbortSignal): Promise<void> {
  if (ms <= 0 || gone.aborted) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      gone.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    gone.addEventListener("abort", done);
  });
}

/**
 * One of the places for a stream that lasts; undefined: all are taken. Where the browser has no locks (a
 * page of plain http that is not of this machine) there is always one: the third rule must do.
 */
async function slot(places: readonly number[]): Promise<(() => void) | undefined> {
  const locks = (navigator as Partial<Navigator>).locks;
  if (!locks) return () => undefined;
  for (const number of places) {
    const release = await new Promise<(() => void) | undefined>((resolve) => {
      const name = `pullcord-stream-${number}`;
      locks
        .request(name, { ifAvailable: true }, (lock) => {
          if (!lock) {
            resolve(undefined);
            return undefined;
          }
          return new Promise<void>((let_go) => resolve(let_go));
        })
        .catch(() => resolve(() => undefined));
    });
    if (release) return release;
  }
  return undefined;
}
