"""One worker of the chaos test, in a process of its own that the test kills, freezes and thaws.

It writes down, with the machine's clock, each moment at which it handled something while its lease was its own. The
test reads all of that at the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from eventckpt import CosmosEventStore, EventStore, SqliteEventStore
from projections import Batch, ChangeFeedProcessor, LatestProjection, ProcessorOptions, open_engine

NAME = "chaos"


async def work(place: str, journal: Path, worker: str) -> None:
    store: EventStore = CosmosEventStore(**json.loads(place)) if place.startswith("{") else SqliteEventStore(place)
    projection = LatestProjection(store)
    calls = 0
    with journal.open("a", encoding="utf-8") as file:

        def note(call: int, batch: Batch) -> None:
            """The moment is taken before the question: if the process is frozen in between, the answer is later."""
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            if not batch.fenced:
                seen = [[event.run_id, event.seq] for event in batch]
                file.write(json.dumps([now, worker, call, batch.range.token, seen]) + "\n")
                file.flush()

        async def handle(batch: Batch) -> None:
            nonlocal calls
            calls += 1
            call = calls
            note(call, batch)
            if call % 7 == 0:
                raise RuntimeError("every seventh batch")
            await asyncio.sleep(0.1)
            note(call, batch)
            await projection.apply(batch)
            note(call, batch)

        engine = open_engine(store)
        options = ProcessorOptions(
            worker=worker,
            page_size=5,
            poll_interval=0.05,
            acquire_interval=0.25,
            renew_interval=0.3,
            expiry=1.2,
            fence_margin=0.3,
            backoff=0.02,
            max_attempts=100,
            checkpoint_interval=0.1,
        )
        async with store, ChangeFeedProcessor(engine.feed, engine.leases(NAME), handle, options):
            print("ready", flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], Path(sys.argv[2]), f"{sys.argv[3]}-{os.getpid()}"))
