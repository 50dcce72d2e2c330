/** npm test, or node --import serin-sdk/ts --test app.test.ts */

import assert from "node:assert/strict";
import test from "node:test";

%WEB%import { WebRequest } from "serin-sdk";
import { recording } from "serin-sdk/testing";

%WEB%import { app, greet, page } from "./app.ts";
%BUS%import { app, greet } from "./app.ts";

test("a caller is greeted and counted", async () => {
  const events = await recording(app, () => {
    assert.deepEqual(greet({ name: "Ada" }), { text: "Hello, Ada!" });
  });
  assert.deepEqual(events, [{ type: "%NAME%.greeted", data: { name: "Ada" } }]);
});
%WEB%
%WEB%test("a name is no markup", async () => {
%WEB%  await recording(app, () => {
%WEB%    const answer = page(WebRequest.of("GET /?name=%3CAda%3E"));
%WEB%    assert.equal(String(answer.body), "Hello, &lt;Ada&gt;!");
%WEB%  });
%WEB%});
