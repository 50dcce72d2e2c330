// Sends a dropped file to the server and follows its progress lines until a dashboard is ready.
//
// XMLHttpRequest, because fetch shows no answer before the whole body is sent and no upload
// progress at all. Start at `openFile`.
import { ApiError, errorOf, tellSignedOut, unreachable } from './client';

export interface Progress {
  stage: string;
  done: number;
  total: number;
  /** Why it goes no further at the moment, and what to do. */
  waits?: string;
}

export interface Opened {
  dashboard: string;
  from: string;
  to: string;
  /** What became of the file, a line each; those that go on a line begin with spaces. */
  said: string[];
}

export type OpenLine = Progress | Opened | { error: unknown; code?: string };

/** Splits what has arrived into whole lines; the rest waits for more. */
export function takeLines(text: string, from: number): { lines: OpenLine[]; next: number } {
  const lines: OpenLine[] = [];
  let next = from;
  for (;;) {
    const end = text.indexOf('\n', next);
    if (end < 0) return { lines, next };
    const line = text.slice(next, end).trim();
    if (line) lines.push(JSON.parse(line) as OpenLine);
    next = end + 1;
  }
}

/** Rejects without an `ApiError` where the browser cannot read the file, such as a folder, or was told to stop. */
export async function openFile(file: File, onProgress: (progress: Progress) => void, signal: AbortSignal): Promise<Opened> {
  await file.slice(0, 1).arrayBuffer();
  signal.throwIfAborted();
  return send(file, onProgress, signal);
}

function send(file: File, onProgress: (progress: Progress) => void, signal: AbortSignal): Promise<Opened> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = (): void => request.abort();
    let next = 0;
    let opened: Opened | undefined;
    let failed: ApiError | undefined;
    const read = (text: string): void => {
      const taken = takeLines(text, next);
      next = taken.next;
      for (const line of taken.lines) {
        if ('dashboard' in line) opened = line;
        else if ('error' in line) failed = errorOf(request.status, line);
        else onProgress(line);
      }
    };
    request.open('POST', `/api/v1/open?name=${encodeURIComponent(file.name)}`);
    request.upload.onprogress = (event) =>
      onProgress({ stage: 'upload', done: event.loaded, total: event.total });
    request.onprogress = () => {
      if (request.status === 200) read(request.responseText);
    };
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(signal.reason);
    request.onloadend = () => signal.removeEventListener('abort', stop);
    request.onload = () => {
      if (request.status !== 200) {
        if (request.status === 401) tellSignedOut();
        reject(errorOf(request.status, parse(request.responseText)));
        return;
      }
      read(`${request.responseText}\n`);
      if (opened) resolve(opened);
      else reject(failed ?? new ApiError(200, 'UNFINISHED', 'the server stopped before a dashboard was ready'));
    };
    signal.addEventListener('abort', stop);
    request.send(file);
  });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
