/**
 * What a service does again and again beside its calls, for as long as it serves. Start at {@link Periodic.start}.
 */

/** What is done; it may take its time. */
export type Task = () => unknown;

/** A function, and how often it runs. */
export class Periodic {
  readonly #everyMs: number;
  readonly #task: Task;
  readonly #warn: (text: string) => void;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  #isOver = false;

  constructor(everyMs: number, task: Task, warn: (text: string) => void) {
    this.#everyMs = everyMs;
    this.#task = task;
    this.#warn = warn;
  }

  /** Runs it from now on, for the first time after one period. */
  start(): void {
    this.#wait(performance.now() + this.#everyMs);
  }

  /** Begins no further run; resolves when the one under way has ended. */
  async end(): Promise<void> {
    this.#isOver = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** A run that takes long makes the next one late, and none runs beside it. */
  #wait(dueMs: number): void {
    this.#timer = setTimeout(() => {
      this.#running = this.#once().then(() => {
        if (!this.#isOver) this.#wait(Math.max(dueMs + this.#everyMs, performance.now()));
      });
    }, dueMs - performance.now());
  }

  /** What one throws is told, and the next comes all the same. */
  async #once(): Promise<void> {
    try {
      await this.#task();
    } catch (error) {
      this.#warn(`the task ${this.#task.name || "without a name"} failed: ${String(error)}`);
    }
  }
}
