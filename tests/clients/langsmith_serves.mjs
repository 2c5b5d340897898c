// Checks that LangSmith's JavaScript client reads a server's projects and runs, unchanged but for URL and key.
//
// Arguments: the server's URL, a key that sees everything.

import assert from "node:assert/strict";
import { Client } from "langsmith";

const [url, key] = process.argv.slice(2);

// Requests that are sent, to see that none is sent again after a mistake.
let sent = 0;
const counted = (input, init) => {
  sent += 1;
  return fetch(input, init);
};
const client = (apiKey, apiUrl) =>
  new Client({ apiUrl, apiKey, fetchImplementation: counted, autoBatchTracing: false });

const answer = await fetch(`${url}/sessions?include_stats=true`, { headers: { "X-API-Key": key } });
const documents = await answer.json();
assert.ok(documents.length > 0, "no projects");

const all = async (pages) => {
  const found = [];
  for await (const one of pages) found.push(one);
  return found;
};

for (const base of [url, `${url}/api/v1`]) {
  const c = client(key, base);
  for (const expected of documents) {
    const byId = await c.readProject({ projectId: expected.id, includeStats: true });
    const byName = await c.readProject({ projectName: expected.name, includeStats: true });
    for (const found of [byId, byName]) {
      for (const field of ["id", "name", "run_count", "latency_p50", "latency_p99", "total_cost", "error_rate"]) {
        assert.deepEqual(found[field], expected[field], field);
      }
    }
  }
  const listed = await all(c.listProjects({ includeStats: true }));
  assert.deepEqual(listed.map((one) => one.id), documents.map((one) => one.id));
  assert.equal(await c.hasProject({ projectName: "nobody" }), false);

  const first = documents[0];
  const runs = await all(c.listRuns({ projectId: first.id, isRoot: true }));
  assert.equal(runs.length, first.run_count);
  assert.equal(new Set(runs.map((run) => run.id)).size, runs.length);
  const failed = await all(c.listRuns({ projectName: first.name, error: true, isRoot: true }));
  assert.ok(failed.length > 0 && failed.every((run) => run.status === "error"));
  const stats = await c.getRunStats({ projectIds: [first.id], isRoot: true });
  assert.equal(stats.run_count, first.run_count);

  const one = await c.sessions.retrieve(first.id, {
    include_stats: true,
    stats_start_time: "2026-10-30T00:00:00Z",
  });
  assert.ok(one.run_count > 0 && one.run_count < first.run_count);
  const pages = await all(c.sessions.listV2({ include_stats: true, page_size: 1 }));
  assert.deepEqual(pages.map((page) => page.id).sort(), documents.map((one) => one.id).sort());
}

// Mistakes are the client's own kinds of error, and nothing is tried again.
const c = client(key, url);
const nobody = "00000000-0000-0000-0000-00000000000a";
const fails = async (status, ask) => {
  const before = sent;
  await assert.rejects(ask, (error) => {
    assert.ok(error.status === status || String(error).includes(String(status)) , `${status}: ${error}`);
    return true;
  });
  assert.ok(sent <= before + 2, `${sent - before} requests`);
};
await fails(404, () => c.readProject({ projectId: nobody }));
await fails("not found", () => c.readProject({ projectName: "nobody" }));
await fails(401, () => client("no-such-key", url).readProject({ projectId: documents[0].id }));
await fails(422, () => all(c.listRuns({ projectId: documents[0].id, filter: "eq(" })));
await fails(404, () => c.sessions.retrieve(nobody));
await fails(422, () => all(c.sessions.listV2({ page_size: 1000 })));

console.log(`the JavaScript client read ${documents.length} projects of a server, in ${sent} requests`);
