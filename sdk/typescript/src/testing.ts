/**
 * For the tests of a service: its handlers run without a bus, and what they emit is seen.
 *
 * @example
 * const events = await recording(app, () => hello(WebRequest.of("GET /?name=Ada")));
 * assert.deepEqual(events, [{ type: "greeting.sent", data: { to: "Ada" } }]);
 */

import type { Outlet } from "./core.js";
import type { Serin } from "./serin.js";
import { Span } from "./span.js";
import { childOf } from "./trace.js";

/** An event as it would travel. */
export interface Recorded {
  readonly type: string;
  readonly data: unknown;
}

/** Runs a function with what the service emits kept in a list; what has no JSON throws. */
export async function recording(app: Serin, work: () => unknown): Promise<Recorded[]> {
  const events: Recorded[] = [];
  const recorder: Outlet = {
    who: { service: "test", version: "dev", instance: "test-dev-1" },
    emit: (type, data) => events.push({ type, data: JSON.parse(JSON.stringify(data)) }),
    tell: () => {},
    beginSpan: (name, above, attributes = {}, began = { us: 0, ms: performance.now() }) =>
      new Span(name, childOf(above), above, began, attributes),
    endSpan: () => {},
    setState: () => {},
  };
  app.recordTo(recorder);
  try {
    await work();
  } finally {
    app.recordTo(undefined);
  }
  return events;
}
