/** Endpoints with typed bodies, a call of another service, an event type and an error of its own. */

import { CallError, defineEvent, service } from "serin-sdk";

interface Item {
  sku: string;
  count: number;
}

const cartAdd = defineEvent<Item & { total: number }>("cart.add");
const app = service("cart");
const counts = new Map<string, number>();
app.gauge("cart.items", () => counts.size);

app.endpoint(
  "add",
  async ({ sku, count }: Item) => {
    const { level } = await app.call<{ level: number }>("stock", "level", { sku }, { timeoutMs: 300 });
    if (level < count) throw new CallError(409, `only ${level} of ${sku} are left`, { body: { level } });
    const total = (counts.get(sku) ?? 0) + count;
    counts.set(sku, total);
    app.emit(cartAdd, { sku, count, total });
    return { sku, total };
  },
  { schema: { parse: readItem } },
);

function readItem(data: unknown): Item {
  const { sku, count = 1 } = (data ?? {}) as Partial<Item>;
  if (typeof sku !== "string" || !Number.isInteger(count)) throw new Error('an item is {"sku": text, "count": whole number}');
  return { sku, count };
}

app.run();
