// What one browser keeps from one visit to the next, as text by name; nothing where storage is forbidden.

export function remembered(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // What was chosen then lasts for this page.
  }
}
