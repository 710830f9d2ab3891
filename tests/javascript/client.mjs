// A second client of the test server: Microsoft's SDK for JavaScript, which asks in other forms than that for Python.
//
//   node client.mjs ENDPOINT KEY
//
// prints a line for each check and ends with 1 if any failed. The server must be this repository's: a split is asked for
// by its own route.

import { CosmosClient } from "@azure/cosmos";

import { runAll } from "./check.mjs";
import "./items.mjs";
import "./queries.mjs";
import "./batches.mjs";
import "./feed.mjs";

const [endpoint, key] = process.argv.slice(2);
const client = new CosmosClient({ endpoint, key });

/** A new container with two physical partitions; its documents are keyed by /stream. */
async function container(id) {
  const made = await database.containers.create({
    id,
    partitionKey: { paths: ["/stream"], version: 2 },
    throughput: 12_000,
    indexingPolicy: { compositeIndexes: [[{ path: "/kind" }, { path: "/seq", order: "descending" }]] },
  });
  return made.container;
}

/** Splits the partition in which the container begins. */
async function split(id) {
  const place = `database=${database.id}&container=${id}`;
  const { ranges } = await (await fetch(`${endpoint}_emulator/ranges?${place}`)).json();
  const answer = await fetch(`${endpoint}_emulator/split?${place}&range=${ranges[0]}`, { method: "POST" });
  if (answer.status !== 200) {
    throw new Error(`The server does not split: ${await answer.text()}`);
  }
}

const { database } = await client.databases.create({ id: "javascript" });
const failed = await runAll({ client, database, container, split });
client.dispose();
process.exitCode = failed ? 1 : 0;
