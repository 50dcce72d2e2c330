/** What a scenario expects, against what came; the rules are in tests/conformance/README.md. */

import { isDeepStrictEqual } from "node:util";

/** Why it does not match; empty where it does. */
export function mismatch(expected: unknown, found: unknown, at = "it"): string {
  const different = () => `${at}: expected ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`;
  if (Array.isArray(expected)) {
    if (!Array.isArray(found) || found.length !== expected.length) return different();
    return first(expected.map((one, index) => mismatch(one, found[index], `${at}[${index}]`)));
  }
  if (typeof expected !== "object" || expected === null) {
    return isDeepStrictEqual(expected, found ?? null) ? "" : different();
  }
  const [rule, value] = Object.entries(expected)[0] ?? [];
  if (rule?.startsWith("$")) {
    const matches = RULES[rule];
    if (!matches) return `${at}: no rule is called ${rule}`;
    return matches(value, found) ? "" : different();
  }
  if (typeof found !== "object" || found === null) return different();
  const fields = found as Record<string, unknown>;
  return first(Object.entries(expected).map(([key, each]) => mismatch(each, fields[key], `${at}.${key}`)));
}

const first = (problems: string[]) => problems.find((problem) => problem !== "") ?? "";
const isThere = (found: unknown) => found !== undefined && found !== null;

const RULES: Record<string, (value: any, found: unknown) => boolean> = {
  $absent: (_, found) => !isThere(found),
  $any: (_, found) => isThere(found),
  $regex: (value, found) => typeof found === "string" && new RegExp(`^(?:${value})$`).test(found),
  $contains: (value, found) => typeof found === "string" && found.includes(value),
  $lacks: (value, found) => typeof found === "string" && !found.includes(value),
  $all: (value, found) => value.every((one: unknown) => mismatch(one, found) === ""),
  $integer: (_, found) => /^\d+$/.test(String(found)),
  $between: (value, found) => isThere(found) && value[0] <= Number(found) && Number(found) <= value[1],
  $exactly: (value, found) => isDeepStrictEqual(value, found),
  $unordered: (value, found) =>
    Array.isArray(found) && isDeepStrictEqual(sorted(value), sorted(found)),
};

const sorted = (values: unknown[]) => values.map((value) => JSON.stringify(value)).sort();
