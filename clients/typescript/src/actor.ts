/**
 * How a caller says who it is: one metadata entry that every client writes alike. Whether an actor is
 * who it says is not decided here.
 */

/** The metadata entry that says who asks. */
export const ACTOR_KEY = "pullcord-actor";

const MAX_ACTOR_LENGTH = 256;

/** An actor as metadata can carry it: percent-encoded UTF-8 where it is not printable ASCII. */
export function actorValue(actor: string): string {
  const characters = Array.from(actor).slice(0, MAX_ACTOR_LENGTH);
  const bytes = new TextEncoder().encode(characters.join(""));
  return Array.from(bytes, written).join("");
}

function written(byte: number): string {
  const plain = byte > 0x20 && byte < 0x7f && byte !== 0x25; // 0x25 is the percent sign itself
  return plain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
}
