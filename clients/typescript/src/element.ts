/**
 * `<pullcord-run>`: a run's text, its Stop button, and the receipt, for any page. Importing this registers
 * it. What happens to the run is `button/live`'s business.
 *
 *     <pullcord-run run-id="…" token="…" server="https://runs.example.com"></pullcord-run>
 */
import { LABELS, type Labels } from "./button/labels.js";
import { isOver, LiveRun, type LiveOptions, type Shown, type Stop } from "./button/live.js";

export type { Labels } from "./button/labels.js";
export type { Receipt, Shown, State, Stop } from "./button/live.js";

const STYLE = `
:host { display: block; }
:host([hidden]) { display: none; }
[part=text] { white-space: pre-wrap; overflow-wrap: anywhere; }
[part=bar] { display: flex; flex-wrap: wrap; gap: 0.4em 0.8em; align-items: center; min-height: 2.4em; }
[part=state] { font-weight: 600; }
[part=receipt], [part=note] { opacity: 0.8; }
[part=stop] {
  font: inherit; font-weight: 600; min-width: 6em; padding: 0.35em 1em; border: 0; border-radius: 0.45em;
  background: var(--pullcord-stop, #c22f2a); color: var(--pullcord-stop-text, #fff); cursor: pointer;
}
[part=stop]:focus-visible { outline: 2px solid; outline-offset: 2px; }
[hidden] { display: none !important; }
`;

// A page that is rendered by a server imports this, too; there it is no element.
const Base = (globalThis.HTMLElement as typeof HTMLElement | undefined) ?? (Object as never);

/** Fires `pullcord-change` with every change, and `pullcord-end` once; their detail is a Shown. */
export class PullcordRun extends Base {
  static readonly observedAttributes = ["run-id", "server", "token", "text"];

  readonly #parts = {
    text: part("text", "div"),
    stop: part("stop", "button"),
    state: part("state", "span"),
    receipt: part("receipt", "span"),
    note: part("note", "span"),
  };
  #labels = LABELS;
  #token: LiveOptions["token"];
  #run: LiveRun | undefined;
  #ignore: (() => void) | undefined;
  #drawn = "";

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    const { text, stop, state, receipt, note } = this.#parts;
    stop.setAttribute("type", "button");
    stop.addEventListener("click", () => {
      void this.stop({ now: this.#run?.shown.state === "stopping" });
    });
    state.setAttribute("role", "status");
    const bar = part("bar", "div");
    bar.append(stop, state, receipt, note);
    root.append(text, bar);
  }

  /** Words in place of ours; those that are not given stay. */
  set labels(given: Partial<Labels>) {
    this.#labels = { ...LABELS, ...given };
    this.#draw();
  }

  get labels(): Labels {
    return this.#labels;
  }

  /** The token, or what fetches a new one from your backend; it stands above the attribute. */
  set token(given: LiveOptions["token"]) {
    this.#token = given;
    this.#begin();
  }

  get token(): LiveOptions["token"] {
    return this.#token ?? this.getAttribute("token") ?? undefined;
  }

  /** The run as it is now. */
  get shown(): Shown | undefined {
    return this.#run?.shown;
  }

  /** Stops the run, as the button does; with `reason`, or the attribute of that name. */
  async stop(stop: Stop = {}): Promise<void> {
    await this.#run?.stop({ reason: this.getAttribute("reason") ?? "", ...stop });
  }

  connectedCallback(): void {
    this.#begin();
  }

  disconnectedCallback(): void {
    this.#ignore?.();
    this.#ignore = undefined;
  }

  attributeChangedCallback(_name: string, before: string | null, after: string | null): void {
    if (before !== after) this.#begin();
  }

  #begin(): void {
    const runId = this.getAttribute("run-id");
    if (!this.isConnected || !runId) return;
    this.#ignore?.();
    const { token } = this;
    const server = this.getAttribute("server") ?? undefined;
    const run = new LiveRun(runId, { server, token });
    this.#run = run;
    this.#ignore = run.listen(() => {
      this.#draw();
      this.#tell("pullcord-change");
      if (isOver(run.shown.state) && this.#drawn !== runId) {
        this.#drawn = runId;
        this.#tell("pullcord-end");
      }
    });
    this.#draw();
  }

  #tell(name: string): void {
    this.dispatchEvent(
      new CustomEvent(name, { detail: this.shown, bubbles: true, composed: true }),
    );
  }

  #draw(): void {
    const { shown } = this;
    if (!shown) return;
    const { state, text, receipt, error, lost, refused } = shown;
    const labels = this.#labels;
    const write = (name: "stop" | "state" | "receipt" | "note", words: string): void => {
      const node = this.#parts[name];
      if (node.textContent !== words) node.textContent = words;
      node.hidden = !words;
    };
    const said = this.#parts.text;
    const known = said.textContent;
    if (text.startsWith(known) && said.lastChild) {
      (said.lastChild as Text).appendData(text.slice(known.length));
    } else if (text !== known) said.textContent = text;
    said.hidden = this.getAttribute("text") === "hidden";
    write(
      "stop",
      isOver(state) || receipt?.now ? "" : state === "stopping" ? labels.stopNow : labels.stop,
    );
    write("state", labels[state]);
    write("receipt", receipt ? labels.receipt(receipt) : "");
    write("note", refused || error || (lost ? labels.lost : ""));
    this.dataset["state"] = state;
  }
}

function part(name: string, tag: string): HTMLElement {
  const made = document.createElement(tag);
  made.setAttribute("part", name);
  return made;
}

if (typeof customElements !== "undefined" && !customElements.get("pullcord-run")) {
  customElements.define("pullcord-run", PullcordRun);
}
