/** The shop as visitors see it: pages that other services enhance, and forms that call them. */

import { readFileSync } from "node:fs";

import { CallError, chain, service, stage, WebResponse, type WebRequest } from "serin-sdk";

import { bird } from "./icons.ts";
import type { Markup } from "./markup.ts";
import * as pages from "./pages.ts";
import { COUNTRIES, kept, visitorOf, type Visitor } from "./visitor.ts";

const STYLE = readFileSync(new URL("style.css", import.meta.url), "utf8");

/** The code of a call that was not answered in time. */
const TIME_OVER = 408;

const app = service("front", { description: "the shop as visitors see it" });

const productPage = chain(
  "product-page",
  stage("catalogue.item", { timeoutMs: 500 }),
  stage(["price.quote", "stock.level", "recommendation.also?"], { timeoutMs: 500 }),
  stage(["tax.item", "catalogue.cards?"], { timeoutMs: 500 }),
);

app.web("GET /", page(async (request) => {
  const visitor = visitorOf(request);
  const { items, gross } = await shelf(visitor);
  viewed(visitor, { page: "shelf" });
  return shown(visitor, "Shop", pages.shelf([...items.values()], gross));
}));

app.web("GET /items/{sku}", page(async (request) => {
  const visitor = visitorOf(request);
  const sku = request.params["sku"] ?? "";
  const beganMs = performance.now();
  const { data, hops } = await app.chain<pages.ProductPage>(productPage, { sku, country: visitor.country });
  viewed(visitor, { page: "item", sku, chain_ms: performance.now() - beganMs });
  return shown(visitor, data.item.name, pages.product(data, hops));
}));

app.web("GET /cart", page(async (request) => {
  const visitor = visitorOf(request);
  const [{ items, gross }, cart] = await Promise.all([
    shelf(visitor),
    app.call<{ lines: { sku: string; count: number }[] }>("cart", "show", { visitor: visitor.visitor }),
  ]);
  const lines = cart.lines.flatMap(({ sku, count }) => {
    const [item, each] = [items.get(sku), gross[sku]];
    return item && each !== undefined ? [{ item, count, gross: each }] : [];
  });
  viewed(visitor, { page: "cart" });
  const note = pages.OUTCOMES[request.query["outcome"] ?? ""] ?? "";
  return shown(visitor, "Cart", pages.cart(lines, note));
}));

app.web("POST /cart", page(async (request) => {
  const { visitor, country } = visitorOf(request);
  const form = request.form();
  const sku = form.get("sku") ?? "";
  const count = Number(form.get("count") ?? 1);
  await app.call("catalogue", "check", { sku });
  await app.call("cart", "add", { visitor, country, sku, count });
  return seeOther("/cart");
}));

app.web("POST /order", page(async (request) => {
  const { visitor, country } = visitorOf(request);
  const card = request.form().get("card") ?? "";
  const { order, outcome } = await app.call<pages.Ordered>("checkout", "place", { visitor, country, card });
  return seeOther(outcome === "paid" ? `/thanks/${order}` : `/cart?outcome=${outcome}`);
}));

app.web("GET /thanks/{order}", (request) =>
  shown(visitorOf(request), "Thank you", pages.thanks(request.params["order"] ?? "")),
);

app.web("GET /country/{code}", ({ params: { code = "" } }) =>
  Object.hasOwn(COUNTRIES, code) ? seeOther("/", kept("country", code)) : seeOther("/"),
);

app.web("GET /style.css", () => asset(STYLE, "text/css; charset=utf-8"));
app.web("GET /icon.svg", () => asset(bird(), "image/svg+xml"));
app.web((request: WebRequest) =>
  shown(visitorOf(request), "Not here", pages.trouble("Not here", "There is no such page."), 404),
);

/**
 * A page, or one that says why there is none: what was asked for is not there or cannot be done, as a service
 * says; or a service that the page needs does not answer, which is no fault of the visitor.
 */
function page(made: (request: WebRequest) => Promise<WebResponse>) {
  return async (request: WebRequest): Promise<WebResponse> => {
    try {
      return await made(request);
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      console.warn(`no page for ${request.method} ${request.path}: ${error.message}`);
      const visitor = visitorOf(request);
      const isRefused = error.code < 500 && error.code !== TIME_OVER;
      return isRefused
        ? shown(visitor, "Not here", pages.trouble("Not here", "There is no such thing in this shop."), error.code)
        : shown(visitor, "One moment", pages.trouble("One moment", "Part of the shop is shut. Please come again soon."), 503);
    }
  };
}

/** Everything that is sold, and what it costs where the visitor is. */
async function shelf({ country }: Visitor) {
  const [items, prices] = await Promise.all([
    app.call<pages.Item[]>("catalogue", "list"),
    app.call<Record<string, number>>("price", "list"),
  ]);
  const gross = await app.call<Record<string, number>>("tax", "list", { prices, country });
  return { items: new Map(items.map((item) => [item.sku, item])), gross };
}

function viewed({ visitor, country }: Visitor, what: { page: string; sku?: string; chain_ms?: number }): void {
  app.emit("page.view", { visitor, country, ...what });
}

function shown(visitor: Visitor, title: string, content: Markup, status = 200): WebResponse {
  const cookies = visitor.isNew ? [kept("visitor", visitor.visitor)] : [];
  const headers = [["content-type", "text/html; charset=utf-8"], ...cookies] as const;
  return new WebResponse(pages.page(title, visitor, content), { status, headers });
}

function seeOther(path: string, ...headers: (readonly [string, string])[]): WebResponse {
  return new WebResponse("", { status: 303, headers: [["location", path], ...headers] });
}

function asset(text: string, type: string): WebResponse {
  return new WebResponse(text, { headers: { "content-type": type, "cache-control": "max-age=300" } });
}

app.run();
