/** The SDK against the real nats-server: what is emitted is in the stream once, whatever happens. */

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, rmdirSync, statSync, writeFileSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { test, type TestContext } from "node:test";

import { connect, Context, defineEvent, type Options, type Serin } from "../dist/index.js";
import { PATIENCE_MS, Fixture, until } from "./fixture.ts";

const PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const SDK = new URL("../dist/index.js", import.meta.url).href;
const cartFilled = defineEvent<{ by: string }>("cart.filled");

async function fixtureFor(t: TestContext): Promise<Fixture> {
  const fixture = new Fixture();
  t.after(() => fixture.close());
  await fixture.start();
  return fixture;
}

function connectTo(t: TestContext, fixture: Fixture, more: Partial<Options> = {}): Serin {
  const app = connect(fixture.options(more));
  t.after(() => app.drain({ deadlineMs: 100 }));
  return app;
}

function emitNumbers(app: Serin, first: number, end: number): void {
  for (let n = first; n < end; n++) app.emit("order.paid", { n, text: "some more bytes for the batch" });
}

async function checkAll(fixture: Fixture, count: number): Promise<void> {
  const found = await fixture.events();
  assert.deepEqual(found.map(({ data }) => data["n"]), Array.from({ length: count }, (_, n) => n));
  const ids = found.map(({ id }) => id);
  assert.deepEqual(ids, [...new Set(ids)].sort());
}

async function flush(app: Serin): Promise<void> {
  assert(await app.flush({ timeoutMs: PATIENCE_MS }), JSON.stringify(app.counts()));
}

function program(t: TestContext, fixture: Fixture, text: string): ChildProcess {
  const path = join(fixture.folder, "program.mjs");
  writeFileSync(path, text.replace('"serin-sdk"', JSON.stringify(SDK)));
  const env = {
    ...process.env,
    SERIN_BUS: fixture.url,
    SERIN_SERVICE: "cart",
    SERIN_VERSION: "v3",
    SERIN_INSTANCE: "cart-v3-1",
    SERIN_SPILL_DIR: fixture.spill,
  };
  const child = spawn(process.execPath, [path], { env, stdio: ["ignore", "inherit", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  return child;
}

async function exitCode(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null) await once(child, "exit");
  return child.exitCode;
}

test("what is emitted is in the stream", async (t) => {
  const fixture = await fixtureFor(t);
  const app = connectTo(t, fixture);
  app.emit("order.paid", { amount: 3 });
  app.emit(cartFilled, { by: "me" });
  Context.fromHeaders(PARENT, "cart=v8").run(() => app.emit("a"));
  for (const refused of [3, [1], "text"]) app.emit("c", refused as never);
  app.emit("d", { value: 1n });
  app.emit("no good", {});
  app.emit("serin.decision", {});
  app.emit("large", { text: "x".repeat(600 << 10) });
  app.emit("nan", { value: NaN, text: "Zoë 🛒" });
  await flush(app);
  const found = await fixture.events();
  assert.deepEqual(
    found.map(({ type, data }) => [type, data]),
    [
      ["order.paid", { amount: 3 }],
      ["cart.filled", { by: "me" }],
      ["a", {}],
      ["nan", { value: null, text: "Zoë 🛒" }],
    ],
  );
  assert.deepEqual([found[2]?.trace, found[2]?.arm], [PARENT, "cart=v8"]);
  const dropped = { "bad-type": 2, "not-an-object": 3, "not-json": 1, "too-large": 1 };
  assert.deepEqual(app.counts(), { emitted: 4, acknowledged: 4, dropped });
});

test("a killed bus loses and doubles nothing", async (t) => {
  const fixture = await fixtureFor(t);
  const app = connectTo(t, fixture);
  for (let round = 0; round < 3; round++) {
    emitNumbers(app, round * 3000, (round + 1) * 3000);
    await fixture.stop();
    await fixture.start();
  }
  emitNumbers(app, 9000, 12_000);
  await flush(app);
  await checkAll(fixture, 12_000);
});

test("a killed run leaves what it spilled to a later one", async (t) => {
  const fixture = await fixtureFor(t);
  await fixture.stop();
  const killed = program(
    t,
    fixture,
    `import { connect } from "serin-sdk";
     const app = connect();
     for (let n = 0; n < 5000; n++) app.emit("order.paid", { n });
     setInterval(() => {}, 1000);`,
  );
  await until(() => fixture.isSpilled());
  // The open batch waits a second while the bus is away, then all of it is on disk.
  await until(() => fixture.spilledEvents() === 5000);
  killed.kill("SIGKILL");
  await exitCode(killed);
  await fixture.start();
  const later = connectTo(t, fixture);
  await until(() => !fixture.isSpilled());
  later.emit("order.paid", { n: 5000 });
  await flush(later);
  await checkAll(fixture, 5001);
  const producers = (await fixture.events()).map(({ message_id }) => message_id.split("/")[0]);
  assert.equal(new Set(producers).size, 2);
});

test("damage on disk is counted and costs no more than its batch", async (t) => {
  const fixture = await fixtureFor(t);
  await fixture.stop();
  const earlier = connectTo(t, fixture);
  emitNumbers(earlier, 0, 5000);
  assert.equal(await earlier.drain({ deadlineMs: 100 }), false);
  const [segment] = fixture.segments();
  assert(segment);
  const file = openSync(segment, "r+");
  writeSync(file, Buffer.alloc(4), 0, 4, Math.floor(statSync(segment).size / 2));
  closeSync(file);
  // A segment that cannot be read; the run's others are sent, and it stays.
  mkdirSync(join(dirname(segment), "00000000.seg"));
  await fixture.start();
  const later = connectTo(t, fixture);
  await until(async () => (await fixture.events()).length > 2000);
  later.emit("order.paid", { n: 5000 });
  assert(await later.drain({ deadlineMs: PATIENCE_MS }));
  assert.deepEqual(later.counts().dropped, {});
  const unreadable = fixture.segments().find((path) => path.endsWith("00000000.seg"));
  assert(unreadable);
  rmdirSync(unreadable);
  const last = connectTo(t, fixture);
  await until(() => !fixture.isSpilled());
  const lost = last.counts().dropped["spill-lost"] ?? 0;
  assert(lost > 0 && lost < 2000, `${lost}`);
  assert.equal((await fixture.events()).length + lost, 5001);
});

test("what nobody will send is counted", async (t) => {
  const fixture = await fixtureFor(t);
  await fixture.stop();
  const app = connectTo(t, fixture, { spillDir: null });
  emitNumbers(app, 0, 5000);
  assert.equal(await app.drain({ deadlineMs: 100 }), false);
  assert.deepEqual(app.counts(), { emitted: 5000, acknowledged: 0, dropped: { abandoned: 5000 } });
});

test("events wait on disk and the bound holds", async (t) => {
  const fixture = await fixtureFor(t);
  await fixture.stop();
  const app = connectTo(t, fixture, { queueBytesMax: 1 << 20, spillBytesMax: 2 << 20 });
  let emitted = 0;
  await until(() => {
    emitNumbers(app, emitted, emitted + 100);
    emitted += 100;
    return "spill-full" in app.counts().dropped;
  });
  assert(fixture.spilledBytes() <= 2 << 20);
  await fixture.start();
  await flush(app);
  const { emitted: taken, dropped } = app.counts();
  assert.equal(taken + Object.values(dropped).reduce((sum, count) => sum + count), emitted);
  const ids = (await fixture.events()).map(({ id }) => id);
  assert.equal(ids.length, taken);
  assert.deepEqual(ids, [...new Set(ids)].sort());
});

test("a stuck bus never blocks emit", async (t) => {
  const fixture = await fixtureFor(t);
  const app = connectTo(t, fixture);
  emitNumbers(app, 0, 100);
  await flush(app);
  fixture.send("SIGSTOP");
  const began = performance.now();
  emitNumbers(app, 100, 20_000);
  const tookMs = performance.now() - began;
  fixture.send("SIGCONT");
  assert(tookMs < 5_000, `emitting took ${tookMs} ms`);
  await flush(app);
  await checkAll(fixture, 20_000);
});

test("all that a slow bus has not taken at the end rests on disk", async (t) => {
  const fixture = await fixtureFor(t);
  const app = connectTo(t, fixture);
  emitNumbers(app, 0, 100);
  await flush(app);
  fixture.send("SIGSTOP");
  // More than may be under way and wait beside the ring, less than half of the ring.
  emitNumbers(app, 100, 60_000);
  assert.equal(await app.drain({ deadlineMs: 300 }), false);
  fixture.send("SIGCONT");
  assert.deepEqual(app.counts(), { emitted: 60_000, acknowledged: 100, dropped: {} });
  assert.equal(fixture.spilledEvents(), 59_900);
});

test("nobody waits for a sending thread that failed", { timeout: PATIENCE_MS }, async (t) => {
  const fixture = await fixtureFor(t);
  const made = once(process, "worker");
  const app = connectTo(t, fixture);
  const [worker] = await made;
  await worker.terminate();
  app.emit("order.paid", { n: 0 });
  assert.equal(await app.flush(), false);
});

test("beats and pulses go on while the event loop stands still, and say so", async (t) => {
  const fixture = await fixtureFor(t);
  const told: any[] = [];
  let pulses = 0;
  const countPulse = () => {
    pulses += 1;
  };
  fixture.client.subscribe("tel.beat.cart.v3.cart-v3-1", { callback: (_, message) => void told.push(message.json()) });
  fixture.client.subscribe("tel.pulse.cart.v3.cart-v3-1", { callback: countPulse });
  await fixture.client.flush();
  const app = connectTo(t, fixture);
  app.gauge("queue.depth", () => 7).gauge("bad", () => {
    throw new Error("no");
  });
  app.emit("bad type", {});
  await app.request(() => {});
  await until(() => told.length > 0);
  const [before, pulsesBefore] = [told.length, pulses];
  // Nothing in this thread runs meanwhile.
  const began = performance.now();
  for (let n = 0; performance.now() - began < 3_500; ) {
    if (performance.now() - began > n) emitNumbers(app, n, ++n);
  }
  const wereBusyUntilUs = Date.now() * 1000;
  await until(() => told.length >= before + 2 && pulses - pulsesBefore >= 8);
  assert(told[before + 1].time_us < wereBusyUntilUs, "the second beat was told only after the loop went on");
  assert.deepEqual(told.map(({ number }) => number), told.map((_, at) => at + 1));
  assert(told[before + 1].gauges.event_loop_lag_ms >= 1_000, JSON.stringify(told[before + 1].gauges));
  assert.equal(told[before].gauges["queue.depth"], 7);
  assert.equal("bad" in told[before].gauges, false);
  assert.deepEqual(told[before].dropped, { "bad-type": 1 });
  assert.equal(told.reduce((sum, { requests }) => sum + requests.count, 0), 1);
  assert(told[0].memory_bytes > 1 << 20);
  await flush(app);
  const found = await fixture.events();
  for (const { sealed } of told) {
    const wrong = found.filter(
      ({ time_us, message_id }) =>
        time_us <= sealed.time_us && Number(message_id.split("/").at(-1)) > sealed.number,
    );
    assert.deepEqual(wrong.slice(0, 1), [], JSON.stringify(sealed));
  }
});

test("the end of a program drains", async (t) => {
  const fixture = await fixtureFor(t);
  const child = program(
    t,
    fixture,
    `import { connect } from "serin-sdk";
     const { SERIN_BUS: bus, SERIN_SPILL_DIR: spillDir } = process.env;
     const app = connect({ bus, service: "cart", spillDir, drainDeadlineMs: ${PATIENCE_MS} });
     for (let n = 0; n < 500; n++) app.emit("order.paid", { n });`,
  );
  assert.equal(await exitCode(child), 0);
  await checkAll(fixture, 500);
});

test("SIGTERM ends a service after its calls", async (t) => {
  const fixture = await fixtureFor(t);
  const child = program(
    t,
    fixture,
    `import { service } from "serin-sdk";
     import { existsSync } from "node:fs";
     import { setTimeout } from "node:timers/promises";
     const app = service();
     app.endpoint("slow", async () => {
       app.emit("slow.begun");
       while (!existsSync(process.env.SERIN_SPILL_DIR + ".gate")) await setTimeout(5);
       app.emit("slow.ended");
       return "done";
     });
     app.run();`,
  );
  const asked = retried(fixture, "svc.cart.v3.slow");
  await until(async () => (await fixture.events()).length > 0);
  child.kill("SIGTERM");
  writeFileSync(`${fixture.spill}.gate`, "");
  assert.equal(await asked, "done");
  assert.equal(await exitCode(child), 143);
  assert.deepEqual((await fixture.events()).map(({ type }) => type), ["slow.begun", "slow.ended"]);
});

test("SIGTERM ends a service whose bus is away", async (t) => {
  const fixture = await fixtureFor(t);
  await fixture.stop();
  const child = program(
    t,
    fixture,
    `import { service } from "serin-sdk";
     const app = service();
     app.emit("order.paid", { n: 0 });
     app.run({ deadlineMs: 300 });
     process.kill(process.pid, "SIGTERM");`,
  );
  assert.equal(await exitCode(child), 143);
  assert(fixture.isSpilled());
});

async function retried(fixture: Fixture, subject: string): Promise<unknown> {
  let answer: unknown;
  await until(async () => {
    try {
      answer = (await fixture.request(subject, {})).json();
      return true;
    } catch (error) {
      assert.match(String(error), /no responders/i);
      return false;
    }
  });
  return answer;
}
