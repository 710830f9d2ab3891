"""What every engine that can be audited does when several runs are read at once, and where copies were put. Part of
`AuditStoreConformance`, which says how a store is opened.
"""
# ruff: noqa: S101 - asserting is what this module is for

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable
from typing import Any

from ..errors import CheckpointStoreError
from ..events import CheckpointEvent, StreamId
from ..stores import AuditStore, Stretch
from .events import RUNS, STREAM, append_chain, headers_of, make_event, workflow_headers_of

__all__ = ["AuditReadingConformance"]


class AuditReadingConformance:
    """The cases of `AuditStoreConformance` that read several runs at once, and copies."""

    copies: int = 4200
    """Of one run, in the longest case: more than any engine reads at once. Where each is a request, a subclass may say
    fewer, but more than its own engine reads at once."""

    async def open_store(self) -> AuditStore:
        """See `EventStoreConformance.open_store`."""
        raise NotImplementedError

    async def test_the_events_of_several_runs_come_run_after_run_and_each_is_ended(self) -> None:
        store = await self.open_store()
        runs = {StreamId("workflow", name): count for name, count in (("b", 3), ("none", 0), ("a", 300))}
        events = {stream: await append_chain(store, stream, count) for stream, count in runs.items()}
        stretches = [stretch async for stretch in store.events_of_runs(list(runs))]
        assert [stretch.stream for stretch in stretches if stretch.ends] == list(runs)
        for stream in runs:
            mine = [stretch for stretch in stretches if stretch.stream == stream]
            assert mine[-1].ends
            assert [event for stretch in mine for event in stretch.events] == events[stream]

    async def test_the_events_of_runs_of_one_name_in_several_workflows_do_not_mix(self) -> None:
        store = await self.open_store()
        streams = [StreamId(workflow, "run") for workflow in ("one", "two", "three")]
        events = {stream: await append_chain(store, stream, count) for count, stream in enumerate(streams, 1)}
        for asked in (streams, streams[::-1], streams[1:2]):
            given = await _each_of(store.events_of_runs(asked))
            assert given == [(stream, event) for stream in asked for event in events[stream]]

    async def test_of_very_many_runs_whose_events_are_read_at_once_none_is_left_out(self) -> None:
        store = await self.open_store()
        events = [make_event(StreamId(f"workflow {n % 2}", f"run {n // 2}"), 1) for n in range(RUNS)]
        await asyncio.gather(*map(store.append, events))
        streams = [event.stream for event in events]
        stretches = [stretch async for stretch in store.events_of_runs(streams)]
        assert [stretch.stream for stretch in stretches if stretch.ends] == streams
        assert [event for stretch in stretches for event in stretch.events] == events

    async def test_copies_that_are_put_late_are_read_in_the_order_of_their_seqs(self) -> None:
        store = await self.open_store()
        other, copies = StreamId("workflow", "other"), [make_event(STREAM, seq) for seq in (1, 2, 3, 4)]
        await store.put(STREAM, copies[2:])
        (alone,) = await append_chain(store, other, 1)
        await store.put(STREAM, copies[:2])
        assert await _each_of(store.events_of_runs([other, STREAM])) == [
            (event.stream, event) for event in (alone, *copies)
        ]
        assert await _each_of(store.headers_of_runs([other, STREAM])) == [
            (event.stream, event.header()) for event in (alone, *copies)
        ]
        assert [seq async for page in store.keys("workflow", STREAM.run_id) for seq in page.seqs] == [1, 2, 3, 4]
        assert await store.last("workflow", STREAM.run_id) in (None, copies[-1])

    async def test_what_reads_thousands_of_events_of_a_run_leaves_none_out(self) -> None:
        store = await self.open_store()
        events = [make_event(STREAM, seq, data=b"") for seq in range(1, self.copies + 1)]
        assert await store.put(STREAM, events) == len(events)
        for run_id in (None, STREAM.run_id):
            keys = [seq async for page in store.keys("workflow", run_id) for seq in page.seqs]
            assert keys == [event.seq for event in events]
        assert await _each_of(store.events_of_runs([STREAM])) == [(STREAM, event) for event in events]
        headers = [event.header() for event in events]
        assert await _each_of(store.headers_of_runs([STREAM])) == [(STREAM, header) for header in headers]
        assert await headers_of(store, STREAM) == await workflow_headers_of(store, "workflow") == headers

    async def test_a_closed_store_cannot_be_audited(self) -> None:
        store = await self.open_store()
        (event,) = await append_chain(store, STREAM, 1)
        await store.close()
        uses: Iterable[Coroutine[Any, Any, object]] = (
            anext(store.events(STREAM)),
            anext(store.events_of_runs([STREAM])),
            anext(store.streams()),
            store.checkpoint_ids("checkpoint", limit=1),
            store.runs_with("workflow", [event.checkpoint_id]),
            store.put(STREAM, [event]),
            store.remove(STREAM, [2]),
        )
        for outcome in await asyncio.gather(*uses, return_exceptions=True):
            assert isinstance(outcome, CheckpointStoreError), outcome


async def _each_of(stretches: AsyncGenerator[Stretch, None]) -> list[tuple[StreamId, CheckpointEvent]]:
    """What is in stretches, each with the run that it is given for."""
    return [(stretch.stream, event) async for stretch in stretches for event in stretch.events]
