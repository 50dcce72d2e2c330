// The page on which the session was over, for as long as the tab lives: a link to sign in that is opened in
// the same tab leads to the first page, and from there back to where one was.
const KEY = 'serin.wanted';

export function keepWanted(page: string): void {
  try {
    sessionStorage.setItem(KEY, page);
  } catch {
    // Storage may be forbidden; signing in then leads to the first page.
  }
}

/** The page that was kept, which is kept no longer. */
export function takeWanted(): string | null {
  try {
    const page = sessionStorage.getItem(KEY);
    sessionStorage.removeItem(KEY);
    return page;
  } catch {
    return null;
  }
}
