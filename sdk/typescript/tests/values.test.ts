/** Values: the ring between threads, records on disk as the other SDKs write them, routes, merging. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { TooLarge, type Bus } from "../dist/bus/bus.js";
import { Trouble } from "../dist/bus/trouble.js";
import { merge } from "../dist/calls/packet.js";
import { hasTrial, otherThan, slotOf, versionOf } from "../dist/calls/route.js";
import { Ring } from "../dist/memory/ring.js";
import { Ulids } from "../dist/memory/ulid.js";
import { fromEnvironment, resolve } from "../dist/options.js";
import { Sampler, type Offer } from "../dist/sample.js";
import { parseTrace, toTraceparent } from "../dist/trace.js";
import { sendLines } from "../dist/worker/lines.js";
import { checksum, encode, read } from "../dist/worker/segment.js";
import { CpuShare } from "../dist/worker/usage.js";

test("a ring gives back what was put in, in order, around its end", () => {
  const ring = new Ring(Ring.memory(1 << 10));
  let [put, taken, refused] = [0, 0, 0];
  // Lengths from 1 to 300 in an order that repeats late.
  const length = (n: number) => 1 + ((n * 197) % 300);
  for (let round = 0; round < 5_000; round++) {
    const at = ring.reserve(length(put));
    if (at < 0) {
      refused += 1;
    } else {
      ring.bytes.fill(put & 0xff, at, at + length(put));
      ring.commit();
      put += 1;
      if (round % 3 !== 0) continue;
    }
    const record = ring.peek();
    assert.equal(record?.length, length(taken));
    assert(record.every((byte) => byte === (taken & 0xff)));
    ring.release();
    taken += 1;
  }
  assert(refused > 100 && put > 1_000, `${put} put, ${refused} refused`);
});

test("an empty ring begins anew, and still holds a burst before its reader has looked", () => {
  const capacity = 8 << 20;
  const ring = new Ring(Ring.memory(capacity));
  const put = () => {
    const at = ring.reserve(1_000);
    if (at >= 0) ring.commit();
    return at;
  };
  const take = () => {
    ring.peek();
    ring.release();
  };
  let [last, end, next] = [0, 0, put()];
  for (let turns = 0; turns < 3; next = put()) {
    if (next < last) turns += 1;
    last = next;
    end = Math.max(end, next);
    take();
  }
  assert(end < capacity / 2, "a quiet ring stays small");
  // It begins anew now; its reader looks no more.
  for (; next > last; next = put()) {
    last = next;
    take();
  }
  let held = 1;
  while (put() >= 0) held += 1;
  assert(held * 1_000 > capacity / 5, `${held} fit`);
});

test("records on disk are those of the other SDKs", () => {
  // From sdk/python: checksum(b"0123456789abcdefXYZ", 7), and of nothing.
  assert.equal(checksum(Buffer.from("0123456789abcdefXYZ"), 7), 0x3be98918a1a10ea3n);
  assert.equal(checksum(new Uint8Array(), 2 ** 40 + 1), 0xcbf29de484222324n);
  const batches = [1, 2].map((number) => ({ number, events: 3, sealedUs: 1_700_000_000_000_000 + number, payload: Buffer.alloc(100, number) }));
  const bytes = Buffer.concat(batches.map(encode));
  assert.deepEqual(read(bytes, 0), { whole: batches, damaged: [] });
});

test("what is behind damage on disk is read", () => {
  // Of 100 bytes, with three events each.
  const records = (...numbers: number[]) =>
    Buffer.concat(numbers.map((number) => encode({ number, events: 3, sealedUs: 7, payload: Buffer.alloc(68, number) })));
  const found = (bytes: Buffer, after: number) => {
    const { whole, damaged } = read(bytes, after);
    return [whole.map(({ number }) => number), damaged.map(({ number, events }) => [number, events])];
  };
  assert.deepEqual(found(records(5, 6, 8), 4), [[5, 6, 8], []]);
  // A bit of the payload, of the number, of the length.
  for (const [at, events] of [[150, 3], [105, 1], [102, 3]] as const) {
    const flipped = records(5, 6, 7);
    flipped[at]! ^= 0x10;
    assert.deepEqual(found(flipped, 4), [[5, 7], [[6, events]]]);
  }
  // Zeros over two records, and over the first of a segment.
  assert.deepEqual(found(records(5, 6, 7, 8).fill(0, 120, 250), 4), [[5, 8], [[6, 1], [7, 1]]]);
  assert.deepEqual(found(records(5, 6).fill(0, 0, 40), 0), [[6], [[5, 1]]]);
  // A torn end.
  for (const cut of [1, 60, 67]) assert.deepEqual(found(records(5, 6).subarray(0, 200 - cut), 0), [[5], [[6, 3]]]);
  assert.deepEqual(found(records(5, 6).subarray(0, 120), 0), [[5], [[6, 1]]]);
  assert.deepEqual(found(Buffer.alloc(0), 0), [[], []]);
});

test("lines that are more than the bus takes are counted as lost", () => {
  const ring = new Ring(Ring.memory(1 << 10));
  for (const line of ["one", "two"]) {
    const at = ring.reserve(1 + line.length);
    // The byte of a log.
    ring.bytes[at] = 1;
    ring.bytes.write(line, at + 1);
    ring.commit();
  }
  const bus = {
    isConnected: true,
    publish() {
      throw new TooLarge("more than the bus takes");
    },
  };
  const lost: [string, number][] = [];
  sendLines(ring, bus as unknown as Bus, (kind) => kind, (kind, count) => lost.push([kind, count]));
  assert.deepEqual(lost, [["log", 2]]);
});

test("ULIDs rise, also when the clock goes back", () => {
  const ulids = new Ulids();
  const made = [5_000_000, 5_000_000, 1_000, 5_001_000].map((us) => {
    const bytes = Buffer.alloc(16);
    ulids.write(us, bytes, 0);
    return bytes.toString("hex");
  });
  assert.deepEqual(made, [...new Set(made)].sort());
});

test("routes", () => {
  const route = { versions: [{ version: "v2", weight: 500 }, { version: "v1", weight: 9_500 }] };
  assert.deepEqual([0, 499, 500, 9_999].map((slot) => versionOf(route, slot)), ["v2", "v2", "v1", "v1"]);
  assert.equal(versionOf({ versions: [] }, 0), undefined);
  assert.equal(otherThan(route, "v1"), "v2");
  assert(hasTrial(route) && !hasTrial({ versions: [{ version: "v1", weight: 10_000 }, { version: "v2", weight: 0 }] }));
  assert.equal(slotOf("cart", "ada"), 7140);
});

test("what is there stays, and conflicts are told", () => {
  const data = { price: { net: 10 }, sku: "a", list: [1] };
  const hop = { added: [], conflicts: [] };
  merge(data, JSON.parse('{"sku":"b","price":{"net":10,"tax":2},"list":[1],"__proto__":{"x":1}}'), hop);
  assert.deepEqual(hop, { added: ["__proto__", "price.tax"], conflicts: ["sku"] });
  assert.equal(({} as { x?: number }).x, undefined);
});

test("traceparents that the standard has ignored are ignored", () => {
  const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const trace = parseTrace(good);
  assert(trace && toTraceparent(trace) === good);
  for (const bad of ["", `${good}-more`, good.replace("00-", "ff-"), good.replace(/4bf9\w+/, "0".repeat(32))]) {
    assert.equal(parseTrace(bad), undefined, bad);
  }
  assert(parseTrace(`${good.replace("00-", "01-")}-more`));
});

test("options say what is wrong", () => {
  assert.throws(() => fromEnvironment({}), /SERIN_BUS is not set/);
  assert.throws(() => resolve({ bus: "nats://h", service: "No" }), /service name "No"/);
  assert.throws(() => resolve({ bus: "nats://:::", service: "a" }), /must look like/);
  const { address, version, instance } = resolve({ bus: "nats://a%40b:c@[::1]:99", service: "a" });
  assert.deepEqual(address, { host: "::1", port: 99, user: "a@b", password: "c" });
  assert.match(instance, new RegExp(`^a-${version}-[0-9a-f]{6}$`));
});

/** Traces spread over their range, as random identities are. */
const offer = (n: number, more: Partial<Offer> = {}): Offer => {
  const traceId = ((BigInt(n) * 0x9e3779b97f4a7c15n) & ((1n << 64n) - 1n)).toString(16).padStart(32, "0");
  return { traceId, flags: 1, name: "add", durationUs: 1_000, hasFailed: false, ...more };
};

/** Offers so many spans a second for four seconds; how many were kept in the last one. */
function keptPerS(sampler: Sampler, perS: number): number {
  let kept = 0;
  for (let n = 0; n < 4 * perS; n++) {
    if (sampler.keeps(offer(n), (n / perS) * 1000) && n >= 3 * perS) kept += 1;
  }
  return kept;
}

test("few spans are all told, many fit the budget, failed and slow ones always", () => {
  assert.equal(keptPerS(new Sampler(0), 400), 400);
  const busy = new Sampler(0);
  const kept = keptPerS(busy, 20_000);
  assert(kept > 400 && kept < 650, `${kept}`);
  const unlucky = "0".repeat(31) + "1";
  const keeps = (more: Partial<Offer>) => busy.keeps(offer(0, { traceId: unlucky, ...more }), 4_000);
  assert.deepEqual([{}, { hasFailed: true }, { durationUs: 5_000 }].map(keeps), [false, true, true]);
  assert(!busy.keeps(offer(7, { flags: 0 }), 4_000));
});

test("a moment does not change the share of a core", () => {
  const share = new CpuShare(1_000_000, 0);
  assert.equal(share.next(1_010_000, 5), 0);
  assert.equal(share.next(1_500_000, 1_000), 0.5);
  assert.equal(share.next(1_510_000, 1_010), 0.5);
  // What was used in that moment is in the next share.
  assert.equal(share.next(2_490_000, 2_000), 0.99);
});

test("a bus that turns us away for a moment is not told of, one that goes on is, once", () => {
  const [away, refused] = ["authorization violation", "permissions violation"];
  const trouble = new Trouble();
  const told = (said: string, ...timesMs: number[]) => timesMs.map((nowMs) => trouble.isNews(said, nowMs));
  assert.deepEqual(told(away, 0, 100), [false, false]);
  trouble.end();
  assert.deepEqual(told(away, 900, 1_800, 1_900, 2_000), [false, false, true, false]);
  assert.deepEqual(told(refused, 2_000, 2_001), [true, false]);
});
