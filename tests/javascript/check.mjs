// Checks that print a line each, and go on after one that fails.

import assert from "node:assert/strict";

export { assert };

const checks = [];

/** Registers a check: what is true if its function ends well. */
export function check(sentence, run) {
  checks.push({ sentence, run });
}

/** Runs all, one after another; the number that failed. */
export async function runAll(context) {
  let failed = 0;
  for (const { sentence, run } of checks) {
    try {
      await run(context);
      console.log(`ok      ${sentence}`);
    } catch (error) {
      failed += 1;
      console.log(`failed  ${sentence}: ${told(error)}`);
    }
  }
  console.log(`${checks.length} checks, ${failed} failed`);
  return failed;
}

/** The status of a request that is refused. */
export async function refusal(request) {
  const error = await request.then(
    () => assert.fail("The request was not refused."),
    (refused) => refused,
  );
  return error.code;
}

/** The items of all pages. */
export async function drained(iterator) {
  const found = [];
  while (iterator.hasMoreResults()) {
    const page = await iterator.fetchNext();
    found.push(...(page.resources ?? []));
  }
  return found;
}

function told(error) {
  const text = `${error.code ?? error.name}: ${error.message}`;
  return text.replaceAll(/\s+/g, " ").slice(0, 400);
}
