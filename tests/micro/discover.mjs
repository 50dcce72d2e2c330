// The official JavaScript client's discovery of NATS micro services finds ours, as `nats micro ls`, `info`
// and `stats` do, and calls them by what they say of themselves; run by tests/e2e/services/micro.rs.
//
//     discover.mjs BUS SERVICE…

import { connect, JSONCodec } from "nats";

const [bus, ...services] = process.argv.slice(2);
const { username: user, password: pass, host } = new URL(bus);
const connection = await connect({ servers: host, user, pass, inboxPrefix: `_INBOX.${user}` });
const discovery = connection.services.client({ strategy: "jitterTimer", jitter: 500, maxWait: 5_000 });
const { encode, decode } = JSONCodec();
const PATIENCE_MS = 20_000;
/** Of each service. */
const INSTANCES = 2;

/**
 * All that answer, by the names of their instances; asked again for a while where that is not enough: who is
 * slow to answer is not heard, and a request is counted after its answer.
 */
async function all(ask, isEnough) {
  for (const untilMs = Date.now() + PATIENCE_MS; ; ) {
    const found = [];
    for await (const answer of await ask()) found.push(answer);
    if (isEnough(found) || Date.now() > untilMs) return found.sort((a, b) => a.id.localeCompare(b.id));
  }
}

const told = {};
const everyone = await all(() => discovery.ping(), ({ length }) => length >= services.length * INSTANCES);
for (const service of services) {
  const both = ({ length }) => length >= INSTANCES;
  const pinged = await all(() => discovery.ping(service), both);
  const described = await all(() => discovery.info(service), both);
  const greet = described[0].endpoints.find(({ name }) => name === "greet");
  const answer = await connection.request(greet.subject, encode({ name: "Ada" }));
  const sum = (found, key) => found.flatMap(({ endpoints }) => endpoints).reduce((total, one) => total + one[key], 0);
  const counted = await all(() => discovery.stats(service), (found) => both(found) && sum(found, "num_requests") > 0);
  told[service] = {
    among_all: everyone.filter(({ name }) => name === service).map(({ id }) => id),
    pinged: pinged.map(({ id, version }) => `${id} ${version}`),
    described: described.map(({ id }) => id),
    queue_group: greet.queue_group,
    answer: decode(answer.data),
    requests: sum(counted, "num_requests"),
    took_ns: sum(counted, "processing_time"),
  };
}
console.log(JSON.stringify(told));
await connection.close();
