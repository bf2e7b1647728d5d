/** The page: the bar on top, the list, and the open run beside it; on a phone one of the two. */
import type { VNode } from "preact";

import { signedOut } from "../api.js";
import { openId } from "../place.js";
import { Bar } from "./bar.js";
import { Bulk } from "./bulk.js";
import { Help } from "./help.js";
import { List } from "./list.js";
import { OpenRun } from "./run.js";
import { SignIn } from "./signin.js";
import { Spoken } from "./spoken.js";
import { Start } from "./start.js";

export function App(): VNode {
  if (signedOut.value) return <SignIn />;
  return (
    <div class={openId.value ? "app open" : "app"}>
      <Bar />
      <main>
        <List />
        <OpenRun />
      </main>
      <Start />
      <Bulk />
      <Help />
      <Spoken />
    </div>
  );
}
