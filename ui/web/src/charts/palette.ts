// Colours of series, thresholds and heat maps, for light and dark ground.
//
// They come from `dashboards/palette.json`, which the server's pictures are drawn with too. Canvas
// and SVG need plain values, hence not CSS variables.
import colors from '../../../../dashboards/palette.json';

export type Palette = typeof colors.light;

export const palette = (dark: boolean): Palette => (dark ? colors.dark : colors.light);

/** Of a decision's mark, as in the server's pictures; those that have no colour of their own are blue. */
export function markColor(kind: string, dark: boolean): string {
  const named: Record<string, string> = colors.marks;
  return namedColor(named[kind] ?? 'blue', dark);
}

export function seriesColor(index: number, dark: boolean): string {
  const { series } = palette(dark);
  return series[index % series.length] ?? '#888888';
}

/** A colour by name; `#rrggbb` is taken as it is, anything else as grey. */
export function namedColor(name: string, dark: boolean): string {
  const named: Record<string, string> = palette(dark).threshold;
  return named[name] ?? (/^#[0-9a-f]{6}$/i.test(name) ? name : palette(dark).threshold.grey);
}

/** A step of the heat scale for a share between 0 and 1. */
export function heatColor(share: number, dark: boolean): string {
  const { heat } = palette(dark);
  const at = Math.min(1, Math.max(0, share)) * (heat.length - 1);
  const low = Math.floor(at);
  return mix(heat[low] ?? '#000000', heat[Math.min(low + 1, heat.length - 1)] ?? '#000000', at - low);
}

export function withAlpha(hex: string, alpha: number): string {
  return hex + Math.round(alpha * 255).toString(16).padStart(2, '0');
}

/** Black or white, whichever reads better on `hex`. */
export function inkOn(hex: string): string {
  const channel = (at: number): number => (Number.parseInt(hex.slice(at, at + 2), 16) / 255) ** 2.2;
  return 0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5) > 0.2 ? '#10151b' : '#ffffff';
}

function mix(a: string, b: string, share: number): string {
  const channel = (at: number): string => {
    const start = Number.parseInt(a.slice(at, at + 2), 16);
    const end = Number.parseInt(b.slice(at, at + 2), 16);
    return Math.round(start + (end - start) * share).toString(16).padStart(2, '0');
  };
  return `#${channel(1)}${channel(3)}${channel(5)}`;
}
