"""The tests that every engine passes which can be audited. Used like those of `event_store`."""
# ruff: noqa: S101 - asserting is what this module is for

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import pytest

from ..errors import CheckpointStoreError, StreamConflict
from ..events import CheckpointEvent, Pruned, StreamId
from ..removals import Removals
from ..stores import AuditStore, FoundEvent
from .audit_reading import AuditReadingConformance
from .audit_removals import AuditRemovalsConformance
from .events import (
    MANY,
    RUNS,
    STREAM,
    append_chain,
    as_appended,
    headers_of,
    make_event,
    noise,
    record_of,
    refuses,
    workflow_headers_of,
)

__all__ = ["AuditStoreConformance"]

FOLLOWS_WITHIN: Final = 60.0
"""Seconds after which a follower that gives nothing will give nothing."""


class AuditStoreConformance(AuditReadingConformance, AuditRemovalsConformance):
    """The cases for `AuditStore`, what an engine does beyond `EventStore`. Used like `EventStoreConformance`."""

    async def open_store(self) -> AuditStore:
        """See `EventStoreConformance.open_store`."""
        raise NotImplementedError

    async def settle(self) -> None:
        """See `EventStoreConformance.settle`."""

    async def test_every_stream_is_listed_once(self) -> None:
        store = await self.open_store()
        names = {StreamId(workflow, f"run {number}") for workflow in ("a", "b") for number in range(20)}
        for name in names:
            await append_chain(store, name, 2)
        listed = await _streams(store)
        assert len(listed) == 40
        assert set(listed) == names
        assert set(await _streams(store, workflow_name="a")) == {name for name in names if name.workflow_name == "a"}
        assert await _streams(store, workflow_name="c") == []
        assert await _streams(await self.open_store()) == listed

    @pytest.mark.parametrize("moments", [(1,), (1, RUNS // 2), (1, RUNS - 10)])
    async def test_a_stream_whose_events_are_removed_while_others_are_listed_is_listed_all_the_same(
        self, moments: tuple[int, ...]
    ) -> None:
        store, pruner = await self.open_store(), await self.open_store()
        heads = {name: make_event(name, 1, data=b"") for name in (StreamId("a", f"run {n}") for n in range(RUNS))}
        await asyncio.gather(*map(store.append, heads.values()))
        await self.settle()
        listed: list[StreamId] = []
        async with aclosing(store.streams()) as streams:
            async for stream in streams:
                listed.append(stream)
                if len(listed) in moments:
                    records = {name: record_of(head, [head]) for name, head in heads.items()}
                    await asyncio.gather(*map(pruner.append, records.values()))
                    await asyncio.gather(*(pruner.remove(name, [head.seq]) for name, head in heads.items()))
                    heads = records
                    await self.settle()
        assert len(listed) == RUNS
        assert set(listed) == set(heads)

    async def test_streams_are_found_by_the_beginning_of_their_run_ids(self) -> None:
        store = await self.open_store()
        for workflow, run in (("a", "order-1"), ("b", "order-1"), ("a", "order-12"), ("a", "Order-1"), ("a", "x%_")):
            await store.append(make_event(StreamId(workflow, run), 1))
        for prefix, runs in (
            ("order-1", 3),
            ("order-12", 1),
            ("order", 3),
            ("o_der", 0),
            ("x%", 1),
            ("x_", 0),
            ("", 5),
        ):
            assert len(await _streams(store, prefix=prefix)) == runs, prefix
        assert await _streams(store, prefix="order-1", workflow_name="b") == [StreamId("b", "order-1")]
        assert await _streams(store, prefix="' OR ''='") == []

    async def test_checkpoint_ids_are_found_by_their_beginnings(self) -> None:
        store = await self.open_store()
        head: CheckpointEvent | None = None
        for seq, name in enumerate(("abc", "abd", "b", "abc", "a%", "ABC"), 1):
            head = make_event(STREAM, seq, previous=head, checkpoint_id=name)
            await store.append(head)
        assert await store.checkpoint_ids("ab", limit=10) == ["abc", "abd"]
        assert await store.checkpoint_ids("a", limit=10) == ["a%", "abc", "abd"]
        assert len(await store.checkpoint_ids("a", limit=2)) == 2
        assert await store.checkpoint_ids("a_", limit=10) == []
        assert await store.checkpoint_ids("zz", limit=10) == []

    async def test_events_are_given_whole_in_order_and_bounded(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 6)
        assert await _events(store, STREAM) == events
        assert await _events(store, STREAM, gt=2, lte=4) == events[2:4]
        assert await _events(store, STREAM, gt=6) == []
        assert await _events(store, StreamId("workflow", "other")) == []

    async def test_many_and_large_events_are_given_whole(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 3, data=noise(900_000))
        assert [as_appended(event) for event in await _events(store, STREAM)] == events
        many = await append_chain(store, StreamId("workflow", "many"), 300)
        assert await _events(store, StreamId("workflow", "many")) == many

    async def test_copies_are_put_under_their_seqs_gaps_and_all_and_once(self) -> None:
        events = await append_chain(await self.open_store(), StreamId("workflow", "elsewhere"), 1)
        store = await self.open_store()
        copies = [make_event(STREAM, seq) for seq in (3, 4, 7)]
        assert await store.put(STREAM, copies) == 3
        assert await store.put(STREAM, copies[1:]) == 0
        assert await _events(store, STREAM) == copies
        assert await headers_of(store, STREAM) == [event.header() for event in copies]
        eighth = make_event(STREAM, 8, previous=copies[-1])
        await store.append(eighth)
        assert await _events(store, STREAM, gt=7) == [eighth]
        assert await _events(store, StreamId("workflow", "elsewhere")) == events

    async def test_a_copy_that_is_put_later_is_no_newer_than_what_comes_after_it(self) -> None:
        store = await self.open_store()
        saved = make_event(STREAM, 1, checkpoint_id="wanted")
        tombstone = make_event(STREAM, 2, previous=saved, type="tombstone", checkpoint_id="wanted")
        for event in (tombstone, saved):
            assert await store.put(STREAM, [event]) == 1
        for located in (
            await store.find("wanted"),
            await store.find("wanted", stream=STREAM),
            await store.find_in("workflow", "wanted"),
        ):
            assert located == FoundEvent(tombstone, tombstone)

    async def test_a_copy_never_replaces_another_event(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 2)
        with pytest.raises(StreamConflict) as conflict:
            await store.put(STREAM, [make_event(STREAM, 2, data=b"other")])
        assert conflict.value.seq == 2
        assert await _events(store, STREAM) == events

    async def test_removed_events_are_gone_and_the_others_stay(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 5)
        other = await append_chain(store, StreamId("workflow", "other"), 2)
        assert await store.remove(STREAM, [1, 3, 99]) == 2
        assert await store.remove(STREAM, [1, 3]) == 0
        assert await store.remove(STREAM, []) == 0
        assert await _events(store, STREAM) == [events[1], events[3], events[4]]
        assert await _events(store, StreamId("workflow", "other")) == other
        assert await store.find(events[0].checkpoint_id) is None
        sixth = make_event(STREAM, 6, previous=events[-1])
        await store.append(sixth)
        assert await store.read(STREAM, 6) == [sixth]

    async def test_the_last_event_is_never_removed(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 3)
        for seqs in ([3], [1, 2, 3], [3, 99]):
            with pytest.raises(
                CheckpointStoreError, match="seq 3 is the last event of run 'run' of workflow 'workflow'"
            ):
                await store.remove(STREAM, seqs)
        assert await _events(store, STREAM) == events
        record = record_of(events[-1], events)
        await store.append(record)
        assert await store.remove(STREAM, [1, 2, 3]) == 3
        assert await _events(store, STREAM) == [record]

    @pytest.mark.parametrize("done", ["recorded", "begun", "ended", "done twice", "done by two at once"])
    @pytest.mark.parametrize("gone", [(1,), (3, 4), (2, 4), (1, 2, 3, 4, 5)], ids=str)
    async def test_a_removal_frees_no_seq(self, gone: tuple[int, ...], done: str) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 5)
        (elsewhere,) = await append_chain(store, StreamId("workflow", "other"), 1)
        record = await self._removed(store, events, gone, done)
        late = await self.open_store()
        for seq in range(1, 7):
            for previous in (events[seq - 2] if seq > 1 else None, elsewhere):
                await refuses(late, make_event(STREAM, seq, previous=previous, data=b"late"), head=record)
        left = [header.seq for header in await headers_of(late, STREAM)]
        assert set(left) >= {1, 2, 3, 4, 5, 6} - set(gone), "nothing else is gone, and nothing new is there"
        seventh = make_event(STREAM, 7, previous=record)
        await late.append(seventh)
        assert [header.seq for header in await headers_of(late, STREAM)] == [*left, 7]

    @pytest.mark.parametrize("done", ["recorded", "begun", "ended", "done twice", "done by two at once"])
    async def test_an_append_of_what_was_removed_since_brings_nothing_back(self, done: str) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 5)
        record = await self._removed(store, events, (1, 3, 4), done)
        late = await self.open_store()
        left = await _events(late, STREAM)
        for seq in (1, 4):  # where a stretch ends, each engine knows what was there
            await late.append(events[seq - 1])
        try:
            await late.append(events[2])
        except StreamConflict as conflict:
            assert conflict.head == record.header()  # noqa: PT017 - an engine may know it, or not
        assert await _events(late, STREAM) == left

    @pytest.mark.parametrize("done", ["recorded", "begun", "ended", "done twice", "done by two at once"])
    async def test_a_copy_of_what_was_removed_is_known_and_not_put_back(self, done: str) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 5)
        record = await self._removed(store, events, (1, 3, 4), done)
        late = await self.open_store()
        left = await _events(late, STREAM)
        assert await late.put(STREAM, [*events, record]) == 0
        assert await late.put(STREAM, events[2:3]) == 0
        for seq in (1, 4):
            with pytest.raises(StreamConflict) as conflict:
                await late.put(STREAM, [make_event(STREAM, seq, previous=events[seq - 2], data=b"other")])
            assert (conflict.value.seq, conflict.value.head) == (seq, record.header())
        assert await _events(late, STREAM) == left

    async def test_what_was_removed_is_in_no_listing_however_much_it_was(self) -> None:
        store, watcher = await self.open_store(), await self.open_store()
        events = await append_chain(store, STREAM, MANY, data=b"")
        record = record_of(events[-1], events[1:-1])
        await store.append(record)
        await self.settle()
        following = watcher.follow(last=1, poll=0.01)
        assert await anext(following) == record.header()
        assert await store.remove(STREAM, range(2, MANY)) == MANY - 2
        left = [events[0].header(), events[-1].header(), record.header()]
        await self.settle()
        for reader in (store, watcher):
            assert await headers_of(reader, STREAM) == left
            assert await headers_of(reader, STREAM, desc=True) == left[::-1]
            assert await headers_of(reader, STREAM, gt=1, lte=MANY - 1) == []
            assert await headers_of(reader, STREAM, gt=1, lte=MANY - 1, desc=True) == []
            assert await workflow_headers_of(reader, "workflow") == left
            assert await workflow_headers_of(reader, "workflow", desc=True) == left[::-1]
            assert await _events(reader, STREAM) == [events[0], events[-1], record]
            assert await reader.read(STREAM, 2) == []
            assert await reader.read(STREAM, *range(1, MANY)) == events[:1]
            assert await reader.find(events[1].checkpoint_id) is None
            assert await reader.find(events[1].checkpoint_id, stream=STREAM) is None
            assert await reader.find_in("workflow", events[1].checkpoint_id) is None
            assert await reader.find(events[0].checkpoint_id, stream=STREAM) == FoundEvent(events[0], record.header())
            assert await reader.checkpoint_ids("checkpoint 2", limit=MANY) == []
            assert await _streams(reader) == [STREAM]
        new = make_event(STREAM, record.seq + 1, previous=record)
        await store.append(new)
        await self.settle()
        assert await anext(following) == new.header(), "a removal is no news to who follows"
        await following.aclose()

    async def test_holes_that_a_removal_left_are_closed_by_removing_again(self) -> None:
        store = await self.open_store()
        third, fourth, seventh = (make_event(STREAM, seq) for seq in (3, 4, 7))
        record = record_of(seventh, [make_event(STREAM, seq) for seq in (1, 2, 5, 6)])
        assert await store.put(STREAM, [third, fourth, seventh, record]) == 4
        unmarked = await store.unmarked(STREAM, Removals([record]))
        assert unmarked in ([], [1, 2, 5, 6])
        assert await store.remove(STREAM, [1, 2, 5, 6]) == 0, "no events were there"
        assert await store.unmarked(STREAM, Removals([record])) == []
        for seq, previous in ((1, None), (2, third), (5, fourth), (6, fourth)):
            await refuses(await self.open_store(), make_event(STREAM, seq, previous=previous), head=record)
        assert await _events(store, STREAM) == [third, fourth, seventh, record]

    async def test_copies_that_are_put_over_gaps_leave_no_seq_in_them_free(self) -> None:
        store = await self.open_store()
        third, fourth, seventh = (make_event(STREAM, seq) for seq in (3, 4, 7))
        gone = [make_event(STREAM, seq) for seq in (1, 2, 5, 6)]
        record = record_of(seventh, gone)
        copies = [third, fourth, seventh, record]
        assert await store.put_over(STREAM, copies[:3], after=0) == 3
        assert await store.put_over(STREAM, copies, after=0) == 1
        assert await store.put_over(STREAM, copies, after=record.seq) == 0
        await self.settle()
        for seq, previous in ((1, None), (5, fourth)):
            await refuses(await self.open_store(), make_event(STREAM, seq, previous=previous), head=record)
        assert await _events(store, STREAM) == copies
        assert await store.put(STREAM, gone) == 0, "the record covers them"

    async def test_a_gap_that_no_record_explains_can_be_filled_after_it_was_closed(self) -> None:
        store = await self.open_store()
        first, second, third = (make_event(STREAM, seq) for seq in (1, 2, 3))
        assert await store.put_over(STREAM, [third], after=0) == 1
        assert await store.put(STREAM, [first, second]) == 2
        assert await _events(store, STREAM) == [first, second, third]

    async def test_copies_are_not_put_over_what_somebody_has_written_in_a_gap(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 4)
        far = [make_event(STREAM, 4, previous=events[2]), make_event(STREAM, 9)]
        for after, copies in ((1, far[1:]), (2, far), (3, far[1:])):
            with pytest.raises(StreamConflict) as conflict:
                await store.put_over(STREAM, copies, after=after)
            assert (conflict.value.seq, conflict.value.head) == (after + 1, events[-1].header())
        assert await _events(store, STREAM) == events
        assert await store.put_over(STREAM, far[1:], after=4) == 1
        await refuses(store, make_event(STREAM, 5, previous=events[-1]), head=far[1])

    async def test_a_record_that_claims_any_number_of_seqs_costs_little(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 3)
        stretch = Pruned(first=-(2**62), last=2**62, previous_digest="", digest=events[1].digest)
        record = record_of(events[-1], [], stretch)
        await store.append(record)
        hostile = Removals([record])
        assert await store.unmarked(STREAM, hostile) == []
        far = make_event(STREAM, 2_000_000)
        await store.put(STREAM, [far])
        farther = record_of(far, [], stretch)
        await store.put(STREAM, [farther])
        unmarked = await store.unmarked(STREAM, Removals([farther]))
        assert len(unmarked) <= 10_000
        assert unmarked == list(range(5, 5 + len(unmarked)))
        assert await store.unmarked(StreamId("workflow", "none"), hostile) == []

    @pytest.mark.parametrize("seq", [0, -1, 10**12, 2**63 - 1, 2**63, 2**63 + 5, 2**64, 10**20, -(2**63), -(10**20)])
    async def test_of_a_seq_that_no_event_can_have_there_is_none(self, seq: int) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 2)
        assert await store.read(STREAM, seq) == []
        assert await store.read(STREAM, seq, 1) == events[:1]
        expected = events if seq <= 0 else []
        assert await _events(store, STREAM, gt=seq) == expected
        assert await headers_of(store, STREAM, gt=seq) == [event.header() for event in expected]
        expected = [] if seq <= 0 else events
        assert await _events(store, STREAM, lte=seq) == expected
        assert await headers_of(store, STREAM, lte=seq) == [event.header() for event in expected]
        assert await store.remove(STREAM, [seq]) == 0

    async def _removed(
        self, store: AuditStore, events: list[CheckpointEvent], gone: tuple[int, ...], done: str
    ) -> CheckpointEvent:
        """Record the removal of these seqs, and carry it out as far as `done` says; the record, the new head."""
        record = record_of(events[-1], [event for event in events if event.seq in gone])
        await store.append(record)
        if done == "begun":
            assert await store.remove(STREAM, gone[:1]) == 1
        elif done == "done by two at once":
            await self.settle()
            stores = [store, await self.open_store()]
            assert sum(await asyncio.gather(*(each.remove(STREAM, gone) for each in stores))) == len(gone)
        elif done != "recorded":
            assert await store.remove(STREAM, gone) == len(gone)
        if done == "done twice":
            assert await store.remove(STREAM, gone) == 0
        await self.settle()
        return record

    async def test_of_a_name_that_is_no_unicode_there_is_nothing(self) -> None:
        store = await self.open_store()
        await append_chain(store, STREAM, 1)
        assert await store.find("\udcff") is await store.find_in("workflow", "\udcff") is None
        assert await store.find_in("\udcff", "x") is None
        assert await store.checkpoint_ids("\udcff", limit=3) == []
        assert await _streams(store, prefix="\udcff") == await _streams(store, workflow_name="\udcff") == []
        for stream in (StreamId("\udcff", "run"), StreamId("workflow", "\udcff")):
            assert await store.find("x", stream=stream) is None
            assert await store.read(stream, 1) == await _events(store, stream) == await headers_of(store, stream) == []

    async def test_any_number_of_last_events_is_all(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 2)
        following = store.follow(last=10**20, poll=0.01)
        assert [await _next(following), await _next(following)] == [event.header() for event in events]
        await following.aclose()

    async def test_a_follower_gets_the_last_events_and_then_each_new_one(self) -> None:
        store, writer = await self.open_store(), await self.open_store()
        events = await append_chain(writer, STREAM, 3)
        following = store.follow(last=2, poll=0.01)
        got = [await _next(following), await _next(following)]
        assert [event.seq for event in got] == [2, 3]
        fourth = make_event(STREAM, 4, previous=events[-1], data=noise(10_000))
        await writer.append(fourth)
        await self.settle()
        assert await _next(following) == fourth.header()
        others = [make_event(StreamId("workflow", f"run {number}"), 1) for number in range(5)]
        for event in others:
            await writer.append(event)
        await self.settle()
        names = {(await _next(following)).run_id for _ in others}
        assert names == {event.run_id for event in others}
        await following.aclose()

    async def test_giving_room_back_changes_nothing_that_is_stored(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 8)
        await store.remove(STREAM, range(1, 6))
        for _ in range(2):
            space = await store.give_back()
            assert space is None or space.after > 0
            assert await _events(store, STREAM) == events[5:]
        await store.append(make_event(STREAM, 9, previous=events[-1]))

    async def test_an_engine_that_is_well_says_so(self) -> None:
        store = await self.open_store()
        await append_chain(store, STREAM, 1)
        checks = await store.checks()
        assert checks
        assert [check for check in checks if not check.ok] == []
        assert [header.seq for header in await headers_of(store, STREAM)] == [1]
        assert len(await _streams(store)) == 1


async def _next(following: AsyncGenerator[CheckpointEvent, None]) -> CheckpointEvent:
    """What comes next; a follower that gives nothing fails the case, and does not hang it."""
    try:
        return await asyncio.wait_for(anext(following), FOLLOWS_WITHIN)
    except TimeoutError:
        pytest.fail(f"nothing came within {FOLLOWS_WITHIN:g} s")


async def _streams(store: AuditStore, *, workflow_name: str | None = None, prefix: str = "") -> list[StreamId]:
    return [stream async for stream in store.streams(workflow_name=workflow_name, prefix=prefix)]


async def _events(store: AuditStore, stream: StreamId, *, gt: int = 0, lte: int | None = None) -> list[CheckpointEvent]:
    return [event async for event in store.events(stream, gt=gt, lte=lte)]
