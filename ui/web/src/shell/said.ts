// What the server says of a file, in the words of a page. Pure.
import type { ApiError } from '../api/client';
import { sentence } from '../format/sentence';

/** What the command line adds for those who have its options. */
const OPTION = /; --[a-z-]+ [^;]*$| \(--[a-z-]+ [^)]*\)$/;

export function outcomeOf(said: string[]): { first: string; remarks: string[] } {
  const whole: string[] = [];
  for (const line of said) {
    // What goes on a line begins with spaces.
    const text = line.trim().replace(OPTION, '');
    whole.push(line.startsWith(' ') ? `${whole.pop() ?? ''}\n${text}` : sentence(text));
  }
  const [first = 'Opened', ...remarks] = whole;
  return { first: first.replace(/^(\d{4,})/, (digits) => Number(digits).toLocaleString('en-US')), remarks };
}

/** Without an error of the server, the browser could not read the file. */
export function whyNot(name: string, error: ApiError | undefined): { message: string; code: string | undefined } {
  if (!error) return { message: 'The browser cannot read it. Of a folder, drop the files in it.', code: undefined };
  const said = error.message.replace(`cannot open ${name}: `, '');
  return { message: sentence(said), code: error.code.startsWith('SER-') ? error.code : undefined };
}
