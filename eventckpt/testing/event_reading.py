"""What every event store does when it is read: by seq, by checkpoint id, and in listings. Part of
`EventStoreConformance`, which says how a store is opened.
"""
# ruff: noqa: S101 - asserting is what this module is for

from __future__ import annotations

import asyncio

import msgspec
import pytest

from ..chain import sealed
from ..errors import StreamConflict
from ..event_keys import EventKey
from ..events import CheckpointEvent, StreamId
from ..stores import EventStore, FoundEvent, head_of
from .events import (
    MANY,
    RUNS,
    STREAM,
    append_chain,
    as_appended,
    dated,
    headers_of,
    make_event,
    noise,
    record_of,
    workflow_headers_of,
)

__all__ = ["EventReadingConformance"]


class EventReadingConformance:
    """The cases of `EventStoreConformance` that read."""

    async def open_store(self) -> EventStore:
        """See `EventStoreConformance.open_store`."""
        raise NotImplementedError

    async def settle(self) -> None:
        """See `EventStoreConformance.settle`."""

    # Reading

    async def test_reads_are_in_the_order_of_seq_and_leave_out_what_is_not_there(self) -> None:
        store = await self.open_store()
        first, second, third = await append_chain(store, STREAM, 3)
        assert await store.read(STREAM, 3, 99, 1) == [first, third]
        assert await store.read(STREAM, 2, 2) == [second]
        assert await store.read(STREAM, 4, 0) == []
        assert await store.read(STREAM) == []

    async def test_any_number_of_seqs_can_be_read_at_once(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 3)
        assert await store.read(STREAM, *range(1, MANY)) == events

    async def test_nothing_is_found_in_an_empty_store(self) -> None:
        store = await self.open_store()
        assert await store.read(STREAM, 1) == []
        assert await store.find("no such id") is None
        assert await store.find("no such id", stream=STREAM) is None
        assert await store.find_in("workflow", "no such id") is None
        assert await headers_of(store, STREAM) == []
        assert await workflow_headers_of(store, "workflow") == []

    async def test_what_belongs_to_another_run_or_workflow_is_not_found(self) -> None:
        store = await self.open_store()
        (event,) = await append_chain(store, STREAM, 1)
        for stranger in (StreamId("workflow", "other"), StreamId("other", "run")):
            assert await store.read(stranger, 1) == []
            assert await store.find(event.checkpoint_id, stream=stranger) is None
            assert await headers_of(store, stranger) == []
        assert await workflow_headers_of(store, "other") == []
        assert await store.find("no such id") is None

    async def test_find_gives_the_newest_event_of_an_id_whole_and_the_head(self) -> None:
        store = await self.open_store()
        first = make_event(STREAM, 1, checkpoint_id="wanted", data=b"old")
        second = make_event(STREAM, 2, previous=first)
        third = make_event(STREAM, 3, previous=second, checkpoint_id="wanted", data=b"new")
        fourth = make_event(STREAM, 4, previous=third)
        for event in (first, second, third, fourth):
            await store.append(event)
        for stream in (None, STREAM):
            assert await store.find("wanted", stream=stream) == FoundEvent(third, fourth.header())
            assert await store.find(fourth.checkpoint_id, stream=stream) == FoundEvent(fourth, fourth.header())

    async def test_find_gives_the_tombstone_of_a_deleted_checkpoint(self) -> None:
        store = await self.open_store()
        first, second = await append_chain(store, STREAM, 2)
        tombstone = make_event(STREAM, 3, previous=second, type="tombstone", checkpoint_id=first.checkpoint_id)
        await store.append(tombstone)
        for stream in (None, STREAM):
            assert await store.find(first.checkpoint_id, stream=stream) == FoundEvent(tombstone, tombstone)
            assert await store.find(second.checkpoint_id, stream=stream) == FoundEvent(second, tombstone)

    # Finding where several runs have the id

    async def test_find_without_a_stream_gives_the_newest_event_over_all_streams(self) -> None:
        store = await self.open_store()
        one, two = StreamId("workflow", "one"), StreamId("another workflow", "two")
        older = make_event(one, 1, checkpoint_id="wanted")
        newer = make_event(two, 1, checkpoint_id="wanted")
        head = make_event(two, 2, previous=newer)
        for event in (older, newer, head):
            await store.append(event)
        assert await store.find("wanted") == FoundEvent(newer, head.header())
        assert await store.find("wanted", stream=one) == FoundEvent(older, older.header())
        assert await store.find("wanted", stream=two) == FoundEvent(newer, head.header())
        again = make_event(one, 2, previous=older, checkpoint_id="wanted", data=b"superseded")
        await store.append(again)
        assert await store.find("wanted") == FoundEvent(again, again.header())
        assert await store.find("wanted") == await (await self.open_store()).find("wanted")

    async def test_a_checkpoint_that_is_live_in_one_run_is_found_though_another_run_deleted_it_later(self) -> None:
        store = await self.open_store()
        live, deleted = StreamId("workflow", "live"), StreamId("workflow", "deleted")
        kept = make_event(live, 1, checkpoint_id="wanted")
        gone = make_event(deleted, 1, checkpoint_id="wanted", data=b"newer")
        tombstone = make_event(deleted, 2, previous=gone, type="tombstone", checkpoint_id="wanted")
        for event in (kept, gone, tombstone):
            await store.append(event)
        assert await store.find("wanted") == FoundEvent(kept, kept.header())
        assert await store.find_in("workflow", "wanted") == FoundEvent(kept, kept.header())
        assert await store.find("wanted", stream=deleted) == FoundEvent(tombstone, tombstone)
        back = make_event(deleted, 3, previous=tombstone, checkpoint_id="wanted", data=b"saved again")
        await store.append(back)
        assert await store.find("wanted") == FoundEvent(back, back.header())
        assert await store.find_in("workflow", "wanted") == FoundEvent(back, back.header())

    async def test_only_a_checkpoint_that_is_deleted_in_every_run_is_given_as_the_last_tombstone(self) -> None:
        store = await self.open_store()
        heads: list[CheckpointEvent] = []
        for name in ("one", "two", "three"):
            heads.append(make_event(StreamId("workflow", name), 1, checkpoint_id="wanted"))
            await store.append(heads[-1])
        for number, live in ((2, 2), (0, 1), (1, 1)):
            head = heads[number]
            assert await store.find("wanted") == FoundEvent(heads[live], heads[live].header())
            tombstone = make_event(head.stream, 2, previous=head, type="tombstone", checkpoint_id="wanted")
            await store.append(tombstone)
        assert await store.find("wanted") == FoundEvent(tombstone, tombstone)
        assert await store.find_in("workflow", "wanted") == FoundEvent(tombstone, tombstone)

    async def test_find_in_looks_at_the_runs_of_one_workflow_alone(self) -> None:
        store = await self.open_store()
        names = ("old", "new", "ol", "old ", "o%", "x" * 3000, "x" * 2999 + "y")
        events = {name: make_event(StreamId(name, "run"), 1, checkpoint_id="wanted") for name in names}
        for event in events.values():
            await store.append(event)
        for name, event in events.items():
            assert await store.find_in(name, "wanted") == FoundEvent(event, event.header()), name
        assert await store.find("wanted") == FoundEvent(events[names[-1]], events[names[-1]].header())
        tombstone = make_event(
            StreamId("old", "run"), 2, previous=events["old"], type="tombstone", checkpoint_id="wanted"
        )
        await store.append(tombstone)
        assert await store.find_in("old", "wanted") == FoundEvent(tombstone, tombstone)
        assert await store.find_in("new", "wanted") == FoundEvent(events["new"], events["new"].header())
        assert await store.find_in("ld", "wanted") is None
        assert await store.find_in("old", "want") is None

    async def test_find_in_gives_the_newest_event_of_an_id_whole_and_the_head(self) -> None:
        store = await self.open_store()
        first = make_event(STREAM, 1, checkpoint_id="wanted", data=b"old")
        second = make_event(STREAM, 2, previous=first, checkpoint_id="wanted", data=noise(900_000))
        third = make_event(STREAM, 3, previous=second)
        for event in (first, second, third):
            await store.append(event)
        located = await store.find_in("workflow", "wanted")
        assert located is not None
        assert (as_appended(located.event), located.head) == (second, third.header())

    async def test_of_very_many_runs_that_have_an_id_the_one_written_last_is_found(self) -> None:
        store = await self.open_store()
        events = [make_event(StreamId("workflow", f"run {n}"), 1, checkpoint_id="wanted") for n in range(200)]
        for event in (*events[100:], *events[:100]):
            await store.append(event)
        newest = make_event(StreamId("workflow", "run 50"), 2, previous=events[50], checkpoint_id="wanted")
        await store.append(newest)
        assert await store.find("wanted") == FoundEvent(newest, newest.header())
        assert await store.find_in("workflow", "wanted") == FoundEvent(newest, newest.header())

    async def test_where_times_are_equal_every_store_finds_the_same(self) -> None:
        stores = [await self.open_store(), await self.open_store()]
        moment = "2026-01-01T00:00:00+00:00"
        for number in (3, 9, 1, 7, 12):
            event = make_event(StreamId(f"workflow {number % 2}", f"run {number}"), 1, checkpoint_id="wanted")
            await stores[number % 2].append(dated(event, moment))
        await self.settle()
        stores.append(await self.open_store())
        for name in ("workflow 0", "workflow 1"):
            assert len({str(await store.find_in(name, "wanted")) for store in stores}) == 1
            for desc in (False, True):
                assert len({str(await workflow_headers_of(store, name, desc=desc)) for store in stores}) == 1
        assert len({str(await store.find("wanted")) for store in stores}) == 1

    async def test_a_listing_with_equal_times_is_the_same_in_either_direction(self) -> None:
        store = await self.open_store()
        moments = ("2026-01-02", "2026-01-01", "2026-01-02", "2026-01-02")
        for name in ("b", "c", "a"):
            head: CheckpointEvent | None = None
            for seq, moment in enumerate(moments, 1):
                head = dated(make_event(StreamId("workflow", name), seq, previous=head), moment)
                await store.append(head)
        listed = await workflow_headers_of(store, "workflow")
        assert len(listed) == 12
        assert await workflow_headers_of(store, "workflow", desc=True) == listed[::-1]
        for name in ("a", "b", "c"):
            assert [header.seq for header in listed if header.run_id == name] == [1, 2, 3, 4]

    # Listing

    async def test_a_listing_never_gives_data_but_its_size(self) -> None:
        store = await self.open_store()
        data = noise(300_000)
        first = make_event(STREAM, 1, data=data)
        second = make_event(STREAM, 2, previous=first, data=data)
        for event in (first, second):
            await store.append(event)
        located = await store.find(first.checkpoint_id)
        assert located is not None
        assert as_appended(located.event) == first
        with pytest.raises(StreamConflict) as conflict:
            await store.append(make_event(STREAM, 1, data=b"other"))
        assert conflict.value.head is not None
        listed = [*await headers_of(store, STREAM), *await workflow_headers_of(store, "workflow")]
        listed += [header async for stretch in store.headers_of_runs([STREAM]) for header in stretch.events]
        assert [header.seq for header in listed] == [1, 2, 1, 2, 1, 2]
        for header in (*listed, located.head, conflict.value.head):
            assert as_appended(header) == (first, second)[header.seq - 1].header()
            assert header.payload is not None
            assert (header.payload.data, header.payload.stored_size) == (b"", len(data))

    async def test_headers_are_bounded_by_gt_and_lte_in_either_direction(self) -> None:
        store = await self.open_store()
        headers = [event.header() for event in await append_chain(store, STREAM, 6)]
        assert await headers_of(store, STREAM) == headers
        assert await headers_of(store, STREAM, desc=True) == headers[::-1]
        assert await headers_of(store, STREAM, gt=2) == headers[2:]
        assert await headers_of(store, STREAM, lte=4) == headers[:4]
        assert await headers_of(store, STREAM, gt=2, lte=4) == headers[2:4]
        assert await headers_of(store, STREAM, gt=2, lte=4, desc=True) == headers[2:4][::-1]
        assert await headers_of(store, STREAM, gt=6) == []
        assert await headers_of(store, STREAM, lte=0) == []
        assert await headers_of(store, STREAM, gt=4, lte=4) == []
        assert await headers_of(store, STREAM, gt=5, lte=2) == []
        assert await headers_of(store, STREAM, gt=4, lte=1000) == headers[4:]

    async def test_listings_of_many_events_are_complete_and_in_order(self) -> None:
        store = await self.open_store()
        headers = [event.header() for event in await append_chain(store, STREAM, MANY, data=b"")]
        assert await headers_of(store, STREAM) == headers
        assert await headers_of(store, STREAM, desc=True) == headers[::-1]
        assert await headers_of(store, STREAM, gt=1, lte=MANY - 1) == headers[1:-1]
        assert await headers_of(store, STREAM, gt=1, lte=MANY - 1, desc=True) == headers[1:-1][::-1]
        assert await workflow_headers_of(store, "workflow") == headers
        assert await workflow_headers_of(store, "workflow", desc=True) == headers[::-1]

    async def test_the_last_event_is_given_whole_or_not_at_all(self) -> None:
        store = await self.open_store()
        assert await store.last("workflow") is await store.last("workflow", "run") is None
        (first,) = await append_chain(store, StreamId("workflow", "first"), 1)
        large = make_event(STREAM, 1, data=noise(900_000))
        gone = make_event(STREAM, 2, previous=large, type="tombstone", checkpoint_id=large.checkpoint_id)
        for event in (large, gone):
            await store.append(event)
            for run_id in (None, STREAM.run_id):
                last = await store.last("workflow", run_id)
                assert last is None or as_appended(last) == event
        assert await store.last("workflow", "first") in (None, first)
        assert await store.last("workflow", "other") is await store.last("other") is None

    async def test_the_last_event_is_of_the_workflow_and_of_the_run_that_were_asked_for(self) -> None:
        store = await self.open_store()
        heads: dict[StreamId, CheckpointEvent] = {}
        for workflow, run in (("one", "run"), ("one", "other"), ("two", "run"), ("one", "run"), ("two", "other")):
            stream = StreamId(workflow, run)
            head = heads.pop(stream, None)
            heads[stream] = make_event(stream, head.seq + 1 if head else 1, previous=head)
            await store.append(heads[stream])
            newest = {event.workflow_name: event for event in heads.values()}
            for name in ("one", "two"):
                assert await store.last(name) in (None, newest.get(name))
                for run_id in ("run", "other"):
                    assert await store.last(name, run_id) in (None, heads.get(StreamId(name, run_id)))

    async def test_the_last_event_is_where_a_walk_backwards_begins_whatever_the_clocks_said(self) -> None:
        store = await self.open_store()
        one, other = StreamId("workflow", "one"), StreamId("workflow", "other")
        first = dated(make_event(one, 1), "2026-01-03")
        second = dated(make_event(one, 2, previous=first), "2026-01-01")
        for event in (first, second, dated(make_event(other, 1), "2026-01-02")):
            await store.append(event)
            for run_id in (None, event.run_id):
                walk = await workflow_headers_of(store, "workflow", desc=True)
                if run_id is not None:
                    walk = await headers_of(store, event.stream, desc=True)
                last = await store.last("workflow", run_id)
                assert last is None or last.header() == walk[0]

    async def test_keys_say_of_each_listed_event_what_its_header_says(self) -> None:
        store = await self.open_store()
        one, other = StreamId("workflow", "one"), StreamId("workflow", "other")
        events = await append_chain(store, one, 3)
        await append_chain(store, other, 2)
        await append_chain(store, StreamId("another workflow", "one"), 2)
        await store.append(make_event(other, 3, previous=await head_of(store, other), type="tombstone"))
        await store.append(record_of(events[-1], events[:2]))
        for run_id in (None, "one", "other", "none"):
            keys = [key async for page in store.keys("workflow", run_id) for key in page.each()]
            assert keys == sorted(keys, key=lambda key: key.place)
            headers = await workflow_headers_of(store, "workflow")
            if run_id is not None:
                headers = await headers_of(store, StreamId("workflow", run_id))
            assert keys == [EventKey.of(header, key.place) for header, key in zip(headers, keys, strict=True)]
        assert [page async for page in store.keys("none")] == []

    async def test_keys_of_many_events_are_complete_and_in_order(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, MANY, data=b"")
        for run_id in (None, STREAM.run_id):
            pages = [page async for page in store.keys("workflow", run_id)]
            assert [seq for page in pages for seq in page.seqs] == [event.seq for event in events]

    async def test_keys_are_in_the_order_of_the_listing_whatever_the_clocks_said(self) -> None:
        store = await self.open_store()
        heads: dict[str, CheckpointEvent] = {}
        for name, day in (("one", 5), ("other", 4), ("one", 2), ("other", 3), ("one", 1)):
            head = heads.get(name)
            event = make_event(StreamId("workflow", name), head.seq + 1 if head else 1, previous=head)
            heads[name] = dated(event, f"2026-01-0{day}")
            await store.append(heads[name])
        for run_id in (None, *heads):
            keys = [key async for page in store.keys("workflow", run_id) for key in page.each()]
            listed = await workflow_headers_of(store, "workflow")
            if run_id is not None:
                listed = await headers_of(store, StreamId("workflow", run_id))
            assert [(key.run_id, key.seq) for key in keys] == [(header.run_id, header.seq) for header in listed]

    async def test_events_of_several_runs_are_read_at_once(self) -> None:
        store = await self.open_store()
        one, other = StreamId("workflow", "one"), StreamId("another workflow", "other")
        first, _, third = await append_chain(store, one, 3)
        (alone,) = await append_chain(store, other, 1)
        places = [(other, 1), (one, 1), (one, 3), (one, 9), (StreamId("workflow", "none"), 1)]
        found = await store.read_each(places)
        assert sorted(found, key=lambda event: event.digest) == sorted(
            (alone, first, third), key=lambda event: event.digest
        )
        assert await store.read_each([]) == []

    async def test_the_headers_of_several_runs_come_run_after_run_and_each_is_ended(self) -> None:
        store = await self.open_store()
        runs = {StreamId(f"workflow {n % 2}", f"run {n}"): n * MANY // 8 for n in (0, 3, 1, 2)}
        events = {stream: await append_chain(store, stream, count, data=b"") for stream, count in runs.items()}
        stretches = [stretch async for stretch in store.headers_of_runs(list(runs))]
        assert [stretch.stream for stretch in stretches if stretch.ends] == list(runs)
        for stream in runs:
            mine = [stretch for stretch in stretches if stretch.stream == stream]
            assert [stretch.ends for stretch in mine] == [False] * (len(mine) - 1) + [True]
            headers = [header for stretch in mine for header in stretch.events]
            assert headers == [event.header() for event in events[stream]]
        assert [stretch async for stretch in store.headers_of_runs([])] == []

    async def test_runs_of_one_name_in_several_workflows_do_not_mix_when_read_at_once(self) -> None:
        store = await self.open_store()
        streams = [StreamId(workflow, "run") for workflow in ("one", "two", "three")]
        events = {stream: await append_chain(store, stream, count) for count, stream in enumerate(streams, 1)}
        for asked in (streams, streams[::-1], streams[1:], streams[1:2]):
            for stream in asked:
                assert await store.read_each([(stream, 1)]) == events[stream][:1]
            found = await store.read_each([(stream, seq) for stream in asked for seq in (1, 2, 3)])
            assert {event.digest for event in found} == {each.digest for stream in asked for each in events[stream]}
            assert len(found) == sum(len(events[stream]) for stream in asked)
            stretches = [stretch async for stretch in store.headers_of_runs(asked)]
            listed = [(stretch.stream, header) for stretch in stretches for header in stretch.events]
            assert listed == [(stream, event.header()) for stream in asked for event in events[stream]]

    async def test_of_very_many_runs_that_are_read_at_once_none_is_left_out(self) -> None:
        store = await self.open_store()
        events = [make_event(StreamId(f"workflow {n % 2}", f"run {n // 2}"), 1) for n in range(RUNS)]
        await asyncio.gather(*map(store.append, events))
        streams = [event.stream for event in events]
        found = await store.read_each([(stream, 1) for stream in streams])
        assert sorted(event.digest for event in found) == sorted(event.digest for event in events)
        stretches = [stretch async for stretch in store.headers_of_runs(streams)]
        assert [stretch.stream for stretch in stretches if stretch.ends] == streams
        listed = [header for stretch in stretches for header in stretch.events]
        assert listed == [event.header() for event in events]

    async def test_the_headers_of_a_workflow_are_in_order_over_its_runs(self) -> None:
        store = await self.open_store()
        appended: list[CheckpointEvent] = []
        heads: dict[int, CheckpointEvent] = {}
        for number in (1, 2, 2, 1, 3, 1, 3, 3, 2):
            stream, head = StreamId("workflow", f"run {number}"), heads.get(number)
            event = make_event(stream, head.seq + 1 if head else 1, previous=head)
            await store.append(event)
            appended.append(event.header())
            heads[number] = event
        await store.append(make_event(StreamId("another workflow", "run 1"), 1))
        assert await workflow_headers_of(store, "workflow") == appended
        assert await workflow_headers_of(store, "workflow", desc=True) == appended[::-1]

    async def test_within_a_run_the_headers_of_a_workflow_are_by_seq_whatever_the_clocks_said(self) -> None:
        store = await self.open_store()
        later = make_event(STREAM, 1)
        earlier = sealed(msgspec.structs.replace(make_event(STREAM, 2, previous=later), timestamp="2000-01-01"))
        same = sealed(msgspec.structs.replace(make_event(STREAM, 3, previous=earlier), timestamp="2000-01-01"))
        for event in (later, earlier, same):
            await store.append(event)
        assert [header.seq for header in await workflow_headers_of(store, "workflow")] == [1, 2, 3]
        assert [header.seq for header in await workflow_headers_of(store, "workflow", desc=True)] == [3, 2, 1]

    async def test_a_listing_can_be_left_early_and_others_go_on_beside_it(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 3)
        listing = store.headers(STREAM)
        assert await anext(listing) == events[0].header()
        fourth = make_event(STREAM, 4, previous=events[-1])
        await store.append(fourth)
        await listing.aclose()
        assert await headers_of(store, STREAM, desc=True) == [event.header() for event in (fourth, *events[::-1])]
