// Databases, containers and single items.

import { assert, check, refusal } from "./check.mjs";

check("a database and a container are made once", async ({ client, database, container }) => {
  await container("made");
  assert.equal(await refusal(client.databases.create({ id: database.id })), 409);
  assert.equal(await refusal(container("made")), 409);
  const again = await database.containers.createIfNotExists({ id: "made", partitionKey: "/stream" });
  assert.equal(again.statusCode, 200);
  assert.equal((await again.container.read()).resource.partitionKey.version, 2);
});

check("an item that is created is read back, with what the service adds", async ({ container }) => {
  const { items } = await container("created");
  const { statusCode, resource, requestCharge, headers } = await items.create({ id: "1", stream: "a", text: "ä ☃" });
  assert.equal(statusCode, 201);
  assert.ok(requestCharge > 1);
  assert.match(headers["x-ms-session-token"], /^\d+:/);
  const read = await items.container.item("1", "a").read();
  assert.deepEqual(read.resource, resource);
  assert.equal(read.resource.text, "ä ☃");
  assert.equal(read.etag, resource._etag);
});

check("a session token is obeyed: one that is ahead of the partition is 404/1002", async ({ container }) => {
  const made = await container("session");
  const { headers } = await made.items.create({ id: "1", stream: "a" });
  const token = headers["x-ms-session-token"];
  assert.equal((await made.item("1", "a").read({ sessionToken: token })).statusCode, 200);
  const ahead = token.replace(/\d+$/, (lsn) => `${Number(lsn) + 1000}`);
  assert.notEqual(ahead, token);
  // Of all 404s the client tries only 404/1002 again, without the token; its diagnostics leave out the substatus.
  const { statusCode, diagnostics } = await made.item("1", "a").read({ sessionToken: ahead });
  const { failedAttempts } = diagnostics.clientSideRequestStatistics.retryDiagnostics;
  assert.deepEqual([...failedAttempts.map((failed) => failed.statusCode), statusCode], [404, 200]);
});

check("a second item of one id and key is a conflict", async ({ container }) => {
  const { items } = await container("conflicts");
  await items.create({ id: "1", stream: "a" });
  assert.equal(await refusal(items.create({ id: "1", stream: "a" })), 409);
  assert.equal((await items.create({ id: "1", stream: "b" })).statusCode, 201);
});

check("an item that is not there is answered, not thrown", async ({ container }) => {
  const { statusCode, resource } = await (await container("missing")).item("1", "a").read();
  assert.deepEqual([statusCode, resource], [404, undefined]);
});

check("an item is upserted, replaced under its etag, and deleted", async ({ container }) => {
  const made = await container("replaced");
  assert.equal((await made.items.upsert({ id: "1", stream: "a", seq: 1 })).statusCode, 201);
  const { statusCode, etag } = await made.items.upsert({ id: "1", stream: "a", seq: 2 });
  assert.equal(statusCode, 200);
  const under = { accessCondition: { type: "IfMatch", condition: etag } };
  const item = made.item("1", "a");
  assert.equal((await item.replace({ id: "1", stream: "a", seq: 3 }, under)).resource.seq, 3);
  assert.equal(await refusal(item.replace({ id: "1", stream: "a", seq: 4 }, under)), 412);
  assert.equal((await item.delete()).statusCode, 204);
  assert.equal(await refusal(item.delete()), 404);
});

check("an item that has not changed is not sent again", async ({ container }) => {
  const made = await container("unchanged");
  const { etag } = await made.items.create({ id: "1", stream: "a" });
  const unless = { accessCondition: { type: "IfNoneMatch", condition: etag } };
  assert.equal((await made.item("1", "a").read(unless)).statusCode, 304);
});

check("a patch as an array changes, adds, removes and counts", async ({ container }) => {
  const made = await container("patched");
  await made.items.create({ id: "1", stream: "a", state: "open", seq: 1, tags: ["x"], old: true });
  const { resource } = await made.item("1", "a").patch([
    { op: "replace", path: "/state", value: "done" },
    { op: "add", path: "/tags/0", value: "w" },
    { op: "set", path: "/by", value: "me" },
    { op: "incr", path: "/seq", value: 2 },
    { op: "remove", path: "/old" },
  ]);
  const { state, tags, by, seq, old } = resource;
  assert.deepEqual([state, tags, by, seq, old], ["done", ["w", "x"], "me", 3, undefined]);
});

check("a patch with a condition is done where it holds, and only there", async ({ container }) => {
  const made = await container("conditions");
  await made.items.create({ id: "1", stream: "a", state: "open" });
  const patch = { condition: "from c where c.state = 'open'", operations: [{ op: "set", path: "/state", value: "done" }] };
  assert.equal((await made.item("1", "a").patch(patch)).resource.state, "done");
  assert.equal(await refusal(made.item("1", "a").patch(patch)), 412);
});
