/** The NATS micro protocol (ADR-32): PING, INFO and STATS, so that any NATS client sees the service. */

import { Header } from "../calls/headers.js";
import { call, type Sender } from "../subject.js";
import type { Endpoint } from "./endpoint.js";

/** What is asked. */
export const VERBS = ["PING", "INFO", "STATS"] as const;
export type Verb = (typeof VERBS)[number];

/** Where a verb is asked: of all, of this service, of this instance. */
export function subjectsOf(verb: Verb, who: Sender): string[] {
  const root = `$SRV.${verb}`;
  return [root, `${root}.${who.service}`, `${root}.${who.service}.${who.instance}`];
}

/** What is answered; `started` is RFC 3339. */
export function answerTo(
  verb: Verb,
  who: Sender,
  started: string,
  description: string,
  endpoints: readonly Endpoint[],
): object {
  const told = {
    type: `io.nats.micro.v1.${verb.toLowerCase()}_response`,
    name: who.service,
    id: who.instance,
    version: `0.0.0+${who.version}`,
    metadata: { sdk: "serin-typescript", [Header.version]: who.version },
  };
  const head = ({ name }: Endpoint) => ({
    name,
    subject: call(who.service, who.version, name),
    queue_group: who.version,
  });
  switch (verb) {
    case "PING":
      return told;
    case "INFO":
      return {
        ...told,
        description,
        endpoints: endpoints.map((one) => ({
          ...head(one),
          metadata: one.isIdempotent ? { idempotent: "true" } : {},
        })),
      };
    case "STATS":
      return {
        ...told,
        started,
        endpoints: endpoints.map((one) => ({
          ...head(one),
          num_requests: one.requests,
          num_errors: one.errors,
          last_error: one.lastError,
          processing_time: one.processingUs * 1000,
          average_processing_time: Math.round((one.processingUs * 1000) / Math.max(1, one.requests)),
        })),
      };
  }
}
