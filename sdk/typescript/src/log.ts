/**
 * Log lines on `tel.log`, each with the trace of the work under way.
 *
 * What a service writes to its standard output is told by whoever started it; so what goes through here is
 * written there on a terminal alone.
 */

import { format } from "node:util";

import { Context } from "./context.js";
import type { Outlet } from "./core.js";
import { nowUs } from "./memory/clock.js";

/** How serious a line is. */
export type Level = "error" | "warn" | "info" | "debug";
/** What a line says beside its message. */
export type Fields = Record<string, unknown>;

const CONSOLE = { debug: "debug", log: "info", info: "info", warn: "warn", error: "error" } as const;

/** Tells log lines. */
export class Logger {
  readonly #outlet: () => Outlet;
  readonly #source: string | undefined;

  /** `source` is the part of the program that tells. */
  constructor(outlet: () => Outlet, source?: string) {
    this.#outlet = outlet;
    this.#source = source;
  }

  /** Something failed. */
  error(message: string, fields?: Fields): void {
    this.log("error", message, fields);
  }

  /** Something is not as it should be. */
  warn(message: string, fields?: Fields): void {
    this.log("warn", message, fields);
  }

  /** Something happened. */
  info(message: string, fields?: Fields): void {
    this.log("info", message, fields);
  }

  /** Something for whoever looks for a fault. */
  debug(message: string, fields?: Fields): void {
    this.log("debug", message, fields);
  }

  /** A line of any level; for handlers of other loggers. */
  log(level: Level, message: string, fields?: Fields): void {
    if (process.stdout.isTTY) process.stdout.write(`${level} ${message} ${fields ? textOf(plain(fields)) : ""}\n`);
    this.#tell(level, message, fields);
  }

  /**
   * Has the lines of `console` told as well, with their trace, and written out on a terminal alone. What it
   * returns gives `console` back.
   */
  takeConsole(): () => void {
    const before = Object.entries(CONSOLE).map(([name, level]) => {
      const method = name as keyof typeof CONSOLE;
      const own = console[method];
      console[method] = (...values: unknown[]) => {
        if (process.stdout.isTTY) own.apply(console, values);
        this.#tell(level, format(...values));
      };
      return { method, own };
    });
    return () => {
      for (const { method, own } of before) console[method] = own;
    };
  }

  #tell(level: Level, message: string, fields?: Fields): void {
    const { trace } = Context.current();
    this.#outlet().tell("log", {
      time: nowUs(),
      level,
      message,
      ...(this.#source === undefined ? {} : { source: this.#source }),
      ...(trace ? { trace_id: trace.traceId } : {}),
      ...(fields ? { fields: plain(fields) } : {}),
    });
  }
}

/** Fields that surely have JSON: themselves where they are plain, else their text. */
function plain(fields: Fields): Fields {
  const isPlain = (value: unknown) => value === null || ["string", "number", "boolean"].includes(typeof value);
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, isPlain(value) ? value : textOf(value)]),
  );
}

function textOf(value: unknown): string {
  if (value instanceof Error) return value.stack ?? value.message;
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}
