/** Reads `application/x-serin-events`, as `wire/src/batch.rs` writes it. For tests. */

/** An event as expectations see it. */
export interface Event {
  type: string;
  data: Record<string, unknown>;
  service: string;
  version: string;
  instance: string;
  id: string;
  time_us: number;
  trace: string | null;
  arm: string | null;
}

const CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

export function readBatch(bytes: Buffer): Event[] {
  if (bytes.toString("latin1", 0, 3) !== "SB\x01") throw new Error('the batch does not start with "SB" and version 1');
  let at = 4;
  const take = (length: number) => {
    if (at + length > bytes.length) throw new Error(`the batch ends in the middle of an event, at byte ${at}`);
    return bytes.subarray(at, (at += length));
  };
  const text = () => {
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = take(1)[0] ?? 0;
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) return take(length).toString("utf8");
    }
  };
  const [service, version, instance] = [text(), text(), text()];
  const events: Event[] = [];
  while (at < bytes.length) {
    const present = take(1)[0] ?? 0;
    const time_us = Number(take(8).readBigInt64LE());
    const id = ulid(BigInt(`0x${take(16).toString("hex")}`));
    const type = text();
    const trace = present & 1 ? traceparent(take(25)) : null;
    const arm = present & 2 ? text() : null;
    events.push({ service, version, instance, id, type, time_us, trace, arm, data: JSON.parse(text()) });
  }
  return events;
}

const ulid = (value: bigint) =>
  Array.from({ length: 26 }, (_, place) => CROCKFORD[Number((value >> BigInt(125 - 5 * place)) & 31n)]).join("");

function traceparent(bytes: Buffer): string {
  const hex = bytes.toString("hex");
  return `00-${hex.slice(0, 32)}-${hex.slice(32, 48)}-${hex.slice(48)}`;
}
