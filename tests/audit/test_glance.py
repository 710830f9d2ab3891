"""A run at a glance: read once, and the same as the fold of all of its events."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings

from eventckpt import CheckpointEvent, SqliteEventStore
from eventckpt.audit.glance import glance_at
from eventckpt.runs import fold

from ..run_logs import STEPS, Log, Step


@settings(max_examples=60)
@given(STEPS)
def test_a_glance_says_what_the_fold_of_all_events_says_and_sees_each_once(steps: list[Step]) -> None:
    log = Log()
    for step in steps:
        log.add(step)
    asyncio.run(_compared(log.events))


async def _compared(events: list[CheckpointEvent]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteEventStore(Path(folder, "events.db")) as store:
            if not events:
                return
            await store.put(events[0].stream, events)
            headers = [header async for header in store.headers(events[0].stream)]
            seen: list[CheckpointEvent] = []
            found = await glance_at(store, events[0].stream, events=3, seen=seen.append)
            assert found is not None
            assert (found.info, found.last, seen) == (fold(headers), headers[-3:], headers)
