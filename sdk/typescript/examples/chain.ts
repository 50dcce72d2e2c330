/** A page that three services enhance, in two stages. */

import { chain, service, stage } from "serin-sdk";

const page = chain(
  "product-page",
  stage("catalogue.item", { timeoutMs: 300 }),
  stage(["price.quote", "stock.level", "reviews.top?"], { timeoutMs: 200 }),
);
const app = service("front");

app.web("GET /items/{sku}", async ({ params }) => (await app.chain(page, { sku: params["sku"] })).data);

app.run();
