/**
 * The worker thread: takes events and lines from shared memory, sends them, and tells beats.
 *
 * It has two connections, so that a bus slow to acknowledge events does not hold back beats. It ends
 * when asked to: with everything acknowledged, or with the rest on disk. Start at {@link run}.
 */

import { parentPort, workerData } from "node:worker_threads";

import { Bus } from "../bus/bus.js";
import type { Reason } from "../dropped.js";
import { nowUs } from "../memory/clock.js";
import { batchHead } from "../memory/record.js";
import { Shared } from "../memory/shared.js";
import { batch as batchSubject, telemetry } from "../subject.js";
import { Batches } from "./batches.js";
import { Beats } from "./beats.js";
import { giveBack, takeLeft } from "./left.js";
import { sendLines, type LineKind } from "./lines.js";
import type { FromWorker, ToWorker, WorkerData } from "./messages.js";
import { replay } from "./replay.js";
import { Sender } from "./send.js";
import { Spill } from "./spill.js";

const LOST: Record<LineKind, Reason> = { span: "span-lost", log: "log-lost", req: "request-lost" };
/** Spans, logs and requests go out this often. */
const LINES_EVERY_MS = 250;

const { settings, memory, producer, startedUs } = workerData as WorkerData;
const { service, version, instance, spillParent } = settings;
const who = { service, version, instance };
const shared = new Shared(memory);
const say = (message: FromWorker) => parentPort?.postMessage(message);
const warn = (text: string) => say({ kind: "warning", text });

let wake = () => {};
const bus = new Bus(settings.address, instance, () => wake(), warn);
// It would say what the other says.
const beatBus = new Bus(settings.address, instance, () => beats.tellNow(), () => {});
const batches = new Batches(shared, batchHead(service, version, instance), nowUs);
const left = spillParent === null ? [] : takeLeft(spillParent);
const subject = batchSubject(service);
const sender = new Sender({
  shared,
  batches,
  bus,
  spill: spillParent === null ? undefined : new Spill(spillParent, `${producer}.0`, settings.spillBytesMax),
  subject,
  producer,
  wake: () => wake(),
  warn,
});
const beats = new Beats({
  shared,
  bus: beatBus,
  beatSubject: telemetry("beat", who),
  pulseSubject: telemetry("pulse", who),
  who,
  producer,
  startedUs,
  nowUs,
  mark: () => batches.mark(performance.now()),
});
/** Who waits for acknowledgements, and of how many events. */
let waiting: { id: number; emitted: number }[] = [];
/** Whether a wait on shared memory is under way; one at a time is enough. */
let isListening = false;

parentPort?.on("message", (message: ToWorker) => {
  if (message.kind === "state") beats.tellNow();
  else if (message.kind === "gauges") beats.gauges = message.values;
  else waiting.push(message);
  wake();
});

async function run(): Promise<void> {
  bus.start();
  beatBus.start();
  beats.start();
  if (left.length > 0) void replay({ bus, subject, emptied: (lost, reason) => sender.emptied(lost, reason), warn }, left);
  let endAtMs = Infinity;
  let linesAtMs = 0;
  for (;;) {
    const nowMs = performance.now();
    if (!sender.isEnding && shared.stopWithinMs > 0) {
      endAtMs = nowMs + shared.stopWithinMs;
      sender.isEnding = true;
      beats.tellNow();
    }
    sender.step(nowMs);
    tellFlushed();
    if (linesAtMs <= nowMs || sender.isEnding) {
      sendLines(shared.telemetry, bus, (kind) => telemetry(kind, who), (kind, count) => shared.drop(LOST[kind], count));
      linesAtMs = nowMs + LINES_EVERY_MS;
    }
    if (sender.isEnding && (sender.isDone || endAtMs <= nowMs)) break;
    await rest(Math.max(0, Math.min(sender.restMs(nowMs), linesAtMs - nowMs, endAtMs - nowMs)));
  }
  await end();
}

/** Waits until the time is over or somebody wakes us. */
async function rest(ms: number): Promise<void> {
  if (!isListening) {
    isListening = true;
    void shared.woken().then(() => {
      isListening = false;
      wake();
    });
  }
  const woken = new Promise<void>((tell) => (wake = tell));
  shared.sleep(sender.isIdle);
  // An event that came before we said that we sleep would not wake us.
  if (sender.isIdle && !shared.events.isEmpty && batches.hasRoom) return;
  const timer = setTimeout(() => wake(), ms);
  await woken;
  clearTimeout(timer);
}

function tellFlushed(): void {
  const there = waiting.filter((one) => shared.isSettled(one.emitted));
  if (there.length === 0) return;
  waiting = waiting.filter((one) => !there.includes(one));
  for (const { id } of there) say({ kind: "flushed", id, isDone: true });
}

async function end(): Promise<void> {
  const isDone = sender.leave(performance.now());
  try {
    left.forEach(giveBack);
  } catch (error) {
    warn(`cannot give back what an earlier run left: ${String(error)}`);
  }
  tellFlushed();
  for (const { id } of waiting) say({ kind: "flushed", id, isDone: false });
  beats.stop();
  await Promise.all([bus.close(), beatBus.close()]);
  shared.outcome = isDone ? "done" : "left";
  say({ kind: "ended", isDone });
  // A message that was sent before the thread ends is delivered.
  process.exit();
}

await run();
