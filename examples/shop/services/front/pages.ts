/** The pages of the shop, as functions of what is shown. */

import type { Hop } from "serin-sdk";

import { picture } from "./icons.ts";
import { markup, type Markup } from "./markup.ts";
import { COUNTRIES, type Visitor } from "./visitor.ts";

/** Something that is sold. */
export interface Item {
  readonly sku: string;
  readonly name: string;
  readonly category: string;
  readonly icon: string;
  readonly hue: number;
  readonly text: string;
}

/** What the chain `product-page` brings together. */
export interface ProductPage {
  readonly item: Item;
  readonly gross: number;
  readonly tax: { readonly rate: number };
  readonly stock: { readonly level: number };
  readonly related?: readonly Item[];
}

/** A line of a cart. */
export interface Line {
  readonly item: Item;
  readonly count: number;
  readonly gross: number;
}

/** How an order ended. */
export interface Ordered {
  readonly order: string;
  readonly outcome: string;
  readonly gross?: number | null;
}

const euro = (cents: number) => `€\u00a0${(cents / 100).toFixed(2)}`;
const CATEGORIES: Record<string, string> = {
  food: "Food",
  feeders: "Feeders and baths",
  homes: "Homes",
  watching: "Watching and reading",
};

/** A whole page around its content. */
export function page(title: string, { country }: Visitor, content: Markup): string {
  const countries = Object.entries(COUNTRIES).map(
    ([code, name]) =>
      markup`<a href="/country/${code}" aria-current="${code === country ? "true" : "false"}" title="${name}">${code.toUpperCase()}</a>`,
  );
  return markup`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} · Finch &amp; Co.</title>
<link rel="icon" href="/icon.svg">
<link rel="stylesheet" href="/style.css">
<header>
  <a class="name" href="/">${picture("bird", 68)} Finch &amp; Co.</a>
  <nav><a href="/">Shop</a> <a class="cart" href="/cart">Cart</a></nav>
</header>
<main>${content}</main>
<footer>
  <p class="countries">We deliver to ${countries}</p>
  <p>Ten small services behind one page. An example of Serin.</p>
</footer>
</html>
`.text;
}

/** Everything that is sold, by category. */
export function shelf(items: readonly Item[], gross: Readonly<Record<string, number>>): Markup {
  const sections = Object.entries(CATEGORIES).map(([category, title]) => {
    const cards = items.filter((item) => item.category === category).map((item) => card(item, gross[item.sku]));
    return markup`<section><h2>${title}</h2><div class="cards">${cards}</div></section>`;
  });
  return markup`<h1>Good things for small birds</h1>
<p class="lead">Seed, shelter and something to watch them with. Sent tomorrow, if the finches let us.</p>
<div class="shelf">${sections}</div>`;
}

function card({ sku, name, icon, hue }: Item, gross?: number): Markup {
  return markup`<a class="card" href="/items/${sku}">${picture(icon, hue)}<b>${name}</b>${gross === undefined ? "" : markup`<span class="price">${euro(gross)}</span>`}</a>`;
}

/** One item, as the services of the chain enhanced it, and how they did. */
export function product({ item, gross, tax, stock, related = [] }: ProductPage, hops: readonly Hop[]): Markup {
  const others = markup`<section><h2>Goes well with it</h2><div class="cards">${related.map((one) => card(one))}</div></section>`;
  return markup`<article class="product">
  ${picture(item.icon, item.hue)}
  <div>
    <p class="category">${CATEGORIES[item.category] ?? item.category}</p>
    <h1>${item.name}</h1>
    <p>${item.text}</p>
    <p class="price">${euro(gross)} <small>with ${tax.rate} % tax</small></p>
    <form method="post" action="/cart">
      <input type="hidden" name="sku" value="${item.sku}">
      <label>How many <input name="count" type="number" value="1" min="1" max="20"></label>
      <button${stock.level > 0 ? "" : " disabled"}>Put into the cart</button>
    </form>
    <p class="stock" data-level="${stock.level > 10 ? "full" : stock.level > 0 ? "low" : "none"}">${stockText(stock.level)}</p>
  </div>
</article>
${related.length > 0 ? others : ""}
${waterfall(hops)}`;
}

function stockText(level: number): string {
  if (level === 0) return "Sold out; more is on its way";
  return level > 10 ? "In stock" : `Only ${level} left`;
}

/** How the page was made: each stage waits for the one before it, the hops of one go side by side. */
function waterfall(hops: readonly Hop[]): Markup {
  const stages = new Map<number, Hop[]>();
  for (const hop of hops) stages.set(hop.stage, [...(stages.get(hop.stage) ?? []), hop]);
  const slowest = [...stages.values()].map((stage) => Math.max(...stage.map((hop) => hop.total_us)));
  const whole = Math.max(1, slowest.reduce((sum, us) => sum + us, 0));
  const rows = [...stages.values()].flatMap((stage, at) => {
    const begin = slowest.slice(0, at).reduce((sum, us) => sum + us, 0);
    return stage.map((hop) => {
      const left = (begin / whole) * 100;
      const width = Math.max(1, (hop.total_us / whole) * 100);
      return markup`<tr><th>${hop.enhancer}</th><td><svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect class="${hop.status}" x="${left.toFixed(1)}" width="${width.toFixed(1)}" height="8" rx="1"/></svg></td><td>${(hop.total_us / 1000).toFixed(1)} ms</td></tr>`;
    });
  });
  const services = new Set(hops.map(({ enhancer }) => enhancer.split(".")[0]));
  return markup`<details class="made"><summary>Made by ${services.size} services in ${(whole / 1000).toFixed(1)} ms</summary><table>${rows}</table></details>`;
}

/** What is in the cart, and the way to the checkout. */
export function cart(lines: readonly Line[], note: string): Markup {
  const said = note === "" ? "" : markup`<p class="note">${note}</p>`;
  if (lines.length === 0) return markup`<h1>Your cart</h1>${said}<p>It is empty. <a href="/">Look around</a></p>`;
  const rows = lines.map(
    ({ item, count, gross }) =>
      markup`<tr><td class="small">${picture(item.icon, item.hue)}</td><th><a href="/items/${item.sku}">${item.name}</a></th><td>${count}&nbsp;×</td><td>${euro(gross)}</td><td>${euro(gross * count)}</td></tr>`,
  );
  const total = lines.reduce((sum, { count, gross }) => sum + count * gross, 0);
  return markup`<h1>Your cart</h1>${said}
<table class="lines">${rows}<tr class="total"><td></td><th>Together</th><td></td><td></td><td>${euro(total)}</td></tr></table>
<form class="pay" method="post" action="/order">
  <label>Card for tests <select name="card">
    <option value="4242424242424242">4242 … works</option>
    <option value="4000000000000002">… 0002 is declined</option>
    <option value="4000000000009995">… 9995 has no funds</option>
    <option value="4000000000000069">… 0069 is expired</option>
  </select></label>
  <button>Order and pay ${euro(total)}</button>
</form>`;
}

/** An order that is paid. */
export function thanks(order: string): Markup {
  return markup`<section class="thanks">${picture("bird", 68)}<h1>Thank you</h1><p>Your order <b>${order}</b> is paid; the receipt is on its way.</p><p><a href="/">Back to the shop</a></p></section>`;
}

/** Something is not there, or does not work. */
export function trouble(title: string, text: string): Markup {
  return markup`<section class="thanks"><h1>${title}</h1><p>${text}</p><p><a href="/">Back to the shop</a></p></section>`;
}

/** What is said of an order that was not paid. */
export const OUTCOMES: Record<string, string> = {
  refused: "The bank refused the card. Nothing was paid; take another one.",
  sold_out: "Somebody was quicker: not all of it is left. Nothing was paid.",
  empty: "There was nothing in the cart.",
  failed: "The order could not be taken. Nothing was paid; please try again.",
};
