"""What every engine that can be audited does with the streams in which removals of whole runs are recorded, and with
runs of which nothing else is left. Part of `AuditStoreConformance`, which says how a store is opened.
"""
# ruff: noqa: S101 - asserting is what this module is for

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
import pytest

from ..chain import sealed
from ..events import REMOVALS, Annotation, CheckpointEvent, Pruned, Removal, RemovedRun, StreamId
from ..stores import AuditStore, FoundEvent
from .events import RUNS, STREAM, append_chain, headers_of, make_event, record_of, workflow_headers_of

__all__ = ["AuditRemovalsConformance", "closing", "removal_of"]

_WORKFLOWS: Final = ("workflow", "a|b*", "größe", "", "w" * 1_990, "|" * 3_000)
"""With names that a key of an engine may not hold as they are, or not whole."""


def closing(head: CheckpointEvent) -> CheckpointEvent:
    """The record that closes a run, right behind its head: all of it was removed."""
    gone = Pruned(first=1, last=head.seq, previous_digest="", digest=head.digest)
    return sealed(msgspec.structs.replace(record_of(head, ()), pruned=(gone,), closes=True))


def removal_of(closed: CheckpointEvent, previous: CheckpointEvent | None = None) -> CheckpointEvent:
    """What tells that a run was removed, the next in the stream of its workflow's removals."""
    stream, seq = StreamId(closed.workflow_name, REMOVALS), previous.seq + 1 if previous else 1
    run = RemovedRun(run_id=closed.run_id, seq=closed.seq, digest=closed.digest)
    made = make_event(stream, seq, previous=previous, type="tombstone")
    return sealed(msgspec.structs.replace(made, checkpoint_id="", removal=Removal(runs=(run,))))


class AuditRemovalsConformance:
    """The cases of `AuditStoreConformance` about removed runs."""

    async def open_store(self) -> AuditStore:
        """See `EventStoreConformance.open_store`."""
        raise NotImplementedError

    async def settle(self) -> None:
        """See `EventStoreConformance.settle`."""

    @pytest.mark.parametrize("workflow", _WORKFLOWS, ids=lambda name: f"{name[:10]} {len(name)}")
    async def test_a_stream_of_removals_is_in_no_list_and_in_no_search(self, workflow: str) -> None:
        store = await self.open_store()
        closed = await _closed(store, StreamId(workflow, "gone"), 2)
        kept = await append_chain(store, StreamId(workflow, "kept"), 2)
        await append_chain(store, StreamId("another", "run"), 1)
        before = await _lists(store, workflow, kept[0].checkpoint_id)
        told: list[CheckpointEvent] = []
        for _ in range(3):
            told.append(removal_of(closed, told[-1] if told else None))
            await store.append(told[-1])
        await self.settle()
        for reader in (store, await self.open_store()):
            assert await _lists(reader, workflow, kept[0].checkpoint_id) == before

    @pytest.mark.parametrize("workflow", _WORKFLOWS, ids=lambda name: f"{name[:10]} {len(name)}")
    async def test_a_stream_of_removals_is_there_by_its_own_key_as_any_other(self, workflow: str) -> None:
        store, stream = await self.open_store(), StreamId(workflow, REMOVALS)
        closed = await _closed(store, StreamId(workflow, "gone"), 2)
        assert [each async for each in store.removal_streams()] == []
        first = removal_of(closed)
        second, third = removal_of(closed, first), removal_of(closed, removal_of(closed, first))
        await store.append(first)
        await store.append(first)  # a retry
        assert await store.put(stream, [first, second]) == 1
        await store.append(third := sealed(msgspec.structs.replace(third, previous_digest=second.digest)))
        told = [first, second, third]
        await self.settle()
        for reader in (store, await self.open_store()):
            assert [event async for event in reader.events(stream)] == await reader.read(stream, 1, 2, 3) == told
            assert await headers_of(reader, stream) == told
            assert await headers_of(reader, stream, desc=True) == told[::-1]
            assert [event async for event in reader.newest(stream)] == told[::-1]
            assert [seq async for page in reader.keys(workflow, REMOVALS) for seq in page.seqs] == [1, 2, 3]
            assert await reader.find("", stream=stream) == FoundEvent(third, third)
            assert await reader.last(workflow, REMOVALS) in (None, third)
            assert [each async for each in reader.removal_streams()] == [stream]
        assert await store.remove(stream, [1]) == 1
        assert await headers_of(store, stream) == told[1:]

    async def test_who_follows_hears_of_a_removal(self) -> None:
        store = await self.open_store()
        told = removal_of(await _closed(store, StreamId("workflow", "gone"), 1))
        await store.append(told)
        await self.settle()
        following = store.follow(last=1, poll=0.01)
        assert await asyncio.wait_for(anext(following), 60) == told
        await following.aclose()

    async def test_the_streams_of_removals_are_those_of_the_workflows_that_have_any_each_once(self) -> None:
        store = await self.open_store()
        for number in range(5):
            closed = await _closed(store, StreamId(f"workflow {number}", "gone"), 1)
            if number % 2:
                first = removal_of(closed)
                await store.append(first)
                await store.append(removal_of(closed, first))
        await self.settle()
        found = [each async for each in store.removal_streams()]
        assert sorted(found) == [StreamId("workflow 1", REMOVALS), StreamId("workflow 3", REMOVALS)]

    @pytest.mark.parametrize(
        "asked", [{}, {"workflow_name": "a"}, {"prefix": "r"}, {"workflow_name": "a", "prefix": "r"}]
    )
    async def test_a_run_of_which_only_the_record_that_closed_it_is_left_can_be_left_out(
        self, asked: dict[str, Any]
    ) -> None:
        store = await self.open_store()
        closed = [await _closed(store, StreamId("a", f"run {number}"), 2) for number in range(4)]
        going = await append_chain(store, StreamId("a", "run that goes on"), 2)
        await store.append(record := record_of(going[-1], going[:1]))
        await store.remove(record.stream, [1])
        said = make_event(StreamId("a", "run of which much is said"), 1, type="tombstone")
        text = Annotation(
            outcome="done", reason="closes", tags={"closes": "closes", "a": "\u00a6closes\u00e6digest\u0640"}
        )
        await store.append(sealed(msgspec.structs.replace(said, checkpoint_id="", annotation=text)))
        again = closed[1]
        await store.append(make_event(again.stream, again.seq + 1, previous=again))
        await self.settle()
        emptied = {closed[number].stream for number in (0, 2, 3)}
        everything = [stream async for stream in store.streams(**asked)]
        assert {*everything} == emptied | {going[0].stream, said.stream, again.stream}
        listed = [stream async for stream in store.streams(**asked, emptied=False)]
        assert listed == [stream for stream in everything if stream not in emptied]
        assert listed[0] == again.stream

    async def test_a_closed_run_whose_events_have_yet_to_go_is_listed(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 3, data=b"")
        await store.append(closing(events[-1]))
        for seq in (1, 2, 3):
            await self.settle()
            for asked in ({}, {"workflow_name": STREAM.workflow_name}, {"prefix": STREAM.run_id}):
                assert [stream async for stream in store.streams(**asked, emptied=False)] == [STREAM]
            await store.remove(STREAM, [seq])
        await self.settle()
        assert [stream async for stream in store.streams(emptied=False)] == []

    async def test_headers_come_without_the_records_of_runs_of_which_nothing_else_is_left(self) -> None:
        store = await self.open_store()
        for number in range(3):
            await _closed(store, StreamId("a", f"gone {number}"), 2)
        going = await append_chain(store, StreamId("a", "run that goes on"), 2)
        await store.append(record_of(going[-1], going[:1]))
        begun_again = await _closed(store, StreamId("a", "again"), 2)
        await store.append(make_event(begun_again.stream, begun_again.seq + 1, previous=begun_again))
        left = await append_chain(store, StreamId("a", "whose events have yet to go"), 2)
        await store.append(closing(left[-1]))
        await _closed(store, StreamId("a", "gone last"), 1)
        await self.settle()
        for desc in (False, True):
            everything = await workflow_headers_of(store, "a", desc=desc)
            assert sum(header.closes for header in everything) == 6
            assert [header async for header in store.workflow_headers("a", desc=desc, emptied=False)] == [
                header for header in everything if not header.closes or header.stream == left[0].stream
            ]
        last = await store.last("a")
        assert last is None or last.header() == (await workflow_headers_of(store, "a", desc=True))[1]
        assert [header async for header in store.workflow_headers("none", emptied=False)] == []

    async def test_many_closed_runs_on_top_hide_none_of_the_others(self) -> None:
        store = await self.open_store()
        kept = [make_event(StreamId("a", f"kept {number}"), 1, data=b"") for number in range(5)]
        for event in kept:
            await store.append(event)
        await self.settle()
        closed = [make_event(StreamId("a", f"gone {number}"), 1, data=b"") for number in range(RUNS)]
        await asyncio.gather(*map(store.append, closed))
        await asyncio.gather(*(store.append(closing(event)) for event in closed))
        await asyncio.gather(*(store.remove(event.stream, [1]) for event in closed))
        await self.settle()
        assert {stream async for stream in store.streams(emptied=False)} == {event.stream for event in kept}
        assert len([stream async for stream in store.streams()]) == RUNS + len(kept)


async def _closed(store: AuditStore, stream: StreamId, count: int) -> CheckpointEvent:
    """The record of a run of so many events that was removed."""
    events = await append_chain(store, stream, count, data=b"")
    record = closing(events[-1])
    await store.append(record)
    await store.remove(stream, [event.seq for event in events])
    return record


async def _lists(store: AuditStore, workflow: str, checkpoint_id: str) -> dict[str, object]:
    """What is told of a workflow, and of all, without naming a run."""
    last = await store.last(workflow)
    return {
        "streams": [stream async for stream in store.streams()],
        "of the workflow": [stream async for stream in store.streams(workflow_name=workflow, emptied=False)],
        "run ids": sorted([run_id async for run_id in store.run_ids(workflow)]),
        "headers": await workflow_headers_of(store, workflow),
        "from the last": await workflow_headers_of(store, workflow, desc=True),
        "keys": [run_id async for page in store.keys(workflow) for run_id in page.run_ids],
        "last": last and last.stream,
        "runs with ids": await store.runs_with(workflow, ["", checkpoint_id]),
        "without id": await store.find_in(workflow, ""),
        "without id of all": await store.find(""),
        "ids": await store.checkpoint_ids("", limit=100),
    }
