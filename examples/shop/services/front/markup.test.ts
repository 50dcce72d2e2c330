/** node --import serin-sdk/ts --test markup.test.ts */

import assert from "node:assert/strict";
import test from "node:test";

import { markup } from "./markup.ts";

test("text is no markup", () => {
  const name = `<b title="x">O'Neil & Co.`;
  assert.equal(markup`<p>${name}</p>`.text, "<p>&lt;b title=&quot;x&quot;&gt;O&#39;Neil &amp; Co.</p>");
});

test("markup in markup stays so, also in lists", () => {
  const items = ["a", "<"].map((text) => markup`<li>${text}</li>`);
  assert.equal(markup`<ul>${items}</ul>${2}`.text, "<ul><li>a</li><li>&lt;</li></ul>2");
});
