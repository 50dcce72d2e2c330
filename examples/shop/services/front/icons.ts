/** Pictures of what is sold, drawn here: nothing is fetched from anywhere. */

import { Markup } from "./markup.ts";

/** Shapes in a square of 96; `f` is the filling, `d` its darker tone, `l` its lighter one. */
const SHAPES: Record<string, string> = {
  bird: `<path class="f" d="M18 58c0-20 14-34 32-34 14 0 22 9 22 19l12 5-12 4c-2 16-14 26-30 26H14l10-10c-4-2-6-6-6-10z"/><path class="d" d="M34 56c8-8 20-8 26-2-4 10-16 14-26 12z"/><circle class="e" cx="59" cy="39" r="3"/>`,
  bag: `<path class="f" d="M26 24h44l6 12-4 44H24l-4-44z"/><path class="d" d="M26 24h44l6 12H20z"/><g class="l"><ellipse cx="40" cy="56" rx="4" ry="7"/><ellipse cx="52" cy="50" rx="4" ry="7"/><ellipse cx="56" cy="65" rx="4" ry="7"/><ellipse cx="44" cy="70" rx="3" ry="5"/></g>`,
  balls: `<circle class="f" cx="34" cy="60" r="17"/><circle class="d" cx="62" cy="60" r="17"/><circle class="l" cx="48" cy="38" r="17"/><g class="e"><circle cx="44" cy="36" r="2"/><circle cx="53" cy="42" r="2"/><circle cx="32" cy="62" r="2"/><circle cx="66" cy="57" r="2"/></g>`,
  feeder: `<path class="d" d="M46 10h4v10h-4z"/><path class="d" d="M30 30l18-12 18 12z"/><rect class="l" x="34" y="30" width="28" height="42" rx="3"/><rect class="f" x="34" y="46" width="28" height="26" rx="3"/><path class="d" d="M24 56h48v4H24zM28 72h40v6H28z"/>`,
  window: `<rect class="d" x="18" y="18" width="60" height="60" rx="4"/><rect class="l" x="24" y="24" width="23" height="22"/><rect class="l" x="50" y="24" width="22" height="22"/><path class="f" d="M28 52h40v20H28z"/><path class="d" d="M24 66h48v6H24z"/>`,
  bath: `<ellipse class="d" cx="48" cy="42" rx="34" ry="9"/><ellipse class="l" cx="48" cy="41" rx="28" ry="6"/><path class="f" d="M14 44c2 14 16 20 34 20s32-6 34-20c-4 6-18 8-34 8s-30-2-34-8z"/><path class="f" d="M42 62h12l4 18H38z"/>`,
  house: `<path class="d" d="M14 40l34-24 34 24-4 5-30-20-30 20z"/><path class="f" d="M24 42l24-16 24 16v38H24z"/><circle class="e" cx="48" cy="50" r="9"/><path class="l" d="M44 66h8v3h-8z"/>`,
  globe: `<circle class="f" cx="48" cy="50" r="30"/><g class="s"><path d="M20 42c16 8 40 8 56 0M19 56c16 8 42 8 58 0M28 28c12 6 28 6 40 0"/></g><circle class="e" cx="48" cy="50" r="9"/>`,
  glass: `<path class="f" d="M18 66l8-38h16v40a12 12 0 0 1-24-2zM78 66l-8-38H54v40a12 12 0 0 0 24-2z"/><path class="d" d="M42 36h12v14H42zM26 22h14v6H26zM56 22h14v6H56z"/><circle class="l" cx="30" cy="68" r="7"/><circle class="l" cx="66" cy="68" r="7"/>`,
  book: `<path class="d" d="M24 18h46a4 4 0 0 1 4 4v56H28a6 6 0 0 1-6-6V20z"/><path class="l" d="M28 68h46v6H28a3 3 0 0 1 0-6z"/><path class="f" d="M30 18h44v50H30z"/><path class="l" d="M40 46c0-8 6-13 13-13 5 0 8 3 8 7l5 2-5 2c-1 6-5 9-11 9H38l4-4z"/>`,
};

/** A picture in tones of a hue. */
export function picture(name: string, hue: number): Markup {
  const shape = SHAPES[name] ?? SHAPES["bag"];
  return new Markup(`<svg class="picture" viewBox="0 0 96 96" style="--hue:${hue}" aria-hidden="true">${shape}</svg>`);
}

/** The bird by itself, for the tab of a browser. */
export function bird(): string {
  const style = ".f{fill:#d9b310}.d{fill:#8a7208}.e{fill:#222}";
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96"><style>${style}</style>${SHAPES["bird"]}</svg>`;
}
