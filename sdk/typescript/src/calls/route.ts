/**
 * Which versions of a service are called, and how much each: told on `ctl.routes`.
 *
 * A key (a user, a session) always falls on the same slot, and the versions take the slots in the
 * order of the list. Start at {@link versionOf} and {@link slotOf}.
 */

/** Weights are parts of this many slots. */
export const SLOTS = 10_000;

/** The route of one service. */
export interface Route {
  /** The version under trial first. */
  readonly versions: readonly { readonly version: string; readonly weight: number }[];
  /** Endpoints that may be called twice for one call. */
  readonly idempotent?: readonly string[];
}

/** The routes of all services. */
export interface Routes {
  readonly revision: number;
  readonly services: Readonly<Record<string, Route>>;
}

/** Reads what is told; throws for another shape. */
export function readRoutes(text: string): Routes {
  const { revision, services } = JSON.parse(text) as Routes;
  const isRoute = (route: Route) =>
    Array.isArray(route.versions) &&
    route.versions.every((one) => typeof one.version === "string" && Number.isInteger(one.weight));
  if (!Number.isInteger(revision) || !Object.values(services).every(isRoute)) {
    throw new TypeError("the routes have another shape than this version of the SDK reads");
  }
  return { revision, services };
}

/** The version that a slot falls on; `undefined` where there is none. */
export function versionOf(route: Route, slot: number): string | undefined {
  let end = 0;
  for (const { version, weight } of route.versions) {
    end += weight;
    if (slot < end) return version;
  }
  return route.versions.at(-1)?.version;
}

/** The version with the most weight, leaving one out; `undefined` where no other takes calls. */
export function otherThan(route: Route, avoided: string): string | undefined {
  const others = route.versions.filter(({ version, weight }) => version !== avoided && weight > 0);
  return others.sort((one, other) => other.weight - one.weight)[0]?.version;
}

/** Whether more than one version takes calls. */
export function hasTrial(route: Route): boolean {
  return route.versions.filter(({ weight }) => weight > 0).length > 1;
}

/** The slot of a key at a service: FNV-1a over `<service>/<key>`, mixed as MurmurHash3 ends. */
export function slotOf(service: string, key: string): number {
  let hash = 0x811c_9dc5;
  for (const byte of Buffer.from(`${service}/${key}`)) hash = Math.imul(hash ^ byte, 0x0100_0193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) % SLOTS;
}
