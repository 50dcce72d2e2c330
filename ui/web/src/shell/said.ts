// What the server says of a file, in the words of a page. Pure.
import type { ApiError } from '../api/client';

/** What the command line adds for those who have its options. */
const OPTION = /; --[a-z-]+ [^;]*$| \(--[a-z-]+ [^)]*\)$/;

export function outcomeOf(said: string[]): { first: string; remarks: string[] } {
  const whole: string[] = [];
  for (const line of said) {
    // What goes on a line begins with spaces.
    if (line.startsWith(' ')) whole.push(`${whole.pop() ?? ''}\n${line.trim()}`);
    else whole.push(sentence(line.trim().replace(OPTION, '')));
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

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
