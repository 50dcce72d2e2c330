// What failed, as a sentence to read at a glance, and the whole of what was said for those who want it.
//
// Pure. An engine's message may be long or have several lines; the first part says what is wrong.
// Start at `brief`.
import { sentence } from '../format/sentence';

/** Two to three lines of a panel. */
const SHORT_MAX = 140;

export interface Brief {
  short: string;
  /** Everything, where the short one leaves something out. */
  more: string | undefined;
}

export function brief(message: string, details?: string | null): Brief {
  const [first = ''] = message.trim().split('\n');
  const short = first.length <= SHORT_MAX ? first : cut(first);
  const isWhole = short === message.trim();
  return { short: sentence(short), more: isWhole && !details ? undefined : [message.trim(), details?.trim()].filter(Boolean).join('\n\n') };
}

/** Up to the last end of a sentence or clause that leaves something to read, else of a word. */
function cut(line: string): string {
  const start = line.slice(0, SHORT_MAX);
  const ends = [...start.matchAll(/[.;:]\s/g)].map(({ index }) => index);
  const end = ends.at(-1) ?? 0;
  return end >= SHORT_MAX / 4 ? start.slice(0, end) : `${start.slice(0, start.lastIndexOf(' '))} …`;
}
