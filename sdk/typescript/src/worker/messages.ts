/** What the service's thread and the worker say to each other beside shared memory. */

import type { SharedMemory } from "../memory/shared.js";
import type { Settings } from "../options.js";

/** What the worker starts with. */
export interface WorkerData {
  readonly settings: Settings;
  readonly memory: SharedMemory;
  readonly producer: string;
  readonly startedUs: number;
}

/** To the worker. */
export type ToWorker =
  /** Tell once this many events, counted in 32 bits, are acknowledged. */
  | { readonly kind: "flush"; readonly id: number; readonly emitted: number }
  /** The service's gauges as sampled now. */
  | { readonly kind: "gauges"; readonly values: Record<string, number> }
  /** The state changed: a beat is due. */
  | { readonly kind: "state" };

/** From the worker. */
export type FromWorker =
  | { readonly kind: "flushed"; readonly id: number; readonly isDone: boolean }
  | { readonly kind: "warning"; readonly text: string }
  | { readonly kind: "ended"; readonly isDone: boolean };
