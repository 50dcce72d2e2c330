/**
 * Lets Node run TypeScript: `node --import serin-sdk/ts main.ts`, with no build and no network.
 *
 * Types are stripped in place, so that lines and columns stay as written. From Node 22.18 on Node does
 * it by itself, and nothing is registered here. For older ones the package `amaro`, which is Node's
 * own stripper, has to be installed.
 */

import { register } from "node:module";

if (!process.features || !("typescript" in process.features) || !process.features.typescript) {
  register("./ts-hooks.js", import.meta.url);
}
