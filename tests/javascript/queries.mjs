// Queries within a partition and over several, which the client merges, and their pages.

import { assert, check, drained, refusal } from "./check.mjs";

const STREAMS = ["a", "b", "c", "d", "e", "f"];
const KINDS = ["red", "green", "blue"];

let made;

/** A container of 36 documents: six for each of six streams, of three kinds. It is filled once, and split once. */
function filled({ container, split }) {
  made ??= (async () => {
    const one = await container("queried");
    for (const stream of STREAMS) {
      for (let seq = 1; seq <= 6; seq += 1) {
        await one.items.create({ id: `${seq}`, stream, seq, kind: KINDS[seq % 3], half: seq / 2 });
      }
    }
    await split("queried");
    return one;
  })();
  return made;
}

async function asked(context, query, options) {
  return drained((await filled(context)).items.query(query, options));
}

check("a query with parameters finds items of all partitions", async (context) => {
  const query = {
    query: "SELECT VALUE c.stream FROM c WHERE c.seq = @seq AND c.stream != @not",
    parameters: [{ name: "@seq", value: 3 }, { name: "@not", value: "a" }],
  };
  assert.deepEqual((await asked(context, query)).sort(), STREAMS.slice(1));
});

check("a query of one partition key finds what it has", async (context) => {
  const found = await asked(context, "SELECT c.id FROM c ORDER BY c.seq DESC", { partitionKey: "b" });
  assert.deepEqual(found.map(({ id }) => id), ["6", "5", "4", "3", "2", "1"]);
});

check("an order holds over all partitions", async (context) => {
  const found = await asked(context, "SELECT VALUE c.seq FROM c ORDER BY c.seq", { maxItemCount: 4 });
  assert.deepEqual(found, [1, 2, 3, 4, 5, 6].flatMap((seq) => STREAMS.map(() => seq)));
});

check("an order by two properties follows the composite index", async (context) => {
  const found = await asked(context, "SELECT c.kind, c.seq FROM c ORDER BY c.kind, c.seq DESC", { maxItemCount: 5 });
  const kinds = [["blue", 5], ["blue", 2], ["green", 4], ["green", 1], ["red", 6], ["red", 3]];
  assert.deepEqual(found, kinds.flatMap(([kind, seq]) => STREAMS.map(() => ({ kind, seq }))));
});

check("an order without its composite index is refused", async (context) => {
  assert.equal(await refusal(asked(context, "SELECT * FROM c ORDER BY c.seq, c.kind")), 400);
});

check("aggregates are of all partitions", async (context) => {
  const aggregates = { "COUNT(1)": 36, "SUM(c.seq)": 126, "MIN(c.seq)": 1, "MAX(c.half)": 3, "AVG(c.seq)": 3.5 };
  for (const [aggregate, expected] of Object.entries(aggregates)) {
    assert.deepEqual(await asked(context, `SELECT VALUE ${aggregate} FROM c`), [expected], aggregate);
  }
});

check("GROUP BY gives a row for each group of all partitions", async (context) => {
  const found = await asked(context, "SELECT c.kind, COUNT(1) AS n, SUM(c.seq) AS sum FROM c GROUP BY c.kind");
  found.sort((one, other) => one.kind.localeCompare(other.kind));
  assert.deepEqual(found, [
    { kind: "blue", n: 12, sum: 42 },
    { kind: "green", n: 12, sum: 30 },
    { kind: "red", n: 12, sum: 54 },
  ]);
});

check("GROUP BY two properties within one partition key", async (context) => {
  const found = await asked(context, "SELECT c.stream, c.kind, MAX(c.seq) AS last FROM c GROUP BY c.stream, c.kind", {
    partitionKey: "c",
  });
  assert.deepEqual(found.map(({ last }) => last).sort(), [4, 5, 6]);
  assert.deepEqual(new Set(found.map(({ stream }) => stream)), new Set(["c"]));
});

check("DISTINCT, TOP and OFFSET … LIMIT are of all partitions", async (context) => {
  assert.deepEqual((await asked(context, "SELECT DISTINCT VALUE c.kind FROM c")).sort(), [...KINDS].sort());
  assert.deepEqual(await asked(context, "SELECT TOP 3 VALUE c.seq FROM c ORDER BY c.seq DESC"), [6, 6, 6]);
  assert.deepEqual(await asked(context, "SELECT VALUE c.seq FROM c ORDER BY c.seq OFFSET 5 LIMIT 2"), [1, 2]);
});

check("a query goes on from its continuation token, in another iterator", async (context) => {
  const { items } = await filled(context);
  const options = { partitionKey: "d", maxItemCount: 2 };
  const first = await items.query("SELECT VALUE c.seq FROM c ORDER BY c.seq", options).fetchNext();
  assert.deepEqual(first.resources, [1, 2]);
  assert.ok(first.continuationToken);
  const { continuationToken } = first;
  const rest = items.query("SELECT VALUE c.seq FROM c ORDER BY c.seq", { ...options, continuationToken });
  assert.deepEqual(await drained(rest), [3, 4, 5, 6]);
});

check("a query of all partitions goes on from its continuation token, over a split", async ({ container, split }) => {
  const { items } = await container("paged");
  const ids = Array.from({ length: 24 }, (_, number) => `${number + 10}`);
  for (const id of ids) {
    await items.create({ id, stream: id });
  }
  const options = { maxItemCount: 5, enableQueryControl: true };
  const found = [];
  let continuationToken;
  do {
    const page = await items.query("SELECT * FROM c", { ...options, continuationToken }).fetchNext();
    found.push(...page.resources.map(({ id }) => id));
    if (continuationToken === undefined) {
      await split("paged");
    }
    continuationToken = page.continuationToken;
  } while (continuationToken);
  assert.deepEqual(found.sort(), ids);
});

check("all items are listed page by page", async (context) => {
  const { items } = await filled(context);
  const iterator = items.readAll({ maxItemCount: 10 });
  const sizes = [];
  while (iterator.hasMoreResults()) {
    const { resources } = await iterator.fetchNext();
    sizes.push(resources?.length ?? 0);
  }
  assert.equal(sizes.reduce((sum, size) => sum + size), 36);
  assert.ok(Math.max(...sizes) <= 10);
});

check("a query that is not one is refused", async (context) => {
  assert.equal(await refusal(asked(context, "SELEC * FROM c")), 400);
});
