/**
 * What a service says of itself when it connects; read from the environment where it is not given.
 *
 * `Options` is what a service may write, `Settings` is checked and total. Start at {@link resolve}.
 */

import { randomBytes } from "node:crypto";
import { homedir } from "node:os";
import { join } from "node:path";

import { ConnectError } from "./errors.js";
import { checkInstance, checkName } from "./name.js";

/** How to connect. */
export interface Options {
  /** The bus, `nats://user:password@host:port`. */
  bus: string;
  /** The service. */
  service: string;
  /** Its version; `dev` unless said otherwise. */
  version?: string;
  /** This process among the instances of the version; random unless said otherwise. */
  instance?: string;
  /** Bytes of events kept in memory until the bus has them; 32 MiB unless said otherwise. */
  queueBytesMax?: number;
  /**
   * Where events go while the bus is away; `null` keeps them in memory alone. What one run leaves there a
   * later one sends to its bus, so a folder is for one bus, whatever its address.
   */
  spillDir?: string | null;
  /** Bytes of events that all runs of the service keep there; 1 GiB unless said otherwise. */
  spillBytesMax?: number;
  /** How long an ending process waits for its last events to be acknowledged; 3 s unless said otherwise. */
  drainDeadlineMs?: number;
}

/** Where the bus is, and who we are there. */
export interface Address {
  readonly host: string;
  readonly port: number;
  readonly user?: string;
  readonly password?: string;
  readonly token?: string;
}

/** Options, checked and complete. They go to the worker thread, so they are plain values. */
export interface Settings {
  readonly address: Address;
  readonly service: string;
  readonly version: string;
  readonly instance: string;
  readonly queueBytesMax: number;
  /** The folder of this service's spills. */
  readonly spillParent: string | null;
  readonly spillBytesMax: number;
  readonly drainDeadlineMs: number;
}

/** Less would not hold one event of the largest size. */
const QUEUE_BYTES_MIN = 1 << 20;
const PORT = 4222;

/** Options from `SERIN_BUS` and `SERIN_SERVICE` and, where they are set, `SERIN_VERSION`, `SERIN_INSTANCE` and `SERIN_SPILL_DIR`. */
export function fromEnvironment(environment: NodeJS.ProcessEnv, service?: string): Options {
  const needed = (name: string) => {
    const value = environment[name];
    if (!value) {
      throw new ConnectError(
        `${name} is not set; \`serin run\` and \`serin deploy\` set it for services they start`,
      );
    }
    return value;
  };
  const options: Options = { bus: needed("SERIN_BUS"), service: environment["SERIN_SERVICE"] || service || needed("SERIN_SERVICE") };
  const version = environment["SERIN_VERSION"];
  const instance = environment["SERIN_INSTANCE"];
  const spillDir = environment["SERIN_SPILL_DIR"];
  if (version) options.version = version;
  if (instance) options.instance = instance;
  if (spillDir) options.spillDir = spillDir;
  return options;
}

/** Checks options and fills in what was left out. */
export function resolve(options: Options): Settings {
  const { service, version = "dev" } = options;
  const instance = options.instance ?? `${service}-${version}-${randomBytes(3).toString("hex")}`;
  const wrong = checkName("service", service) ?? checkName("version", version) ?? checkInstance(instance);
  if (wrong) throw new ConnectError(wrong);
  const address = parseAddress(options.bus);
  const spillDir = options.spillDir === undefined ? stateFolder(address) : options.spillDir;
  return {
    address,
    service,
    version,
    instance,
    queueBytesMax: Math.max(options.queueBytesMax ?? 32 << 20, QUEUE_BYTES_MIN),
    spillParent: spillDir && join(spillDir, service),
    spillBytesMax: options.spillBytesMax ?? 1 << 30,
    drainDeadlineMs: options.drainDeadlineMs ?? 3000,
  };
}

function parseAddress(bus: string): Address {
  const text = bus.includes("://") ? bus : `nats://${bus}`;
  if (!URL.canParse(text)) {
    throw new ConnectError("the address of the bus must look like nats://user:password@host:port");
  }
  const url = new URL(text);
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const address = { host, port: url.port ? Number(url.port) : PORT };
  if (!host) throw new ConnectError("the address of the bus must look like nats://user:password@host:port");
  if (!url.username) return address;
  const user = decodeURIComponent(url.username);
  return url.password
    ? { ...address, user, password: decodeURIComponent(url.password) }
    : { ...address, token: user };
}

/** A folder of the bus in `$XDG_STATE_HOME/serin/spill`, else in `~/.local/state/serin/spill`. */
function stateFolder({ host, port }: Address): string {
  const state = process.env["XDG_STATE_HOME"] || join(homedir(), ".local/state");
  return join(state, "serin/spill", `${host}_${port}`);
}
