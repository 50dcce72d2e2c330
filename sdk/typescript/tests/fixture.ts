/** A real nats-server for tests, on a free port, in a folder of its own. */

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

import { connect, headers as newHeaders, type Msg, type NatsConnection } from "@nats-io/transport-node";

import type { Options } from "../dist/index.js";
import { read } from "../dist/worker/segment.js";
import { readBatch, type Event } from "./batch.ts";

/** How long a test waits for what must come. */
export const PATIENCE_MS = 30_000;
const PASSWORD = "secret";

export class Fixture {
  readonly folder = mkdtempSync(join(tmpdir(), "serin-test-"));
  readonly spill = join(this.folder, "spill");
  readonly #mappings: Record<string, string>;
  /** Who has rights of its own; all others may do everything. */
  readonly #users: Record<string, object>;
  #port = -1;
  #process: ChildProcess | undefined;
  #client: NatsConnection | undefined;

  constructor(mappings: Record<string, string> = {}, users: Record<string, object> = {}) {
    this.#mappings = mappings;
    this.#users = users;
  }

  /** A raw client. */
  get client(): NatsConnection {
    assert(this.#client, "the fixture is not started");
    return this.#client;
  }

  get url(): string {
    return `nats://127.0.0.1:${this.#port}`;
  }

  /** Where a user connects. */
  urlOf(user: string): string {
    return user in this.#users ? this.url.replace("//", `//${user}:${PASSWORD}@`) : this.url;
  }

  #authorization(): string {
    const users = Object.entries(this.#users).map(([user, permissions]) => ({ user, password: PASSWORD, permissions }));
    if (users.length === 0) return "";
    const all = { users: [...users, { user: "anybody", password: PASSWORD }] };
    return `no_auth_user: anybody\nauthorization: ${JSON.stringify(all)}\n`;
  }

  /** Starts the server, at the port it had before, and connects. */
  async start(): Promise<void> {
    const program = process.env["SERIN_NATS_SERVER"];
    assert(program, "no nats-server: set SERIN_NATS_SERVER to its path");
    const config = join(this.folder, "nats.conf");
    const mappings = Object.entries(this.#mappings).map(([from, to]) => `"${from}": "${to}"`);
    writeFileSync(
      config,
      `listen: "127.0.0.1:${this.#port}"\n` +
        `jetstream { store_dir: "${this.folder}/data", sync_interval: always }\n` +
        `mappings {\n${mappings.join("\n")}\n}\n` +
        this.#authorization(),
    );
    const ports = join(this.folder, "ports");
    rmSync(ports, { recursive: true, force: true });
    mkdirSync(ports);
    const log = openSync(join(this.folder, "log"), "a");
    const server = spawn(program, ["-c", config, "--ports_file_dir", ports], { stdio: ["ignore", log, log] });
    closeSync(log);
    this.#process = server;
    await until(() => {
      assert(server.exitCode === null, readFileSync(join(this.folder, "log"), "utf8"));
      const said = readPorts(ports);
      if (said) this.#port = Number(said.split(":").at(-1));
      return said !== undefined;
    });
    this.#client = await connect({ servers: `127.0.0.1:${this.#port}`, reconnect: false });
    const stream = { name: "EVENTS", subjects: ["ev.>"], storage: "file", discard: "new", retention: "limits" };
    const made = await this.#api("STREAM.CREATE.EVENTS", stream);
    assert(!made["error"], JSON.stringify(made));
  }

  /** Changes settings of the stream, by JetStream's names. */
  async setStream(settings: object): Promise<void> {
    const { config } = await this.#api("STREAM.INFO.EVENTS", {});
    const changed = await this.#api("STREAM.UPDATE.EVENTS", { ...config, ...settings });
    assert(!changed["error"], JSON.stringify(changed));
  }

  /** Kills the server; its folder stays. */
  async stop(): Promise<void> {
    await this.#client?.close();
    this.#client = undefined;
    const server = this.#process;
    this.#process = undefined;
    if (!server || server.exitCode !== null) return;
    server.kill("SIGKILL");
    await once(server, "exit");
  }

  /** Sends the server a signal. */
  send(signal: NodeJS.Signals): void {
    this.#process?.kill(signal);
  }

  async close(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Options for a service `cart`. */
  options(more: Partial<Options> = {}): Options {
    return { bus: this.url, service: "cart", version: "v3", instance: "cart-v3-1", spillDir: this.spill, ...more };
  }

  /** Whether events wait on disk. */
  isSpilled(): boolean {
    return this.segments().length > 0;
  }

  spilledBytes(): number {
    const bytes = this.#ofSegments((path) => statSync(path).size);
    return bytes.reduce((sum, size) => sum + size, 0);
  }

  spilledEvents(): number {
    const batches = this.#ofSegments((path) => read(readFileSync(path), 0).whole).flat();
    return batches.reduce((sum, { events }) => sum + events, 0);
  }

  /** Files in which events wait. */
  segments(): string[] {
    return this.#ofSegments((path) => path);
  }

  /** What each file in which events wait has; looks again where one, or its folder, went meanwhile. */
  #ofSegments<T>(of: (path: string) => T): T[] {
    while (existsSync(this.spill)) {
      try {
        // With types, for else a folder that goes meanwhile would be passed over in silence.
        const entries = readdirSync(this.spill, { recursive: true, withFileTypes: true });
        return entries.filter(({ name }) => name.endsWith(".seg")).map(({ parentPath, name }) => of(join(parentPath, name)));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      }
    }
    return [];
  }

  /** Every event in the stream, in the stream's order, with its message's number. */
  async events(): Promise<(Event & { message_id: string })[]> {
    const info = await this.#api("STREAM.INFO.EVENTS", {});
    const found = [];
    for (let seq = info["state"].first_seq || 1; seq <= info["state"].last_seq; seq++) {
      const { message } = await this.#api("STREAM.MSG.GET.EVENTS", { seq });
      const headers = Buffer.from(message.hdrs, "base64").toString();
      assert.match(headers, /content-type: application\/x-serin-events/);
      const message_id = /Nats-Msg-Id: (\S+)/.exec(headers)?.[1] ?? "";
      for (const event of readBatch(Buffer.from(message.data ?? "", "base64"))) found.push({ ...event, message_id });
    }
    return found;
  }

  /** A raw request, with a long wait. */
  async request(subject: string, body: unknown, headers: Record<string, string> = {}): Promise<Msg> {
    const said = newHeaders();
    for (const [name, value] of Object.entries(headers)) said.set(name, value);
    return await this.client.request(subject, JSON.stringify(body), { timeout: PATIENCE_MS, headers: said });
  }

  async #api(subject: string, body: object): Promise<any> {
    const answer = await this.client.request(`$JS.API.${subject}`, JSON.stringify(body), { timeout: PATIENCE_MS });
    return answer.json();
  }
}

/** Where the server listens; `undefined` until all of it is written. */
function readPorts(folder: string): string | undefined {
  const [name] = readdirSync(folder).filter((one) => one.endsWith(".ports"));
  try {
    return name && JSON.parse(readFileSync(join(folder, name), "utf8")).nats[0];
  } catch {
    return undefined;
  }
}

/** Waits until something is so. */
export async function until(isSo: () => unknown): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await isSo())) {
    assert(performance.now() < deadline, "it did not become so in time");
    await pause(5);
  }
}
