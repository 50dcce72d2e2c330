// Who calls whom, laid out from left to right: callers before callees, few crossings, straight lines.
//
// Sugiyama's steps in small: turn circles around, layers by the longest way, places kept free for edges
// that pass a layer, order by the mean of the neighbours, then heights. Pure and the same for the same
// graph, whatever the order it comes in. Start at `layout`.

export interface Edge {
  from: string;
  to: string;
}

export interface Placed {
  name: string;
  x: number;
  y: number;
}

export interface Point {
  x: number;
  y: number;
}

export interface Line {
  edge: Edge;
  /** Where it passes, from the caller to the callee: its ends and one place in each layer between. */
  points: Point[];
  /** It runs against the order of layers. */
  isBack: boolean;
}

export interface Layout {
  nodes: Placed[];
  lines: Line[];
  width: number;
  height: number;
}

export interface Size {
  nodeWidth: number;
  nodeHeight: number;
  /** Between layers. */
  gapX: number;
  /** Between nodes of a layer. */
  gapY: number;
}

interface Vertex {
  name: string;
  layer: number;
  y: number;
  /** Only a place for an edge to pass. */
  isWay: boolean;
  before: Vertex[];
  after: Vertex[];
}

const SWEEPS = 12;

export function layout(names: string[], edges: Edge[], first: string[], size: Size): Layout {
  const sorted = names.slice().sort((a, b) => rank(a, first) - rank(b, first) || (a < b ? -1 : 1));
  const known = new Set(names);
  const own = edges
    .filter(({ from, to }) => known.has(from) && known.has(to) && from !== to)
    .sort((a, b) => (a.from + a.to < b.from + b.to ? -1 : 1));
  const turned = backEdges(sorted, own);
  const layerOf = layers(sorted, own, turned);
  const vertices = new Map(sorted.map((name): [string, Vertex] => [name, { name, layer: layerOf.get(name) ?? 0, y: 0, isWay: false, before: [], after: [] }]));
  const rows: Vertex[][] = [];
  for (const vertex of vertices.values()) (rows[vertex.layer] ??= []).push(vertex);
  const ways = own.map((edge) => way(edge, turned.has(edge), vertices, rows));
  order(rows);
  place(rows, size);
  return draw(ways, rows, size);
}

/** The edges that close a circle when walking from the first ones on. */
function backEdges(names: string[], edges: Edge[]): Set<Edge> {
  const back = new Set<Edge>();
  const state = new Map<string, 'open' | 'done'>();
  const visit = (name: string): void => {
    state.set(name, 'open');
    for (const edge of edges) {
      if (edge.from !== name) continue;
      const met = state.get(edge.to);
      if (met === 'open') back.add(edge);
      else if (met === undefined) visit(edge.to);
    }
    state.set(name, 'done');
  };
  const called = new Set(edges.map(({ to }) => to));
  for (const name of [...names.filter((one) => !called.has(one)), ...names]) if (!state.has(name)) visit(name);
  return back;
}

/** Each one layer behind the last of those that call it. */
function layers(names: string[], edges: Edge[], turned: Set<Edge>): Map<string, number> {
  const forward = edges.map((edge) => (turned.has(edge) ? { from: edge.to, to: edge.from } : edge));
  const layer = new Map(names.map((name): [string, number] => [name, 0]));
  // The longest way through so many nodes has fewer steps than these.
  for (let round = 0; round < names.length; round += 1) {
    let isChanged = false;
    for (const { from, to } of forward) {
      const least = (layer.get(from) ?? 0) + 1;
      if ((layer.get(to) ?? 0) >= least) continue;
      layer.set(to, least);
      isChanged = true;
    }
    if (!isChanged) break;
  }
  return layer;
}

interface Way {
  edge: Edge;
  isBack: boolean;
  /** From left to right. */
  stops: Vertex[];
}

function way(edge: Edge, isBack: boolean, vertices: Map<string, Vertex>, rows: Vertex[][]): Way {
  const [left, right] = [vertices.get(isBack ? edge.to : edge.from), vertices.get(isBack ? edge.from : edge.to)];
  if (!left || !right) return { edge, isBack, stops: [] };
  const stops = [left];
  for (let layer = left.layer + 1; layer < right.layer; layer += 1) {
    const stop: Vertex = { name: `${edge.from} ${edge.to}`, layer, y: 0, isWay: true, before: [], after: [] };
    (rows[layer] ??= []).push(stop);
    stops.push(stop);
  }
  stops.push(right);
  stops.forEach((stop, at) => {
    const next = stops[at + 1];
    if (!next) return;
    stop.after.push(next);
    next.before.push(stop);
  });
  return { edge, isBack, stops };
}

/** Sweeps to the right and back; everyone goes to the mean place of its neighbours on the one side. */
function order(rows: Vertex[][]): void {
  const number = (): void => rows.forEach((row) => row.forEach((vertex, at) => { vertex.y = at - (row.length - 1) / 2; }));
  number();
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const isForward = sweep % 2 === 0;
    for (const row of isForward ? rows : rows.slice().reverse()) {
      const wanted = new Map(row.map((vertex): [Vertex, number] => [vertex, mean(isForward ? vertex.before : vertex.after) ?? vertex.y]));
      row.sort((a, b) => (wanted.get(a) ?? 0) - (wanted.get(b) ?? 0) || a.y - b.y);
      row.forEach((vertex, at) => { vertex.y = at - (row.length - 1) / 2; });
    }
  }
}

/** Heights: near the mean of all neighbours, never closer than a node is high. */
function place(rows: Vertex[][], { nodeHeight, gapY }: Size): void {
  const room = (a: Vertex, b: Vertex): number => (a.isWay || b.isWay ? (nodeHeight + gapY) / 2 : nodeHeight + gapY);
  rows.forEach((row) => row.forEach((vertex, at) => {
    const above = row[at - 1];
    vertex.y = above ? above.y + room(above, vertex) : 0;
  }));
  for (const row of rows) {
    const middle = ((row[0]?.y ?? 0) + (row.at(-1)?.y ?? 0)) / 2;
    for (const vertex of row) vertex.y -= middle;
  }
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (const row of sweep % 2 === 0 ? rows : rows.slice().reverse()) {
      const wanted = row.map((vertex) => mean([...vertex.before, ...vertex.after]) ?? vertex.y);
      spread(row, wanted, room);
    }
  }
}

/** Puts a row as near to the wanted heights as its order and the room between allow. */
function spread(row: Vertex[], wanted: number[], room: (a: Vertex, b: Vertex) => number): void {
  const down: number[] = [];
  row.forEach((vertex, at) => {
    const above = row[at - 1];
    const least = above ? (down[at - 1] ?? 0) + room(above, vertex) : Number.NEGATIVE_INFINITY;
    down.push(Math.max(wanted[at] ?? 0, least));
  });
  const up: number[] = row.map(() => 0);
  for (let at = row.length - 1; at >= 0; at -= 1) {
    const [vertex, below] = [row[at], row[at + 1]];
    const most = vertex && below ? (up[at + 1] ?? 0) - room(vertex, below) : Number.POSITIVE_INFINITY;
    up[at] = Math.min(wanted[at] ?? 0, most);
  }
  // Both keep the room, and so does their mean.
  row.forEach((vertex, at) => { vertex.y = ((down[at] ?? 0) + (up[at] ?? 0)) / 2; });
}

function draw(ways: Way[], rows: Vertex[][], { nodeWidth, nodeHeight, gapX }: Size): Layout {
  const all = rows.flat();
  const heights = all.length > 0 ? all.map(({ y }) => y) : [0];
  const top = Math.min(...heights) - nodeHeight / 2;
  const bottom = Math.max(...heights) + nodeHeight / 2;
  const left = ({ layer }: Vertex): number => layer * (nodeWidth + gapX);
  const lines = ways.map(({ edge, isBack, stops }): Line => {
    const points = stops.flatMap((stop, at) => {
      const y = stop.y - top;
      if (at === 0) return [{ x: left(stop) + nodeWidth, y }];
      if (at === stops.length - 1) return [{ x: left(stop), y }];
      return [{ x: left(stop), y }, { x: left(stop) + nodeWidth, y }];
    });
    return { edge, isBack, points: isBack ? points.reverse() : points };
  });
  return {
    nodes: all.filter(({ isWay }) => !isWay).map((vertex) => ({ name: vertex.name, x: left(vertex), y: vertex.y - top - nodeHeight / 2 })),
    lines,
    width: Math.max(1, rows.length) * (nodeWidth + gapX) - gapX,
    height: bottom - top,
  };
}

// What a label takes: two short lines of text.
const LABEL = { width: 84, height: 29 };
/** How far an edge that runs back hangs below its ends. */
export const BACK_DROP = 30;

/**
 * Where labels stand: on their line, where it has parted from its neighbours, and not on each other.
 * Lines from one caller part on the way to the callees, lines to one callee the other way round.
 */
export function labelPlaces(lines: Line[]): Point[] {
  const count = (key: 'from' | 'to', name: string): number => lines.filter(({ edge }) => edge[key] === name).length;
  const places = lines.map(({ edge, points, isBack }): Point => {
    const [a, b] = isBack ? points.slice(-2) : points;
    if (!a || !b) return { x: 0, y: 0 };
    const share = isBack ? 0.5 : count('from', edge.from) >= count('to', edge.to) ? 0.62 : 0.38;
    // The height of a curve that is flat at both ends.
    const height = share * share * (3 - 2 * share);
    // Whole pixels, whose sums are exact: a label moved below another one is out of its way.
    return { x: a.x + (b.x - a.x) * share, y: Math.round(a.y + (b.y - a.y) * height) + (isBack ? BACK_DROP : 0) };
  });
  const placed: Point[] = [];
  for (const place of places.slice().sort((a, b) => a.y - b.y)) {
    const inWay = (): Point | undefined => placed.find((other) => Math.abs(other.x - place.x) < LABEL.width && Math.abs(other.y - place.y) < LABEL.height);
    for (let other = inWay(); other; other = inWay()) place.y = other.y + LABEL.height;
    placed.push(place);
  }
  return places;
}

function mean(vertices: Vertex[]): number | undefined {
  return vertices.length === 0 ? undefined : vertices.reduce((sum, { y }) => sum + y, 0) / vertices.length;
}

function rank(name: string, first: string[]): number {
  const at = first.indexOf(name);
  return at < 0 ? first.length : at;
}
