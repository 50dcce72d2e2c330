/** Runs tests/conformance/scenarios.json against this SDK and a real nats-server. */

import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Runner } from "./runner.ts";

const file = process.env["SERIN_SCENARIOS"] ?? new URL("../../../tests/conformance/scenarios.json", import.meta.url);

for (const scenario of JSON.parse(readFileSync(file, "utf8")).scenarios) {
  test(`conformance: ${scenario.name}`, async () => await new Runner(scenario).run());
}
