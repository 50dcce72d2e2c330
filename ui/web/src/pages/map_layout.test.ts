import { expect, it } from 'vitest';
import { labelPlaces, layout, type Edge } from './map_layout';

const SIZE = { nodeWidth: 100, nodeHeight: 40, gapX: 50, gapY: 20 };
const edges = (text: string): Edge[] => text.split(' ').map((pair) => {
  const [from = '', to = ''] = pair.split('>');
  return { from, to };
});
const drawn = (text: string) => {
  const all = edges(text);
  return layout([...new Set(all.flatMap(({ from, to }) => [from, to]))], all, ['gateway'], SIZE);
};
const columns = (text: string): Record<string, number> => Object.fromEntries(drawn(text).nodes.map(({ name, x }) => [name, x / 150]));

it('puts callers left of those they call', () => {
  expect(columns('gateway>web web>cart web>price cart>price')).toEqual({ gateway: 0, web: 1, cart: 2, price: 3 });
});

it('bears circles and calls of oneself', () => {
  expect(columns('gateway>a a>b b>c c>a c>c')).toEqual({ gateway: 0, a: 1, b: 2, c: 3 });
  const back = drawn('gateway>a a>b b>a').lines.find(({ edge }) => edge.from === 'b');
  expect(back?.isBack).toBe(true);
  expect(back?.points[0]?.x).toBeGreaterThan(back?.points.at(-1)?.x ?? 0);
});

it('never lets nodes overlap', () => {
  const { nodes } = drawn('gateway>web web>a web>b web>c web>d a>e b>e c>f d>f e>g f>g gateway>g gateway>d');
  for (const one of nodes) {
    for (const other of nodes) {
      if (one !== other && one.x === other.x) expect(Math.abs(one.y - other.y)).toBeGreaterThanOrEqual(SIZE.nodeHeight);
    }
  }
});

it('does not cross what need not cross', () => {
  const { nodes } = drawn('gateway>a gateway>b a>z b>y');
  const y = Object.fromEntries(nodes.map((node) => [node.name, node.y]));
  expect(Math.sign((y['a'] ?? 0) - (y['b'] ?? 0))).toBe(Math.sign((y['z'] ?? 0) - (y['y'] ?? 0)));
});

it('is the same whatever the order', () => {
  const text = 'gateway>web web>cart web>price cart>price cart>stock';
  expect(drawn(text.split(' ').reverse().join(' ')).nodes).toEqual(drawn(text).nodes);
});

it('puts no label on another', () => {
  const places = labelPlaces(drawn('gateway>web web>a web>b web>c web>d a>e b>e c>e d>e e>web').lines);
  for (const one of places) {
    for (const other of places) if (one !== other) expect(Math.abs(one.x - other.x) >= 84 || Math.abs(one.y - other.y) >= 29).toBe(true);
  }
});
