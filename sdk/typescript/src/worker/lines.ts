/**
 * Lines of JSON on their way out: logs, spans and requests, gathered from shared memory.
 *
 * They wait in the ring while the bus is away; what does not fit there is counted as dropped where it
 * is told. A record is one byte that says what it is, and the line.
 */

import { Away, TooLarge, type Bus } from "../bus/bus.js";
import type { Ring } from "../memory/ring.js";

/** What lines tell, by the words they have in subjects; a word's place here is its byte. */
export const LINE_KINDS = ["span", "log", "req"] as const;
export type LineKind = (typeof LINE_KINDS)[number];

/** Largest message, well below NATS's default of 1 MiB. */
const MESSAGE_BYTES_MAX = 512 << 10;
const NEW_LINE = Buffer.from("\n");

/** Sends everything that waits in the ring; `lose` counts what the bus did not get, which is not sent again. */
export function sendLines(
  ring: Ring,
  bus: Bus,
  subjectOf: (kind: LineKind) => string,
  lose: (kind: LineKind, count: number) => void,
): void {
  const parts = LINE_KINDS.map((): Buffer[] => []);
  let bytes = 0;
  const send = () => {
    for (const [place, kind] of LINE_KINDS.entries()) {
      const lines = parts[place]?.splice(0) ?? [];
      if (lines.length === 0) continue;
      try {
        bus.publish(subjectOf(kind), Buffer.concat(lines));
      } catch (error) {
        if (!(error instanceof Away || error instanceof TooLarge)) throw error;
        // Each line and its end.
        lose(kind, lines.length / 2);
      }
    }
    bytes = 0;
  };
  while (bus.isConnected) {
    const record = ring.peek();
    if (!record) break;
    if (bytes + record.length > MESSAGE_BYTES_MAX) send();
    parts[record[0] ?? 0]?.push(Buffer.from(record.subarray(1)), NEW_LINE);
    bytes += record.length;
    ring.release();
  }
  send();
}
