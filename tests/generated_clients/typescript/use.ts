// Use the client that was generated from openapi.json once: send, read back, be refused. Prints what came as JSON.
// usage: node use.js, with GATEWAY, API_KEY and RUN_ID in the environment
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type EventBody = components["schemas"]["EventBody"];
type Trace = components["schemas"]["TraceView"];

function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is missing`);
  return value;
}

function received<T>(what: string, { data, error }: { data?: T; error?: unknown }): T {
  if (data === undefined) throw new Error(`${what}: ${JSON.stringify(error)}`);
  return data;
}

const runId = setting("RUN_ID");
const client = createClient<paths>({ baseUrl: setting("GATEWAY"), headers: { "X-API-Key": setting("API_KEY") } });
const path = { run_id: runId };

function event(seq: number): EventBody {
  return {
    seq,
    t: "2026-01-01T00:00:00Z",
    actor: "agent",
    type: "message",
    payload: { text: "the tide comes in", number: 1.5 },
    meta: { run_id: runId, agent_id: "plain-agent", idempotency_key: `key-${seq}` },
  };
}

// The types are those of the document: a wrong one does not compile.
// @ts-expect-error: an idempotency key is a string
export const wrongKey: EventBody = { ...event(1), meta: { run_id: runId, agent_id: "a", idempotency_key: 1 } };
// @ts-expect-error: there is no such field
export const wrongField: EventBody = { ...event(1), sequence: 1 };

const sent = received(
  "sent",
  await client.POST("/api/runs/{run_id}/events", { params: { path, query: { wait: "persistence" } }, body: event(1) }),
);
const page = received("page", await client.GET("/api/runs/{run_id}/events", { params: { path, query: { limit: 10 } } }));
const { error: refused } = await client.POST("/api/runs/{run_id}/events", { params: { path }, body: event(5) });
const { error: invalid } = await client.GET("/api/runs", { params: { query: { limit: 0 } } });
const runs = received("runs", await client.GET("/api/runs", { params: { query: { agent: "plain-agent" } } }));
received(
  "finalized",
  await client.POST("/api/runs/{run_id}/finalize", {
    params: { path, query: { wait: "persistence" } },
    body: { status: "succeeded" },
  }),
);
const integrity = received("integrity", await client.GET("/api/runs/{run_id}/integrity", { params: { path } }));
const trace: Pick<Trace, "event_count" | "types"> = received("trace", await client.GET("/api/runs/{run_id}/trace", { params: { path } }));

console.log(
  JSON.stringify({
    status: sent.status,
    wal_id: sent.wal_id,
    payload: page.events[0]?.payload,
    payload_wal_id: page.events[0]?.wal_id,
    refused: [refused?.status, refused?.code, refused?.expected_seq],
    invalid: [invalid?.status, invalid?.code, invalid?.errors?.map((fault) => fault.parameter)],
    listed: runs.runs.some((run) => run.run_id === runId),
    missing: integrity.missing.ranges,
    traced: [trace.event_count, trace.types],
  }),
);
