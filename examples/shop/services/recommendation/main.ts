/** What else somebody may like: what was ordered together, and until something was, what fits. */

import { service, type Packet } from "serin-sdk";

const SHOWN = 3;
/** What each instance starts with; what it learns is its own and ends with it. */
const FITS: Record<string, string[]> = {
  "seed-finch": ["feeder-tube", "book-birds", "glass-8x32"],
  "seed-tit": ["feeder-window", "suet-balls", "box-tit"],
  "suet-balls": ["seed-tit", "bath-stone", "box-wren"],
  "box-swift": ["book-songs", "glass-8x32", "bath-stone"],
  "glass-8x32": ["book-birds", "book-songs", "feeder-window"],
};
const USUAL = ["seed-finch", "feeder-tube", "book-birds", "box-tit"];

const app = service("recommendation", { description: "what else somebody may like" });
const together = new Map<string, Map<string, number>>();
app.gauge("recommendation.known_items", () => together.size);

app.endpoint(
  "also",
  ({ data: { sku } }: Packet<{ sku: string }>) => {
    const learnt = [...(together.get(sku) ?? [])].sort(([, one], [, other]) => other - one).map(([other]) => other);
    const all = new Set([...learnt, ...(FITS[sku] ?? []), ...USUAL]);
    all.delete(sku);
    return { also: [...all].slice(0, SHOWN) };
  },
  { idempotent: true },
);

app.endpoint("learn", ({ skus }: { skus: string[] }) => {
  for (const sku of skus) {
    const others = together.get(sku) ?? new Map<string, number>();
    for (const other of skus) if (other !== sku) others.set(other, (others.get(other) ?? 0) + 1);
    together.set(sku, others);
  }
});

app.run();
