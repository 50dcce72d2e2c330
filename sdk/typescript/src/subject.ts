/** The subjects on the bus, as `wire/src/subject.rs` has them. */

/** Who a message of telemetry is from. */
export interface Sender {
  readonly service: string;
  readonly version: string;
  readonly instance: string;
}

/** Where changed routes are told. */
export const ROUTES = "ctl.routes";
/** Where the routes of this moment are asked for. */
export const ROUTES_GET = "ctl.routes.get";

/**
 * What the subjects begin with to which answers to a user of the bus come: `_INBOX.<user>`, which no other service
 * may read. A name that is no word of a subject has none of its own.
 */
export const inbox = (user: string | undefined) =>
  user !== undefined && /^[A-Za-z0-9_-]+$/.test(user) ? `_INBOX.${user}` : "_INBOX";

/** Many events in one message. */
export const batch = (service: string) => `ev.${service}._batch`;

/** `tel.<what>.<service>.<version>.<instance>`. */
export const telemetry = (what: "beat" | "pulse" | "span" | "log" | "req", from: Sender) =>
  `tel.${what}.${from.service}.${from.version}.${from.instance}`;

/** A call to one version; the queue group is the version. */
export const call = (service: string, version: string, endpoint: string) =>
  `svc.${service}.${version}.${endpoint}`;

/** A call to one instance. */
export const callInstance = (from: Sender, endpoint: string) =>
  `${call(from.service, from.version, endpoint)}.${from.instance}`;

/** A call of a client that knows no versions. */
export const callAny = (service: string, endpoint: string) => `svc.${service}.${endpoint}`;
