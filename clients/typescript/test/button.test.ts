/** The Stop button as a component: it is small. What it does is tested in a browser. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

describe("the Stop button", () => {
  for (const name of ["element", "react"]) {
    it(`is at most 6 kB: pullcord/${name}`, async () => {
      const { outputFiles } = await build({
        entryPoints: [`src/${name}.ts`],
        bundle: true,
        minify: true,
        format: "esm",
        target: "es2022",
        external: ["react"],
        write: false,
      });
      const size = gzipSync(outputFiles[0]?.contents ?? "", { level: 9 }).length;
      assert.ok(size > 1000 && size <= 6000, `${name} has ${String(size)} bytes`);
    });
  }

  it("can be imported where there is no page", async () => {
    await import("pullcord/element");
  });
});
