/** The conformance driver on Node: reads from stdin what it is to do, and writes to stdout what came of it. */
import { createInterface } from "node:readline";

import { connect } from "pullcord/node";

import { Driver } from "./answers.js";

const driver = new Driver(connect);
for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${await driver.answer(line)}\n`);
}
driver.close();
