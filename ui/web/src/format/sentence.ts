// What the server says begins small, to stand after "error: "; on a page it is a sentence. Pure.

/** With a capital, unless it begins with a name: a path, a key, something in quotes. */
export function sentence(text: string): string {
  return /^\p{Ll}+(?=[\s,;:]|$)/u.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
}
