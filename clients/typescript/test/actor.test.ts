/** An actor travels in metadata whatever its letters. */
import assert from "node:assert/strict";
import { it } from "node:test";

import { actorValue } from "../src/actor.js";

it("plain characters travel as they are, and the others as percent-encoded UTF-8", () => {
  assert.equal(actorValue("ann+1@example.com"), "ann+1@example.com");
  assert.equal(actorValue("!~"), "!~");
  assert.equal(actorValue("Zoë 100%"), "Zo%C3%AB%20100%25");
  assert.equal(actorValue("\u{1F68B}\n\u007f"), "%F0%9F%9A%8B%0A%7F");
});

it("an actor is cut after 256 characters, and never within one", () => {
  assert.equal(actorValue("x".repeat(300)), "x".repeat(256));
  assert.equal(actorValue("\u{1F68B}".repeat(257)), "%F0%9F%9A%8B".repeat(256));
});

it("half a character is replaced", () => {
  assert.equal(actorValue("a\ud83db"), "a%EF%BF%BDb");
});
