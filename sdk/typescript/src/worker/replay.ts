/**
 * Sends on what earlier runs left on disk, under the numbers it had.
 *
 * Beside the sender, one message at a time: order within a run is kept, and a message the bus has
 * already is known by its number. A segment is removed once all of it is acknowledged. What the disk does not
 * give back whole is counted, and its number kept by a message without events, once it is sure that no later
 * segment has it; what cannot be read stays.
 */

import { unlinkSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";

import type { Msg } from "@nats-io/transport-node";

import { Away, TooLarge, type Bus } from "../bus/bus.js";
import type { Reason } from "../dropped.js";
import type { Batch } from "./batches.js";
import { contentsOf, forget, segmentsOf, type Left } from "./left.js";
import type { Contents } from "./segment.js";
import { ACK_WITHIN_MS, batchHeaders, readAck } from "./send.js";

/** Between two tries of the same message. */
const RETRY_PAUSE_MS = 500;

/** What replaying works with. */
export interface ReplayParts {
  readonly bus: Bus;
  readonly subject: string;
  /** Counts a batch as lost for a reason, and gives one without events in its place. */
  readonly emptied: (lost: Batch, reason: Reason) => Batch;
  readonly warn: (text: string) => void;
}

/** Sends everything that is left, however long the bus is away. */
export async function replay({ bus, subject, emptied, warn }: ReplayParts, left: readonly Left[]): Promise<void> {
  const inbox = bus.newInbox();
  /** The number that is under way is the last word of its reply subject. */
  let answered: ((ack: Msg) => void) | undefined;
  bus.subscribe(`${inbox}.*`, (ack) => answered?.(ack));
  for (const run of left) {
    try {
      await sendRun(run);
    } catch (error) {
      // It stays where it is, for a later run to try.
      warn(`cannot send on what an earlier run left in ${run.folder}: ${String(error)}`);
    }
  }

  async function sendRun(run: Left): Promise<void> {
    const numbers = new Set<number>();
    const damaged: Batch[] = [];
    let last = 0;
    let unreadable: unknown;
    for (const path of segmentsOf(run)) {
      let contents: Contents;
      try {
        contents = contentsOf(path, last);
      } catch (error) {
        unreadable = error;
        continue;
      }
      for (const batch of contents.whole) {
        last = batch.number;
        numbers.add(last);
        await deliver(run, batch);
      }
      damaged.push(...contents.damaged);
      if (contents.damaged.length === 0) unlinkSync(path);
      else warn(`left events in ${path} are damaged`);
    }
    if (unreadable !== undefined) throw unreadable;
    for (const lost of damaged) {
      if (!numbers.has(lost.number)) await deliver(run, emptied(lost, "spill-lost"));
    }
    forget(run);
  }

  async function deliver(run: Left, batch: Batch): Promise<void> {
    while (!(await send(run, batch))) await pause(RETRY_PAUSE_MS);
  }

  /** Whether the bus has it. */
  async function send(run: Left, batch: Batch): Promise<boolean> {
    await bus.connected();
    const reply = `${inbox}.${batch.number}`;
    const ack = new Promise<Msg>((tell) => {
      answered = (message) => {
        if (message.subject === reply) tell(message);
      };
    });
    try {
      bus.publish(subject, batch.payload, { reply, headers: batchHeaders(run.producer, run.epoch, batch.number) });
    } catch (error) {
      if (error instanceof TooLarge) return await send(run, emptied(batch, "too-large"));
      if (error instanceof Away) return false;
      throw error;
    }
    const answer = await Promise.race([ack, pause(ACK_WITHIN_MS, undefined, { ref: false })]);
    if (answer === undefined) return false;
    const refusal = readAck(answer);
    if (refusal?.isFinal && batch.events > 0) return await send(run, { ...emptied(batch, "too-large"), events: 0 });
    return refusal === undefined;
  }
}
