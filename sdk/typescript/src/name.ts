/**
 * Names of services, versions, instances and event types, and the rules they keep.
 *
 * The same rules as `wire/src/name.rs`: a name that passes is safe as a NATS subject token, a file
 * name and a table name. Each check returns what is wrong, or nothing.
 */

const SHORT_NAME = /^[a-z0-9][a-z0-9-]{0,31}$/;
const INSTANCE = /^[A-Za-z0-9_-]{1,96}$/;
const TYPE = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/;
const TYPE_CHARACTERS_MAX = 128;
const OWN_TABLES = new Set(
  "beats requests logs spans metrics decisions usage refused events".split(" "),
);

const shown = (name: string) => JSON.stringify(name.slice(0, 64));

/** Checks the name of a service, a version or an endpoint. */
export function checkName(what: "service" | "version" | "endpoint" | "chain", name: string): string | undefined {
  return SHORT_NAME.test(name)
    ? undefined
    : `${what} name ${shown(name)} must be 1 to 32 of a-z, 0-9 and '-', and start with a letter or digit`;
}

/** Checks the name of an instance. */
export function checkInstance(name: string): string | undefined {
  return INSTANCE.test(name)
    ? undefined
    : `instance name ${shown(name)} must be 1 to 96 of a-z, A-Z, 0-9, '-' and '_'`;
}

/** Checks an event type. */
export function checkType(name: string): string | undefined {
  if (name.length > TYPE_CHARACTERS_MAX || !TYPE.test(name)) {
    return (
      `event type ${shown(name)} must be words of a-z, A-Z, 0-9, '_' and '-' joined by dots, at most ` +
      `${TYPE_CHARACTERS_MAX} characters, such as order.paid`
    );
  }
  const lower = name.toLowerCase();
  if (OWN_TABLES.has(lower)) {
    return `event type ${shown(name)} is the name of one of Serin's own tables; choose another, such as app.${name}`;
  }
  if (lower.startsWith("serin.")) {
    return `event types starting with "serin." are Serin's own; ${shown(name)} needs another name`;
  }
  return undefined;
}
