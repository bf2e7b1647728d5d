// The console's build: one page, one script and one style, which a server can send with the strictest
// Content-Security-Policy. Its names have the hash of their content, so that they can be kept for ever.
import { fileURLToPath, URL } from "node:url";

import { defineConfig } from "vite";

const client = (path) => fileURLToPath(new URL(`../typescript/${path}`, import.meta.url));

export default defineConfig({
  base: "./",
  publicDir: false,
  resolve: {
    alias: [
      { find: /^pullcord$/, replacement: client("src/index.ts") },
      { find: /^pullcord\/browser$/, replacement: client("src/browser.ts") },
    ],
    // The client's code is beside this folder: what it needs comes from here, once.
    dedupe: ["@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-web"],
  },
  build: {
    target: "es2022",
    outDir: "build/console",
    emptyOutDir: true,
    assetsInlineLimit: 0, // no data: addresses, which the policy refuses
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
});
