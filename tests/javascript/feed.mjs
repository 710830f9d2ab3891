// The change feed: where it begins, where it goes on, and what of it is read; over splits.

import { ChangeFeedStartFrom } from "@azure/cosmos";

import { assert, check } from "./check.mjs";

/** Reads until the feed says that there is no more: the ids, and the last continuation token. */
async function read(container, changeFeedStartFrom, maxItemCount = 4) {
  const iterator = container.items.getChangeFeedIterator({ changeFeedStartFrom, maxItemCount });
  const ids = [];
  for (;;) {
    const page = await iterator.readNext();
    if (page.statusCode === 304) {
      return { ids, continuation: page.continuationToken };
    }
    ids.push(...page.result.map(({ id }) => id));
  }
}

/** Creates items, one of a stream each. */
async function write(container, from, to, stream) {
  const ids = Array.from({ length: to - from + 1 }, (_, number) => `${from + number}`);
  for (const id of ids) {
    await container.items.create({ id, stream: stream ?? `s${id}` });
  }
  return ids;
}

check("the feed from the beginning has everything once", async ({ container }) => {
  const made = await container("fed");
  const ids = await write(made, 100, 119);
  assert.deepEqual((await read(made, ChangeFeedStartFrom.Beginning())).ids.sort(), ids);
});

check("the feed from now has what comes after", async ({ container }) => {
  const made = await container("fed-now");
  await write(made, 100, 105);
  const { ids, continuation } = await read(made, ChangeFeedStartFrom.Now());
  assert.deepEqual(ids, []);
  const later = await write(made, 200, 209);
  const after = await read(made, ChangeFeedStartFrom.Continuation(continuation));
  assert.deepEqual(after.ids.sort(), later);
});

check("the feed goes on from its continuation token over a split, with nothing lost or told twice", async (context) => {
  const made = await context.container("fed-split");
  const ids = await write(made, 100, 119);
  const iterator = made.items.getChangeFeedIterator({
    changeFeedStartFrom: ChangeFeedStartFrom.Beginning(),
    maxItemCount: 3,
  });
  const page = await iterator.readNext();
  const first = page.result.map(({ id }) => id);
  assert.equal(first.length, 3);
  await context.split("fed-split");
  const later = await write(made, 200, 219);
  const rest = await read(made, ChangeFeedStartFrom.Continuation(page.continuationToken));
  assert.deepEqual([...first, ...rest.ids].sort(), [...ids, ...later]);
  const more = await write(made, 300, 309);
  assert.deepEqual((await read(made, ChangeFeedStartFrom.Continuation(rest.continuation))).ids.sort(), more);
});

check("an iterator that was open before a split goes on after it", async ({ container, split }) => {
  const made = await container("fed-open");
  const ids = await write(made, 100, 119);
  const iterator = made.items.getChangeFeedIterator({
    changeFeedStartFrom: ChangeFeedStartFrom.Beginning(),
    maxItemCount: 3,
  });
  const found = (await iterator.readNext()).result.map(({ id }) => id);
  await split("fed-open");
  for (let page = await iterator.readNext(); page.statusCode !== 304; page = await iterator.readNext()) {
    found.push(...page.result.map(({ id }) => id));
  }
  assert.deepEqual(found.sort(), ids);
});

check("the feed of one partition key is in order, over a split", async ({ container, split }) => {
  const made = await container("fed-key");
  await write(made, 100, 109);
  const own = await write(made, 200, 209, "mine");
  const page = made.items.getChangeFeedIterator({
    changeFeedStartFrom: ChangeFeedStartFrom.Beginning("mine"),
    maxItemCount: 4,
  });
  const { result, continuationToken } = await page.readNext();
  assert.deepEqual(result.map(({ id }) => id), own.slice(0, 4));
  await split("fed-key");
  const more = await write(made, 300, 303, "mine");
  const rest = await read(made, ChangeFeedStartFrom.Continuation(continuationToken));
  assert.deepEqual(rest.ids, [...own.slice(4), ...more]);
});

check("the feed of each feed range is a part of the whole, over a split", async ({ container, split }) => {
  const made = await container("fed-ranges");
  const ids = await write(made, 100, 129);
  const ranges = await made.getFeedRanges();
  assert.equal(ranges.length, 2);
  const parts = [];
  const continuations = [];
  for (const range of ranges) {
    const part = await read(made, ChangeFeedStartFrom.Beginning(range));
    assert.ok(part.ids.length > 0 && part.ids.length < ids.length);
    parts.push(...part.ids);
    continuations.push(part.continuation);
  }
  assert.deepEqual(parts.sort(), ids);
  await split("fed-ranges");
  assert.equal((await made.getFeedRanges()).length, 3);
  const later = await write(made, 200, 229);
  const rest = [];
  for (const continuation of continuations) {
    rest.push(...(await read(made, ChangeFeedStartFrom.Continuation(continuation))).ids);
  }
  assert.deepEqual(rest.sort(), later);
});

check("an item that is replaced comes again, in its latest version alone", async ({ container }) => {
  const made = await container("fed-replaced");
  await write(made, 100, 104, "one");
  await made.items.upsert({ id: "101", stream: "one", seq: 2 });
  await made.items.upsert({ id: "101", stream: "one", seq: 3 });
  assert.deepEqual((await read(made, ChangeFeedStartFrom.Beginning("one"))).ids, ["100", "102", "103", "104", "101"]);
});

check("the feed from a time begins there", async ({ container }) => {
  const made = await container("fed-time");
  const ids = await write(made, 100, 104);
  const before = new Date(Date.now() - 60_000);
  assert.deepEqual((await read(made, ChangeFeedStartFrom.Time(before))).ids.sort(), ids);
  const after = new Date(Date.now() + 60_000);
  assert.deepEqual((await read(made, ChangeFeedStartFrom.Time(after))).ids, []);
});
