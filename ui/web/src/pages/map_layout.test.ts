import { expect, it } from 'vitest';
import { labelPlaces, layout, type Edge, type Point } from './map_layout';

const SIZE = { nodeWidth: 100, nodeHeight: 40, gapX: 50, gapY: 20 };
const edges = (text: string): Edge[] => text.split(' ').map((pair) => {
  const [from = '', to = ''] = pair.split('>');
  return { from, to };
});
const drawn = (text: string, size = SIZE) => {
  const all = edges(text);
  return layout([...new Set(all.flatMap(({ from, to }) => [from, to]))], all, ['gateway'], size);
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

const expectApart = (places: Point[]): void => {
  const isApart = (one: Point, other: Point): boolean => one === other || Math.abs(one.x - other.x) >= 84 || Math.abs(one.y - other.y) >= 29;
  expect(places.every((one) => places.every((other) => isApart(one, other)))).toBe(true);
};

it('puts no label on another', () => {
  expectApart(labelPlaces(drawn('gateway>web web>a web>b web>c web>d a>e b>e c>e d>e e>web').lines));
});

it('finds places for labels at the sizes of the map, whatever the graph', () => {
  const onMap = { nodeWidth: 168, nodeHeight: 56, gapX: 124, gapY: 34 };
  // Its heights are such that their sums would be rounded.
  expectApart(labelPlaces(drawn('a>c b>c b>d c>d gateway>a gateway>b gateway>c', onMap).lines));
  let seed = 1;
  const upTo = (count: number): number => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % count;
  };
  for (let graph = 0; graph < 500; graph += 1) {
    const names = ['gateway', ...'abcdefgh'.slice(0, 2 + upTo(7))];
    const pairs = Array.from({ length: 3 + upTo(14) }, () => `${names[upTo(names.length)]}>${names[upTo(names.length)]}`);
    expectApart(labelPlaces(drawn([...new Set(pairs)].join(' '), onMap).lines));
  }
});
