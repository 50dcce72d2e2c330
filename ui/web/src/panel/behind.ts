// From a point of a chart over requests to the traces behind it.
//
// Pure. The split of the series and the variables of the dashboard narrow them; what the chart is about
// orders them: failures show the failed, times the slowest. Start at `behind`.
import type { Chosen, PanelData, Series } from '../api/types';
import type { Filter } from '../url';

const TIMES = new Set(['ms', 's', 'us', 'µs', 'ns']);

export function behind(panel: Pick<PanelData, 'unit' | 'better'>, series: Series | undefined, chosen: Chosen): Partial<Record<Filter, string>> {
  const filters: Partial<Record<Filter, string>> = {};
  for (const name of ['service', 'endpoint'] as const) {
    const only = chosen[name]?.length === 1 ? chosen[name][0] : undefined;
    const value = series?.by?.[name] ?? only;
    if (value) filters[name] = value;
  }
  if (panel.unit !== undefined && TIMES.has(panel.unit)) filters.order = 'slowest';
  else if (panel.unit === 'ratio' && panel.better === 'lower') filters.status = 'error';
  return filters;
}
