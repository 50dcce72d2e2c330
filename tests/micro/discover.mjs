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

/** All that answer, by the names of their instances. */
async function all(answers) {
  const found = [];
  for await (const answer of await answers) found.push(answer);
  return found.sort((a, b) => a.id.localeCompare(b.id));
}

const told = {};
const everyone = await all(discovery.ping());
for (const service of services) {
  const pinged = await all(discovery.ping(service));
  const described = await all(discovery.info(service));
  const greet = described[0].endpoints.find(({ name }) => name === "greet");
  const answer = await connection.request(greet.subject, encode({ name: "Ada" }));
  const counted = (await all(discovery.stats(service))).flatMap(({ endpoints }) => endpoints);
  const sum = (key) => counted.reduce((total, endpoint) => total + endpoint[key], 0);
  told[service] = {
    among_all: everyone.filter(({ name }) => name === service).map(({ id }) => id),
    pinged: pinged.map(({ id, version }) => `${id} ${version}`),
    described: described.map(({ id }) => id),
    queue_group: greet.queue_group,
    answer: decode(answer.data),
    requests: sum("num_requests"),
    took_ns: sum("processing_time"),
  };
}
console.log(JSON.stringify(told));
await connection.close();
