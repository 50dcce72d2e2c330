// Opens pages in Chromium, clicks and types as a user does, and tells what they show.
//
// Driven by `e2e/chromium.rs`: reads commands as JSON lines from standard input, answers each with a
// JSON line. Decides nothing: the test that asks compares. Times are waited for, never slept.
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const DEADLINE_MS = 60_000;
const LOOK_EVERY_MS = 30;

const browser = await chromium.launch({
  executablePath: process.env.SERIN_CHROMIUM_PATH,
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});
const context = await browser.newContext({ viewport: { width: 1400, height: 1000 } });
const page = await context.newPage();
const faults = [];
page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
page.on("dialog", (dialog) => faults.push(`dialog: ${dialog.message()}`));
page.on("console", (message) => {
  const text = message.text();
  // A server that was killed on purpose cannot be reached; that alone is no fault.
  if (message.type() === "error" && !/ERR_CONNECTION|Failed to load resource|net::/.test(text)) {
    faults.push(`console: ${text}`);
  }
});

/** Whether an expression in a page is true. While the page gives way to the next one nothing is. */
async function isTrue(page, expression) {
  try {
    return await page.evaluate(expression);
  } catch (error) {
    if (/context was destroyed|Cannot find context/.test(error.message)) return false;
    throw error;
  }
}

/** Returns once an expression in a page is true. Asked from outside: pages forbid eval. */
async function holds(page, expression) {
  const start = performance.now();
  while (!(await isTrue(page, expression))) {
    if (performance.now() - start > DEADLINE_MS) {
      const text = await page.evaluate("document.body.innerText.slice(0, 1500)");
      throw new Error(`waited in vain; the page says: ${text}`);
    }
    await page.waitForTimeout(LOOK_EVERY_MS);
  }
}

const panelAt = (name) => page.locator(`[data-panel="${name}"]`);

const commands = {
  /** Follows a link. */
  async open({ url }) {
    await page.goto(url);
    return { url: page.url(), title: await page.title() };
  },
  /** Follows a link to a dashboard and waits until no panel loads any more. */
  async dashboard({ url }) {
    await page.goto(url);
    await commands.until({
      expression: `document.querySelector("[data-panel]") !== null &&
        document.querySelector('[data-panel][data-state="loading"]') === null`,
    });
    return { url: page.url(), title: await page.title() };
  },
  /** The state of every panel. */
  async states() {
    return await page.$$eval("[data-panel]", (panels) =>
      Object.fromEntries(panels.map((panel) => [panel.dataset.panel, panel.dataset.state])),
    );
  },
  /** The table behind a panel: headings and cells as text. */
  async table({ panel }) {
    const at = panelAt(panel);
    const toggle = at.getByTestId("panel-table-toggle");
    if ((await toggle.getAttribute("aria-pressed")) !== "true") await toggle.click();
    const table = at.getByTestId("panel-data").locator(":not([aria-busy]) > table");
    await table.waitFor();
    return await table.evaluate((table) => {
      const cells = (row) => [...row.cells].map((cell) => cell.textContent);
      return { head: cells(table.tHead.rows[0]), rows: [...table.tBodies[0].rows].map(cells) };
    });
  },
  /** Clicks the first thing that the selector finds. */
  async click({ selector }) {
    await page.locator(selector).first().click();
    return { url: page.url() };
  },
  /** Writes into a field, as if typed. */
  async type({ selector, text }) {
    await page.locator(selector).fill(text);
    return {};
  },
  async choose({ selector, value }) {
    await page.locator(selector).selectOption(value);
    return {};
  },
  async press({ keys }) {
    for (const key of keys) await page.keyboard.press(key);
    return {};
  },
  /** The value of an expression in the page. */
  async tell({ expression }) {
    return await page.evaluate(expression);
  },
  /** Waits until an expression in the page is true. */
  async until({ expression }) {
    const start = performance.now();
    await holds(page, expression);
    return { ms: performance.now() - start };
  },
  /** Milliseconds from following a link, in a page of its own, to the first frame that begins with an expression true. */
  async moment({ url, expression }) {
    const fresh = await context.newPage();
    const look = `requestAnimationFrame(function look() {
      if (${expression}) window.metAt = performance.now();
      else requestAnimationFrame(look);
    });`;
    await fresh.addInitScript({ content: look });
    await fresh.goto(url);
    await holds(fresh, "window.metAt > 0");
    const ms = await fresh.evaluate("window.metAt");
    await fresh.close();
    return { ms };
  },
  async faults() {
    return faults;
  },
  async screenshot({ path }) {
    await page.screenshot({ path, fullPage: true });
    return {};
  },
};

page.setDefaultTimeout(DEADLINE_MS);
for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...given } = JSON.parse(line);
  let answer;
  try {
    answer = { ok: await commands[command](given) };
  } catch (error) {
    answer = { error: String(error.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
