/**
 * Folders of spilled events, whose they are, and what ended runs have left.
 *
 * `<producer>.<epoch>` waits for whoever finds it first, of any language; a lock on its file `lock` is
 * how the other SDKs hold it. Node has no file locks, so a run of ours says in the name of its folder
 * who holds it, `<producer>.<epoch>@<pid>-<start of the process>`: renaming is atomic, so one finder wins.
 */

import { closeSync, existsSync, openSync, readdirSync, readFileSync, renameSync, rmSync, statSync, type Stats } from "node:fs";
import { dirname, join } from "node:path";

import { read, type Contents } from "./segment.js";

const LOCK = "lock";
const FREE = /^(.+)\.(\d+)$/;
const HELD = /^(.+)\.(\d+)@(\d+)-(\d+)$/;
/** When the process started, in the kernel's ticks: the 20th word behind the name in brackets. */
const START_WORD = 19;

/** The name of a folder that this process holds. */
export function heldName(run: string): string {
  return `${run}@${process.pid}-${startOf(process.pid) ?? 0}`;
}

/** Gives a folder up, to whichever run finds it first. */
export function release(parent: string, run: string, folder: string): void {
  closeSync(openSync(join(folder, LOCK), "w", 0o600));
  renameSync(folder, join(parent, run));
}

/** A folder left by a run that ended, held by us from now on. */
export interface Left {
  readonly producer: string;
  readonly epoch: number;
  readonly folder: string;
}

/** Takes the folders whose runs have ended, oldest first. */
export function takeLeft(parent: string): Left[] {
  const left: Left[] = [];
  for (const name of namesIn(parent)) {
    const [, producer, epoch, pid, start] = HELD.exec(name) ?? FREE.exec(name) ?? [];
    if (producer === undefined || epoch === undefined) continue;
    const from = join(parent, name);
    const isHeld = pid === undefined ? isLocked(from) : startOf(Number(pid)) === Number(start);
    if (isHeld) continue;
    const folder = join(parent, heldName(`${producer}.${epoch}`));
    try {
      renameSync(from, folder);
      left.push({ producer, epoch: Number(epoch), folder });
    } catch {
      // Another run was faster.
    }
  }
  return left.sort((one, other) => sinceMs(one) - sinceMs(other));
}

/** Its segments, in order. */
export function segmentsOf({ folder }: Left): string[] {
  return segmentsIn(folder).map((name) => join(folder, name));
}

/** What a segment has with numbers after this one. */
export function contentsOf(path: string, after: number): Contents {
  return read(readFileSync(path), after);
}

/** All of it is acknowledged, or counted as lost. */
export function forget(left: Left): void {
  rmSync(left.folder, { recursive: true, force: true });
}

/** Gives up what could not be sent, to whichever run finds it first. */
export function giveBack({ producer, epoch, folder }: Left): void {
  if (existsSync(folder)) release(dirname(folder), `${producer}.${epoch}`, folder);
}

/** Bytes in the segments of all folders but one. */
export function bytesBeside(parent: string, own: string): number {
  const folders = namesIn(parent).map((name) => join(parent, name));
  const others = folders.filter((folder) => folder !== own);
  const paths = others.flatMap((folder) => segmentsIn(folder).map((name) => join(folder, name)));
  return paths.reduce((sum, path) => sum + (statOf(path)?.size ?? 0), 0);
}

/** When a run wrote its first segment. */
function sinceMs(left: Left): number {
  const [first] = segmentsOf(left);
  return (first && statOf(first)?.mtimeMs) || 0;
}

function segmentsIn(folder: string): string[] {
  return namesIn(folder).filter((name) => name.endsWith(".seg"));
}

/** `undefined` where it was removed meanwhile. */
function statOf(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

/** When a process started; `undefined` where it does not live. 0 where the system does not say. */
function startOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[START_WORD]);
  } catch {
    return isAlive(pid) ? 0 : undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Whether a run of another SDK holds it; held, where the system does not say. */
function isLocked(folder: string): boolean {
  try {
    const inode = statSync(join(folder, LOCK)).ino;
    return readFileSync("/proc/locks", "latin1").includes(`:${inode} `);
  } catch {
    return true;
  }
}
