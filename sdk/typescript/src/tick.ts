/** How often the service's event loop says that it turns, in milliseconds. */
export const TICK_MS = 100;
