/** Hooks of Node's module loader that strip the types of `.ts` files; registered by `ts.ts`. */

import { readFile } from "node:fs/promises";
import type { LoadHook } from "node:module";
import { fileURLToPath } from "node:url";

import { transformSync } from "amaro";

/** Loads a `.ts` or `.mts` file as a module without its types. */
export const load: LoadHook = async (url, context, nextLoad) => {
  const path = url.startsWith("file:") ? fileURLToPath(url) : "";
  if (!/\.m?ts$/.test(path)) return await nextLoad(url, context);
  const source = await readFile(path, "utf8");
  const { code } = transformSync(source, { mode: "strip-only", filename: path });
  return { format: "module", source: code, shortCircuit: true };
};
