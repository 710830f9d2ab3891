// Transactions, and bulk requests, which are none.

import { assert, check } from "./check.mjs";

check("a batch is done as a whole, with an answer for each operation", async ({ container }) => {
  const { items } = await container("batched");
  await items.create({ id: "old", stream: "a", seq: 1 });
  await items.create({ id: "gone", stream: "a" });
  const { code, result } = await items.batch(
    [
      { operationType: "Create", resourceBody: { id: "1", stream: "a" } },
      { operationType: "Upsert", resourceBody: { id: "2", stream: "a" } },
      { operationType: "Replace", id: "old", resourceBody: { id: "old", stream: "a", seq: 2 } },
      { operationType: "Patch", id: "old", resourceBody: { operations: [{ op: "incr", path: "/seq", value: 1 }] } },
      { operationType: "Read", id: "old" },
      { operationType: "Delete", id: "gone" },
    ],
    "a",
  );
  assert.equal(code, 200);
  assert.deepEqual(result.map(({ statusCode }) => statusCode), [201, 201, 200, 200, 200, 204]);
  assert.equal(result[4].resourceBody.seq, 3);
  assert.ok(result.every(({ requestCharge }) => requestCharge > 0));
});

check("a batch in which one operation fails changes nothing", async ({ container }) => {
  const made = await container("rolled-back");
  await made.items.create({ id: "taken", stream: "a" });
  const { code, result } = await made.items.batch(
    [
      { operationType: "Create", resourceBody: { id: "new", stream: "a" } },
      { operationType: "Create", resourceBody: { id: "taken", stream: "a" } },
      { operationType: "Read", id: "taken" },
    ],
    "a",
  );
  assert.equal(code, 207);
  assert.deepEqual(result.map(({ statusCode }) => statusCode), [424, 409, 424]);
  assert.equal((await made.item("new", "a").read()).statusCode, 404);
});

check("a batch that asks for no bodies gets none", async ({ container }) => {
  const { items } = await container("minimal");
  const create = { operationType: "Create", resourceBody: { id: "1", stream: "a" } };
  const { result } = await items.batch([create], "a", { contentResponseOnWriteEnabled: false });
  assert.deepEqual([result[0].statusCode, result[0].resourceBody], [201, undefined]);
  assert.ok(result[0].eTag);
});

check("bulk operations of many keys are each done for itself, over a split", async ({ container, split }) => {
  const made = await container("bulk");
  await made.items.create({ id: "taken", stream: "s0" });
  const streams = Array.from({ length: 30 }, (_, number) => `s${number}`);
  const creates = streams.map((stream) => ({
    operationType: "Create",
    partitionKey: stream,
    resourceBody: { id: "1", stream, seq: 1 },
  }));
  await made.items.executeBulkOperations([{ operationType: "Upsert", partitionKey: "s1", resourceBody: { id: "0", stream: "s1" } }]);
  await split("bulk");
  const results = await made.items.executeBulkOperations([
    ...creates,
    { operationType: "Create", partitionKey: "s0", resourceBody: { id: "taken", stream: "s0" } },
    { operationType: "Read", partitionKey: "s9", id: "nothing" },
  ]);
  const codes = results.map(({ response, error }) => response?.statusCode ?? error.code);
  assert.deepEqual(codes, [...streams.map(() => 201), 409, 404]);
  assert.equal((await made.item("1", "s29").read()).resource.seq, 1);
});

check("bulk operations read, patch, replace, upsert and delete", async ({ container }) => {
  const made = await container("bulk-kinds");
  for (const id of ["1", "2", "3"]) {
    await made.items.create({ id, stream: `s${id}`, seq: 1 });
  }
  const results = await made.items.executeBulkOperations([
    { operationType: "Patch", partitionKey: "s1", id: "1", resourceBody: { operations: [{ op: "incr", path: "/seq", value: 4 }] } },
    { operationType: "Replace", partitionKey: "s2", id: "2", resourceBody: { id: "2", stream: "s2", seq: 7 } },
    { operationType: "Upsert", partitionKey: "s4", resourceBody: { id: "4", stream: "s4" } },
    { operationType: "Read", partitionKey: "s3", id: "3" },
  ]);
  assert.deepEqual(results.map(({ response }) => response?.statusCode), [200, 200, 201, 200]);
  assert.deepEqual(results.slice(0, 2).map(({ response }) => response.resourceBody.seq), [5, 7]);
  const [deleted] = await made.items.executeBulkOperations([{ operationType: "Delete", partitionKey: "s3", id: "3" }]);
  assert.equal(deleted.response.statusCode, 204);
});

check("bulk in its older form goes on after an operation that fails", async ({ container }) => {
  const { items } = await container("bulk-older");
  await items.create({ id: "taken", stream: "a" });
  const results = await items.bulk([
    { operationType: "Create", partitionKey: "a", resourceBody: { id: "taken", stream: "a" } },
    { operationType: "Create", partitionKey: "a", resourceBody: { id: "1", stream: "a" } },
    { operationType: "Create", partitionKey: "b", resourceBody: { id: "1", stream: "b" } },
  ]);
  assert.deepEqual(results.map(({ statusCode }) => statusCode), [409, 201, 201]);
});
