/**
 * Why something was not taken. Nothing is dropped without being counted under one of these, and the
 * counts travel with every beat.
 */

/** The reasons, by the names they have in beats; a reason's place here is its place in memory. */
export const REASONS = [
  "queue-full",
  "spill-full",
  "not-an-object",
  "not-json",
  "too-large",
  "bad-type",
  "drained",
  "spill-lost",
  "abandoned",
  "span-full",
  "span-sampled",
  "log-full",
  "request-full",
  "span-lost",
  "log-lost",
  "request-lost",
] as const;

/** Why an event, a span, a line or a request was not taken. */
export type Reason = (typeof REASONS)[number];
