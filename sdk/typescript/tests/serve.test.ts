/** Serving and calling, beyond what the conformance scenarios say. */

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";

import { headers as newHeaders } from "@nats-io/transport-node";

import { CallError, chain, connect, html, service as serviceOf, stage, WebRequest, WebResponse, type Serin, type Service } from "../dist/index.js";
import { recording } from "../dist/testing.js";
import { Fixture, until } from "./fixture.ts";

async function serving(
  t: TestContext,
  add: (service: Service, app: Serin) => void,
  mappings: Record<string, string> = {},
): Promise<Fixture> {
  const fixture = new Fixture(mappings);
  t.after(() => fixture.close());
  await fixture.start();
  const app = connect(fixture.options());
  const service = app.service({ concurrency: 2 });
  add(service, app);
  await service.start();
  t.after(() => service.stop({ deadlineMs: 1000 }));
  return fixture;
}

/** All messages of a web answer. */
async function web(fixture: Fixture, target: string): Promise<{ status: string; headers: Record<string, string[]>; body: Buffer; messages: number; error: string | undefined }> {
  const inbox = `_INBOX.web.${Math.random().toString(36).slice(2)}`;
  const found: any[] = [];
  fixture.client.subscribe(inbox, { callback: (_, message) => void found.push(message) });
  const said = newHeaders();
  said.set("serin-http", target);
  fixture.client.publish("svc.cart.v3.http", "", { reply: inbox, headers: said });
  await until(() => found.length > 0 && !found.at(-1).headers?.has("serin-http-more"));
  const first = found[0].headers;
  return {
    status: first.get("serin-http-status"),
    headers: Object.fromEntries(first),
    body: Buffer.concat(found.map(({ data }) => data)),
    messages: found.length,
    error: found.at(-1).headers?.get("Nats-Service-Error-Code"),
  };
}

test("bodies are checked, bytes stay bytes, names are one's own", async (t) => {
  const fixture = await serving(t, (service) => {
    const schema = {
      parse: (data: unknown) => {
        if (typeof (data as { sku?: unknown })?.sku !== "string") throw new Error('no field "sku"');
        return data as { sku: string };
      },
    };
    service
      .endpoint("add", ({ sku }) => ({ sku }), { schema })
      .endpoint("bytes", () => new Uint8Array([1, 2, 3]))
      .endpoint("none", () => 1n as never);
    assert.throws(() => service.endpoint("add", () => 1), /two handlers/);
    assert.throws(() => service.endpoint("Add", () => 1), /endpoint name/);
  });
  assert.deepEqual((await fixture.request("svc.cart.v3.add", { sku: "a" })).json(), { sku: "a" });
  const refused = await fixture.request("svc.cart.v3.add", { count: 2 });
  assert.equal(refused.headers?.get("Nats-Service-Error-Code"), "400");
  assert.match(refused.headers?.get("Nats-Service-Error") ?? "", /no field "sku"/);
  assert.deepEqual([...(await fixture.request("svc.cart.v3.bytes", {})).data], [1, 2, 3]);
  assert.equal((await fixture.request("svc.cart.v3.none", {})).headers?.get("Nats-Service-Error-Code"), "500");
});

test("a handler keeps its place beyond its deadline", async (t) => {
  let open = () => {};
  const gate = new Promise<void>((tell) => (open = tell));
  const fixture = await serving(t, (service) => service.endpoint("slow", async () => (await gate, "done")));
  const late = { "serin-timeout-ms": "50" };
  const codes = await Promise.all([1, 2].map(() => fixture.request("svc.cart.v3.slow", {}, late)));
  assert.deepEqual(codes.map(({ headers }) => headers?.get("Nats-Service-Error-Code")), ["408", "408"]);
  assert.equal((await fixture.request("svc.cart.v3.slow", {}, late)).headers?.get("serin-not-run"), "1");
  open();
  assert.equal((await fixture.request("svc.cart.v3.slow", {})).json(), "done");
});

test("an error is answered whatever more it says", async (t) => {
  const circle: Record<string, unknown> = {};
  circle["self"] = circle;
  const bodies = { big: 1n, circle, bytes: new Uint8Array([1, 2]), json: { left: 0 } };
  const fixture = await serving(t, (service) => {
    for (const [name, body] of Object.entries(bodies)) {
      service.endpoint(name, () => {
        throw new CallError(409, "sold out", { body });
      });
    }
  });
  const answers = await Promise.all(Object.keys(bodies).map((name) => fixture.request(`svc.cart.v3.${name}`, {})));
  assert.deepEqual(answers.map(({ headers }) => headers?.get("Nats-Service-Error-Code")), ["409", "409", "409", "409"]);
  assert.deepEqual(answers.map(({ data }) => [...data]), [[], [], [1, 2], [...Buffer.from('{"left":0}')]]);
  assert.deepEqual(answers.map(({ headers }) => headers?.get("content-type")), ["", "", "application/octet-stream", ""]);
});

test("a reply that is too large is refused in words", async (t) => {
  const fixture = await serving(t, (service) => service.endpoint("large", () => "x".repeat(2 << 20)));
  const answer = await fixture.request("svc.cart.v3.large", {});
  assert.equal(answer.headers?.get("Nats-Service-Error-Code"), "413");
  assert.match(answer.headers?.get("Nats-Service-Error") ?? "", /more than the bus takes/);
});

test("web answers of every kind", async (t) => {
  let hasEnded = false;
  const fixture = await serving(t, (service) => {
    service
      .web("GET /page", () => html("<p>é</p>"))
      .web("GET /items/{id}", ({ params }) => params)
      .web("GET /large", () => Buffer.alloc(700_000, "x"))
      .web("GET /standard", () => new Response("hi", { status: 202, headers: { "x-own": "1" } }))
      .web("GET /none", () => new WebResponse(undefined, { status: 204 }))
      .web("GET /refused", () => {
        throw new CallError(409, "sold out");
      })
      .web("GET /breaks", async function* () {
        yield "one";
        throw new Error("secret");
      })
      .web("GET /endless", async function* () {
        try {
          for (;;) {
            yield "tick ";
            await new Promise((tell) => setTimeout(tell, 1));
          }
        } finally {
          hasEnded = true;
        }
      });
  });
  const page = await web(fixture, "GET /page");
  assert.deepEqual([page.status, page.headers["h-content-type"], page.body.toString()], ["200", ["text/html; charset=utf-8"], "<p>é</p>"]);
  const item = await web(fixture, "GET /items/a%20b");
  assert.deepEqual(JSON.parse(item.body.toString()), { id: "a b" });
  assert.deepEqual(item.headers["serin-http-pattern"], ["/items/{id}"]);
  const large = await web(fixture, "GET /large");
  assert.deepEqual([large.body.length, large.messages], [700_000, 3]);
  const standard = await web(fixture, "GET /standard");
  assert.deepEqual([standard.status, standard.headers["h-x-own"], standard.body.toString()], ["202", ["1"], "hi"]);
  assert.equal((await web(fixture, "GET /none")).status, "204");
  const refused = await web(fixture, "GET /refused");
  assert.deepEqual([refused.status, refused.headers["serin-http-pattern"]], ["409", ["/refused"]]);
  assert.equal((await web(fixture, "POST /page")).status, "405");
  const absent = await web(fixture, "GET /absent");
  assert.deepEqual([absent.status, absent.headers["serin-http-pattern"]], ["404", undefined]);
  const broken = await web(fixture, "GET /breaks");
  assert.deepEqual([broken.body.toString(), broken.error], ["one", "500"]);
  // Nobody listens any more, so the bus says so and the service's generator is ended.
  const gone = fixture.client.subscribe("_INBOX.gone", { max: 1, callback: () => {} });
  const said = newHeaders();
  said.set("serin-http", "GET /endless");
  fixture.client.publish("svc.cart.v3.http", "", { reply: "_INBOX.gone", headers: said });
  await gone.closed;
  await until(() => hasEnded);
});

test("handlers are tested without a bus", async () => {
  const app = serviceOf("hello");
  const hello = (request: WebRequest) => {
    app.emit("greeting.sent", { to: request.query["name"] });
    app.logger().info("greeted");
    return "hi";
  };
  app.web(hello);
  const events = await recording(app, () => assert.equal(hello(WebRequest.of("GET /?name=Ada")), "hi"));
  assert.deepEqual(events, [{ type: "greeting.sent", data: { to: "Ada" } }]);
});

test("log lines and spans are told with their trace", async (t) => {
  const fixture = await serving(t, (service, of) => {
    service.endpoint("work", () => of.span("inner", () => of.logger("cart").warn("odd", { n: 1, error: new Error("why") })));
  });
  const lines: any[] = [];
  for (const what of ["log", "span"]) {
    fixture.client.subscribe(`tel.${what}.>`, {
      callback: (_, message) => {
        for (const line of message.string().trim().split("\n")) lines.push({ what, ...JSON.parse(line) });
      },
    });
  }
  await fixture.client.flush();
  await fixture.request("svc.cart.v3.work", {});
  await until(() => lines.length >= 3);
  const log = lines.find(({ what }) => what === "log");
  const [inner, outer] = ["inner", "work"].map((name) => lines.find((line) => line.name === name));
  assert.deepEqual([log.level, log.message, log.source, log.fields.n], ["warn", "odd", "cart", 1]);
  assert.match(log.fields.error, /Error: why/);
  assert.equal(log.trace_id, outer.trace_id);
  assert.equal(inner.parent_id, outer.span_id);
});

test("an enhancer whose additions are too large fails, and the data stay as they were", async (t) => {
  let asked: Serin | undefined;
  await serving(t, (service, of) => {
    asked = of;
    service.endpoint("large", () => ({ text: "x".repeat(200 << 10) })).endpoint("small", () => ({ n: 1 }));
  }, { "svc.cart.*": "svc.cart.v3.$1" });
  const start = { first: "x".repeat(100 << 10) };
  const { data, hops } = await asked!.chain(chain("page", stage(["cart.large?", "cart.small"])), start);
  assert.deepEqual(data, { ...start, n: 1 });
  assert.deepEqual(hops.map(({ status }) => status), ["failed", "ok"]);
  assert.match(hops[0]!.error ?? "", /at most 262144 fit/);
  const failing = asked!.chain(chain("page", stage("cart.large")), start);
  await assert.rejects(failing, { name: "ChainError", message: /cart\.large/ });
});

test("the lines of console are told with their trace", async (t) => {
  const fixture = await serving(t, (service, of) => {
    service.endpoint("work", () => {
      const giveBack = of.logger("console").takeConsole();
      console.log("added %d of", 3, { sku: "a" });
      giveBack();
    });
  });
  const lines: any[] = [];
  fixture.client.subscribe("tel.log.>", { callback: (_, message) => void lines.push(...message.string().trim().split("\n")) });
  await fixture.client.flush();
  await fixture.request("svc.cart.v3.work", {});
  await until(() => lines.length > 0);
  const { level, message, source, trace_id } = JSON.parse(lines[0]);
  assert.deepEqual([level, message, source], ["info", "added 3 of { sku: 'a' }", "console"]);
  assert.match(trace_id, /^[0-9a-f]{32}$/);
});
