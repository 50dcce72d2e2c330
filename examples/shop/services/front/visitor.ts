/** Who is asking: a visitor is known by a cookie, which is made at the first page. */

import { randomBytes } from "node:crypto";

import type { WebRequest } from "serin-sdk";

/** Where the shop delivers to. */
export const COUNTRIES: Record<string, string> = {
  de: "Germany",
  at: "Austria",
  ch: "Switzerland",
  fr: "France",
  nl: "Netherlands",
  it: "Italy",
};
const YEAR_S = 31_536_000;

/** A visitor, and whether this is the first page. */
export interface Visitor {
  readonly visitor: string;
  readonly country: string;
  readonly isNew: boolean;
}

/** Reads the cookies of a request; what they hold came from outside. */
export function visitorOf({ headers }: WebRequest): Visitor {
  const pairs = (headers["cookie"] ?? "").split(/; */).map((pair) => pair.split("=", 2) as [string, string?]);
  const cookies = Object.fromEntries(pairs);
  const { visitor = "", country = "" } = cookies;
  const isKnown = /^[0-9a-f]{16}$/.test(visitor);
  return {
    visitor: isKnown ? visitor : randomBytes(8).toString("hex"),
    country: Object.hasOwn(COUNTRIES, country) ? country : "de",
    isNew: !isKnown,
  };
}

/** The header that makes a browser keep something. */
export function kept(name: "visitor" | "country", value: string): readonly [string, string] {
  return ["set-cookie", `${name}=${value}; Path=/; Max-Age=${YEAR_S}; SameSite=Lax; HttpOnly`];
}
