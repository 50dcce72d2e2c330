/** Takes the money: asks the bank that a card is of, and tells what became of it. */

import { setTimeout as pause } from "node:timers/promises";

import { defineEvent, service, type Packet } from "serin-sdk";

interface Charge {
  order: string;
  visitor: string;
  country: string;
  card: string;
  gross: number;
  lines: { sku: string; count: number }[];
}

interface Bill {
  order: string;
  visitor: string;
  country: string;
  /** In euros. */
  amount: number;
  bank: string;
}

/** Cards for tests, by their last digits, as those who take payments publish them. */
const REFUSALS: Record<string, string> = { "0002": "declined", "9995": "no_funds", "0069": "expired" };
/** How long the banks take, in milliseconds. */
const BANKS = { north: 15, alps: 35 } as const;

const paid = defineEvent<Bill & { items: number; duration_ms: number }>("order.paid");
const failed = defineEvent<Bill & { reason: string }>("payment.failed");
const app = service("payment", { description: "takes the money" });

/** Enhances an order with its payment. A refusal is an answer, no error: the service did its work. */
app.endpoint("charge", async ({ data }: Packet<Charge>) => {
  const { order, visitor, country, card, gross, lines } = data;
  const bank = country === "ch" || country === "at" ? "alps" : "north";
  const bill: Bill = { order, visitor, country, amount: gross / 100, bank };
  const beganMs = performance.now();
  // A bank of this example is a pause, about as long as theirs.
  await pause(BANKS[bank] * (0.5 + Math.random()));
  const reason = REFUSALS[card.slice(-4)];
  if (reason !== undefined) {
    app.emit(failed, { ...bill, reason });
    return { payment: { status: "refused", reason } };
  }
  const items = lines.reduce((sum, { count }) => sum + count, 0);
  app.emit(paid, { ...bill, items, duration_ms: performance.now() - beganMs });
  return { payment: { status: "paid" } };
});

app.run();
