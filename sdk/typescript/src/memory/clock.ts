/**
 * Microseconds since 1970 UTC, by the system's clock.
 *
 * `Date.now()` knows milliseconds only, and `performance.timeOrigin` does not follow a clock that is
 * set. So the finer clock is held to lie within the millisecond the system's clock tells.
 */

let offsetMs = Date.now() - performance.now();

/** The time now, in whole microseconds. */
export function nowUs(): number {
  const ticks = performance.now();
  const wall = Date.now();
  let now = ticks + offsetMs;
  if (now < wall) now = wall;
  else if (now > wall + 1) now = wall + 1;
  else return Math.floor(now * 1000);
  offsetMs = now - ticks;
  return Math.floor(now * 1000);
}
