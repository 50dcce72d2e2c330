/** The smallest web service: `serin run hello`. */

import { service } from "serin-sdk";

const app = service("hello");

app.web((request) => {
  const to = request.query["name"] ?? "world";
  app.emit("greeting.sent", { to });
  return `Hello, ${to}!`;
});

app.run();
