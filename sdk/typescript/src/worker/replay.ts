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

/** Sends everything that is left, however long the bus is away. */
export async function replay(bus: Bus, subject: string, left: readonly Left[]): Promise<void> {
  const inbox = `_INBOX.${randomBytes(12).toString("hex")}`;
  /** The number that is under way is the last word of its reply subject. */
  let answered: ((ack: Msg) => void) | undefined;
  bus.subscribe(`${inbox}.*`, (ack) => answered?.(ack));
  for (const run of left) {
    for (const batch of batchesOf(run)) {
      while (!(await send(run, batch))) await pause(RETRY_PAUSE_MS);
    }
    forget(run);
  }

  /** Whether the bus has it, or never can. */
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
      if (error instanceof TooLarge) return true;
      if (error instanceof Away) return false;
      throw error;
    }
    const answer = await Promise.race([ack, pause(ACK_WITHIN_MS, undefined, { ref: false })]);
    return answer !== undefined && readAck(answer) === undefined;
  }
}
