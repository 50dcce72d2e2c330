// Reads JSON without rounding: a whole number beyond 2^53 stays the digits it came as, a text.
//
// A browser that does not tell a reviver what stood in the text rounds it, as it always did. Pure.
// Start at `parseExact`.

/** A whole number as text. */
export const WHOLE = /^-?\d+$/;

// 2^53 has 16 digits. Each value is looked at only where one so long begins somewhere: that takes longer.
const LONG = /(?:^|[[,:])\s*-?\d{16}/;

export function parseExact(text: string): unknown {
  return JSON.parse(text, LONG.test(text) ? exact : undefined);
}

/** What `JSON.parse` is to put in place of a value. */
export function exact(_key: string, value: unknown, context?: { source?: string }): unknown {
  const source = context?.source;
  const isRounded = typeof value === 'number' && !Number.isSafeInteger(value) && source !== undefined && WHOLE.test(source);
  return isRounded ? source : value;
}
