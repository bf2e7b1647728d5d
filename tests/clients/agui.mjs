// AG-UI's own client, unchanged: runs what the first argument names, and says what it got as JSON. With
// `abort` as the second one it leaves at the first word.
import { createRequire } from "node:module";

const require = createRequire(`${process.cwd()}/package.json`);
const { HttpAgent } = require("@ag-ui/client");

const [url, mode] = process.argv.slice(2);
const agent = new HttpAgent({ url, threadId: "t" });
agent.messages = [{ id: "m", role: "user", content: "hello" }];
const kinds = [];
const result = await agent.runAgent(
  { runId: "r" },
  {
    onEvent: ({ event }) => {
      kinds.push(event.type);
    },
    onTextMessageContentEvent: () => {
      if (mode === "abort") agent.abortRun();
    },
  },
);
const texts = result.newMessages.map((message) => message.content);
console.log(JSON.stringify({ kinds, texts }));
