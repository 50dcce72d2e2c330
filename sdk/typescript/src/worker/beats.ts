/**
 * Beats every second and pulses every 250 ms, over a connection of their own.
 *
 * In the worker, so that a busy event loop of the service does not silence them: it is told in the
 * gauge `event_loop_lag_ms`. What cannot be sent now is not sent later: the next beat says it better.
 */

import { Away, TooLarge, type Bus } from "../bus/bus.js";
import { monotonicMs, type Shared } from "../memory/shared.js";
import type { Sender } from "../subject.js";
import { TICK_MS } from "../tick.js";
import type { Mark } from "./batches.js";
import { CpuShare, cpuUs } from "./usage.js";

const BEAT_EVERY_MS = 1_000;
const PULSE_EVERY_MS = 250;

/** What beats are made from. */
export interface BeatParts {
  readonly shared: Shared;
  readonly bus: Bus;
  readonly beatSubject: string;
  readonly pulseSubject: string;
  readonly who: Sender;
  readonly producer: string;
  readonly startedUs: number;
  readonly nowUs: () => number;
  readonly mark: () => Mark;
}

/** See the module. */
export class Beats {
  readonly #parts: BeatParts;
  #number = 0;
  #cpu = new CpuShare(cpuUs(), performance.now());
  #beatAtMs = 0;
  #pulse: NodeJS.Timeout | undefined;
  /** The service's gauges, as they were last sampled. */
  gauges: Record<string, number> = {};

  constructor(parts: BeatParts) {
    this.#parts = parts;
  }

  /** Tells from now on, until {@link stop}. */
  start(): void {
    this.#pulse = setInterval(() => this.#turn(), PULSE_EVERY_MS);
  }

  /** Tells a beat at once: the state or the connection changed. */
  tellNow(): void {
    this.#beatAtMs = 0;
    this.#turn();
  }

  /** Tells a last beat. */
  stop(): void {
    clearInterval(this.#pulse);
    if (this.#parts.bus.isConnected) this.#publish(this.#parts.beatSubject, this.#next());
  }

  #turn(): void {
    const { bus, beatSubject, pulseSubject } = this.#parts;
    // Without a connection, the requests that a beat would tell wait for the next.
    if (!bus.isConnected) return;
    const nowMs = performance.now();
    // Beats go with pulses: due at the fourth, a little early or late.
    if (nowMs >= this.#beatAtMs - PULSE_EVERY_MS / 2) {
      this.#beatAtMs = nowMs + BEAT_EVERY_MS;
      this.#publish(beatSubject, this.#next());
    }
    this.#publish(pulseSubject, "");
  }

  #publish(subject: string, payload: string): void {
    try {
      this.#parts.bus.publish(subject, payload);
    } catch (error) {
      if (!(error instanceof Away || error instanceof TooLarge)) throw error;
    }
  }

  #next(): string {
    const { shared, who, producer, startedUs, nowUs } = this.#parts;
    this.#number += 1;
    const { requests, errors } = shared.takeRequests();
    const { number, timeUs } = this.#parts.mark();
    const dropped = shared.dropped();
    return JSON.stringify({
      ...who,
      number: this.#number,
      time_us: nowUs(),
      started_us: startedUs,
      state: shared.state,
      cpu: this.#cpu.next(cpuUs(), performance.now()),
      memory_bytes: process.memoryUsage.rss(),
      in_flight: shared.inFlight,
      queued_events: shared.queued,
      requests,
      errors,
      gauges: { ...this.gauges, event_loop_lag_ms: shared.takeLagMs(monotonicMs(), TICK_MS) },
      ...(Object.keys(dropped).length > 0 ? { dropped } : {}),
      sealed: { producer, epoch: 0, number, time_us: timeUs },
    });
  }
}
