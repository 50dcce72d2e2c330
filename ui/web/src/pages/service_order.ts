// Which service comes first, and what serves of it. Pure.
import type { Service } from '../api/types';

const GRAVITY: Record<string, number> = { down: 0, degraded: 1, starting: 2, serving: 3, stopped: 4 };

export function worstFirst(a: Service, b: Service): number {
  return (GRAVITY[a.state] ?? 0) - (GRAVITY[b.state] ?? 0) || a.name.localeCompare(b.name);
}

/** The version that serves, with its hash; instances that somebody started by hand serve as well. */
export function whatServes(service: Service): string {
  const serving = service.versions.find(({ phase }) => phase === 'serving');
  if (serving) return `${serving.name} · ${serving.hash.slice(0, 8)}`;
  const byHand = service.instances.find((one) => one.is_by_hand && one.state === 'ready');
  return byHand ? `${byHand.version}, started by hand` : 'no version serves';
}
