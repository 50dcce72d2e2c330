/**
 * Sends on what earlier runs left on disk, under the numbers it had.
 *
 * Beside the sender, one message at a time: order within a run is kept, and a message the bus has
 * already is known by its number. A folder is removed once all of it is acknowledged.
 */

import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";

import type { Msg } from "@nats-io/transport-node";

import { Away, TooLarge, type Bus } from "../bus/bus.js";
import type { Batch } from "./batches.js";
import { batchesOf, forget, type Left } from "./left.js";
import { ACK_WITHIN_MS, batchHeaders, readAck } from "./send.js";

/** Between two tries of the same message. */
const RETRY_PAUSE_MS = 500;

/** What replaying works with. */
export interface ReplayParts {
  readonly bus: Bus;
  readonly subject: string;
  /** Counts a batch that is larger than the bus takes as lost, and gives one without events in its place. */
  readonly emptied: (lost: Batch) => Batch;
  readonly warn: (text: string) => void;
}

/** Sends everything that is left, however long the bus is away. */
export async function replay({ bus, subject, emptied, warn }: ReplayParts, left: readonly Left[]): Promise<void> {
  const inbox = `_INBOX.${randomBytes(12).toString("hex")}`;
  /** The number that is under way is the last word of its reply subject. */
  let answered: ((ack: Msg) => void) | undefined;
  bus.subscribe(`${inbox}.*`, (ack) => answered?.(ack));
  for (const run of left) {
    try {
      for (const batch of batchesOf(run)) {
        while (!(await send(run, batch))) await pause(RETRY_PAUSE_MS);
      }
      forget(run);
    } catch (error) {
      // It stays where it is, for a later run to try.
      warn(`cannot send on what an earlier run left in ${run.folder}: ${String(error)}`);
    }
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
      if (error instanceof TooLarge) return await send(run, emptied(batch));
      if (error instanceof Away) return false;
      throw error;
    }
    const answer = await Promise.race([ack, pause(ACK_WITHIN_MS, undefined, { ref: false })]);
    if (answer === undefined) return false;
    const refusal = readAck(answer);
    if (refusal?.isFinal && batch.events > 0) return await send(run, { ...emptied(batch), events: 0 });
    return refusal === undefined;
  }
}
