"""The tests that every event store passes. Subclass `EventStoreConformance` to check an engine of your own.

    class TestMyStore(EventStoreConformance):
        @pytest.fixture(autouse=True)
        async def one_place_for_the_data(self, tmp_path: Path) -> AsyncGenerator[None, None]:
            self.path = tmp_path / "events"
            async with AsyncExitStack() as self.opened:
                yield

        async def open_store(self) -> EventStore:
            return await self.opened.enter_async_context(MyStore(self.path))

The cases hold for any engine: what one of them can do beyond the port, such as how it recovers from a crash, is for the
engine's own tests.
"""
# ruff: noqa: S101 - asserting is what this module is for

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from itertools import chain
from typing import Any

import msgspec
import pytest

from ..chain import digest_of, sealed
from ..errors import CheckpointStoreError, StreamConflict
from ..events import CheckpointEvent, Payload, StreamId
from ..stores import EventStore, FoundEvent
from .event_reading import EventReadingConformance
from .events import (
    STREAM,
    append_chain,
    as_appended,
    headers_of,
    make_event,
    noise,
    of_every_kind,
    refuses,
    workflow_headers_of,
)

__all__ = ["EventStoreConformance"]


class EventStoreConformance(EventReadingConformance):
    """Every case is a sentence about an event store; a subclass says how one is opened."""

    async def open_store(self) -> EventStore:
        """Another store object over the data of this test, as another process would have.

        A test may call it several times; the first call finds no events. Closing what it gave is the subclass's
        business, and a test may have closed it already.
        """
        raise NotImplementedError

    async def settle(self) -> None:
        """Let a moment go by, until what one store has written is there for another one that is open already.

        Nothing to do, unless the stores of the engine see each other's writes a moment late. A store sees its own
        writes at once, and one that is opened afterwards those of all others.
        """

    # Appending and reading back

    async def test_an_append_at_the_head_is_read_back_whole(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 3)
        assert await store.read(STREAM, 1, 2, 3) == events
        assert await store.read(STREAM, 2) == [events[1]]

    async def test_another_store_over_the_same_data_reads_what_was_acknowledged(self) -> None:
        events = await append_chain(await self.open_store(), STREAM, 2)
        other = await self.open_store()
        assert await other.read(STREAM, 1, 2) == events
        third = make_event(STREAM, 3, previous=events[-1])
        await other.append(third)
        assert await (await self.open_store()).read(STREAM, 3) == [third]

    async def test_every_field_of_an_event_survives(self) -> None:
        store = await self.open_store()
        origin = make_event(StreamId("workflow", "origin"), 1)
        await store.append(origin)
        events = of_every_kind(STREAM, origin)
        structs = [(each, each.summary, each.payload, each.turn, each.annotation) for each in events]
        nested = [*chain(*structs), *chain(*(each.summary.pending_requests for each in events))]
        parts = [part for part in nested if part is not None]
        fields = [(part, field) for part in parts for field in msgspec.structs.fields(part)]
        proved = {(type(part), field.name) for part, field in fields if getattr(part, field.name) != field.default}
        assert {(type(part), field.name) for part, field in fields} - proved == {
            (Payload, "parts"),  # the engine's own
        }, "this case has fallen behind the fields of an event"
        for event in events:
            await store.append(event)
        assert await store.read(STREAM, *range(1, len(events) + 1)) == events

    async def test_an_event_with_nothing_but_the_necessary_survives(self) -> None:
        store = await self.open_store()
        event = sealed(
            CheckpointEvent(
                type="checkpoint",
                workflow_name="w",
                run_id="r",
                seq=1,
                checkpoint_id="c",
                timestamp="",
                recorded_at="",
                payload=Payload(encoding="zstd", raw_size=0, raw_sha256="", stored_size=0),
            )
        )
        await store.append(event)
        assert await store.read(event.stream, 1) == [event]

    async def test_an_event_that_was_read_has_its_own_digest(self) -> None:
        store = await self.open_store()
        await append_chain(store, STREAM, 3)
        events = await store.read(STREAM, 1, 2, 3)
        assert [digest_of(event) for event in events] == [event.digest for event in events]
        assert [event.previous_digest for event in events[1:]] == [event.digest for event in events[:-1]]

    async def test_a_payload_of_any_bytes_survives(self) -> None:
        store = await self.open_store()
        await self._survives(store, 1, bytes(range(256)) * 16)
        await self._survives(store, 2, b"")
        await self._survives(store, 3, b"\x00")

    async def test_a_payload_of_a_megabyte_survives(self) -> None:
        store = await self.open_store()
        await self._survives(store, 1, noise(1_000_000))

    async def test_what_belongs_to_an_event_is_no_orphan(self) -> None:
        store = await self.open_store()
        event = make_event(STREAM, 1, data=noise(1_500_000))
        await store.append(event)
        assert await store.remove_orphaned_parts(older_than=0) == 0
        (read,) = await store.read(STREAM, 1)
        assert as_appended(read) == event

    async def test_a_tombstone_survives(self) -> None:
        store = await self.open_store()
        (event,) = await append_chain(store, STREAM, 1)
        tombstone = make_event(STREAM, 2, previous=event, type="tombstone", checkpoint_id=event.checkpoint_id)
        await store.append(tombstone)
        assert await store.read(STREAM, 2) == [tombstone]

    async def test_the_first_event_of_a_fork_carries_on_the_digest_of_another_run(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 2)
        fork = StreamId("workflow", "run~fork")
        first = make_event(fork, 1, previous=events[-1])
        assert first.previous_digest == events[-1].digest
        await store.append(first)
        second = make_event(fork, 2, previous=first)
        await store.append(second)
        assert await store.read(fork, 1, 2) == [first, second]
        assert await store.read(STREAM, 1, 2) == events

    # Conflicts

    async def test_a_seq_that_is_taken_is_a_conflict_that_tells_the_head(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 3)
        await refuses(store, make_event(STREAM, 3, previous=events[1], data=b"other"), head=events[-1])
        await refuses(store, make_event(STREAM, 2, previous=events[0], data=b"other"), head=events[-1])
        await refuses(store, make_event(STREAM, 1, data=b"other"), head=events[-1])
        assert await store.read(STREAM, 1, 2, 3, 4) == events

    async def test_a_gap_is_a_conflict_that_tells_the_head(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 2)
        await refuses(store, make_event(STREAM, 4, previous=events[-1]), head=events[-1])
        await refuses(store, make_event(STREAM, 400, previous=events[-1]), head=events[-1])
        assert await headers_of(store, STREAM) == [event.header() for event in events]

    async def test_a_stream_without_events_conflicts_with_any_seq_but_one(self) -> None:
        store = await self.open_store()
        await refuses(store, make_event(STREAM, 2), head=None)
        await refuses(store, make_event(STREAM, 2, previous=make_event(STREAM, 1)), head=None)
        assert await headers_of(store, STREAM) == []

    async def test_another_previous_digest_than_the_heads_is_a_conflict(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 2)
        for stranger in (make_event(STREAM, 2, previous=events[0], data=b"other"), events[0], None):
            await refuses(store, make_event(STREAM, 3, previous=stranger), head=events[-1])
        assert await store.read(STREAM, 3) == []

    async def test_appending_the_same_event_again_does_nothing(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 3)
        other = await self.open_store()
        for event in (events[2], events[0], events[1]):
            await store.append(event)
            await other.append(event)
        assert await headers_of(store, STREAM) == [event.header() for event in events]
        assert await store.read(STREAM, 1, 2, 3) == events
        fourth = make_event(STREAM, 4, previous=events[-1])
        await store.append(fourth)
        assert await store.read(STREAM, 4) == [fourth]

    async def test_appending_the_same_event_many_times_at_once_stores_it_once(self) -> None:
        stores = [await self.open_store(), await self.open_store()]
        event = make_event(STREAM, 1)
        await asyncio.gather(*(store.append(event) for store in stores * 4))
        assert await headers_of(stores[0], STREAM) == [event.header()]

    async def test_the_same_seq_with_other_content_is_a_conflict(self) -> None:
        store = await self.open_store()
        event = make_event(STREAM, 1)
        await store.append(event)
        await refuses(store, sealed(msgspec.structs.replace(event, actor="someone else")), head=event)
        assert await store.read(STREAM, 1) == [event]

    async def test_a_conflict_is_told_by_another_store_too(self) -> None:
        events = await append_chain(await self.open_store(), STREAM, 2)
        other = await self.open_store()
        await refuses(other, make_event(STREAM, 2, previous=events[0], data=b"other"), head=events[-1])

    # Names

    @pytest.mark.parametrize(
        "pair",
        [
            (StreamId("a", "b|c"), StreamId("a|b", "c")),
            (StreamId("a", "b/c"), StreamId("a/b", "c")),
            (StreamId("a%7Cb", "c"), StreamId("a|b", "c")),
            (StreamId("a%", "%25"), StreamId("a%25", "%")),
            (StreamId("a", "b_"), StreamId("a", "bc")),
            (StreamId("a", "b"), StreamId("a", "B")),
            (StreamId("a", "b"), StreamId("a", "b ")),
            (StreamId("a ", "b"), StreamId("a", " b")),
            (StreamId("a", "line\nbreak"), StreamId("a", "line\r\nbreak")),
            (StreamId("a", "'; DROP TABLE events; --"), StreamId("a", '"quoted" and \\escaped')),
            (StreamId("a", "\x00"), StreamId("a", "\x00\x00")),
            (StreamId("a", "1"), StreamId("a", "01")),
            (StreamId("a", "caf\u00e9"), StreamId("a", "cafe\u0301")),
            (StreamId("工作流", "🚀"), StreamId("工作流", "🚀🚀")),
            (StreamId("a", "?"), StreamId("a", "#")),
            (StreamId("a", "b+c"), StreamId("a", "b c")),
            (StreamId("a", "latest"), StreamId("a", "latest|latest")),
            (StreamId("a", "x" * 255), StreamId("a", "x" * 254 + "y")),
            (StreamId("w" * 1000, "r"), StreamId("w" * 1001, "r")),
        ],
        ids=lambda pair: ascii(tuple(msgspec.structs.astuple(one) for one in pair))[:60],
    )
    async def test_streams_with_like_names_never_mix(self, pair: tuple[StreamId, StreamId]) -> None:
        store = await self.open_store()
        one, other = pair
        ones = await append_chain(store, one, 2, data=b"one")
        assert await store.read(other, 1, 2) == []
        others = await append_chain(store, other, 1, data=b"other")
        for stream, events in ((one, ones), (other, others)):
            assert await store.read(stream, 1, 2, 3) == events
            assert await headers_of(store, stream) == [event.header() for event in events]
            for event in events:
                located = FoundEvent(event, events[-1].header())
                assert await store.find(event.checkpoint_id) == located
                assert await store.find(event.checkpoint_id, stream=stream) == located
        if one.workflow_name != other.workflow_name:
            assert await workflow_headers_of(store, one.workflow_name) == [event.header() for event in ones]
            assert await workflow_headers_of(store, other.workflow_name) == [event.header() for event in others]

    async def test_the_longest_run_id_may_be_of_any_characters(self) -> None:
        store = await self.open_store()
        for run_id in ("🚀" * 255, "🚀" * 254 + "🛰"):
            stream = StreamId("workflow", run_id)
            events = await append_chain(store, stream, 2)
            assert await store.read(stream, 1, 2) == events
            assert await headers_of(store, stream) == [event.header() for event in events]

    @pytest.mark.parametrize("checkpoint_id", ["%", "a'b\"c", "🚀", "line\nbreak", " ", "x" * 500, "a\x00b"])
    async def test_a_checkpoint_id_may_be_any_text(self, checkpoint_id: str) -> None:
        store = await self.open_store()
        event = make_event(STREAM, 1, checkpoint_id=checkpoint_id)
        await store.append(event)
        await store.append(make_event(STREAM, 2, previous=event, checkpoint_id=checkpoint_id + "x"))
        located = await store.find(checkpoint_id)
        assert located is not None
        assert located.event == event

    # At once

    async def test_of_two_stores_that_append_at_once_exactly_one_wins_each_seq(self) -> None:
        stores = [await self.open_store(), await self.open_store()]
        head: CheckpointEvent | None = None
        for seq in range(1, 21):
            rivals = [make_event(STREAM, seq, previous=head, data=name) for name in (b"one", b"other")]
            outcomes = await asyncio.gather(
                *(store.append(event) for store, event in zip(stores, rivals, strict=True)), return_exceptions=True
            )
            winners = [event for event, outcome in zip(rivals, outcomes, strict=True) if outcome is None]
            losses = [outcome for outcome in outcomes if isinstance(outcome, StreamConflict)]
            assert (len(winners), len(losses)) == (1, 1), outcomes
            (head,) = winners
            assert losses[0].head == head.header()
            for store in stores:
                assert await store.read(STREAM, seq) == [head]

    async def test_writers_that_retry_at_the_head_they_are_told_lose_nothing(self) -> None:
        stores = [await self.open_store(), await self.open_store()]

        async def write(writer: int) -> None:
            head: CheckpointEvent | None = None
            for number in range(5):
                for _ in range(30):  # each conflict is the success of another writer
                    seq = head.seq + 1 if head else 1
                    event = make_event(STREAM, seq, previous=head, checkpoint_id=f"{number} of {writer}")
                    try:
                        await stores[writer % 2].append(event)
                    except StreamConflict as conflict:
                        head = conflict.head
                    else:
                        head = event
                        break
                else:
                    pytest.fail("a conflict did not tell the head")

        await asyncio.gather(*map(write, range(6)))
        await self.settle()
        headers = await headers_of(stores[0], STREAM)
        assert [header.seq for header in headers] == list(range(1, 31))
        assert [header.previous_digest for header in headers] == ["", *(header.digest for header in headers[:-1])]
        assert {header.checkpoint_id for header in headers} == {
            f"{number} of {writer}" for number in range(5) for writer in range(6)
        }

    async def test_parallel_appends_to_many_streams_are_all_there(self) -> None:
        stores = [await self.open_store(), await self.open_store()]
        streams = [StreamId("workflow", f"run {number}") for number in range(40)]
        chains = await asyncio.gather(
            *(append_chain(stores[number % 2], stream, 3) for number, stream in enumerate(streams))
        )
        await self.settle()
        for stream, events in zip(streams, chains, strict=True):
            assert await stores[0].read(stream, 1, 2, 3) == events
        assert len(await workflow_headers_of(stores[1], "workflow")) == 3 * len(streams)

    async def test_parallel_appends_and_reads_each_see_what_was_acknowledged_before(self) -> None:
        store = await self.open_store()

        async def append_and_read(number: int) -> None:
            stream = StreamId("workflow", f"run {number}")
            head: CheckpointEvent | None = None
            for seq in range(1, 6):
                head = make_event(stream, seq, previous=head)
                await store.append(head)
                assert await store.read(stream, seq) == [head]
                assert await store.find(head.checkpoint_id) == FoundEvent(head, head.header())

        await asyncio.gather(*map(append_and_read, range(10)))

    async def test_a_cancelled_append_is_stored_whole_or_not_at_all(self) -> None:
        store = await self.open_store()
        await store.append(make_event(StreamId("workflow", "opens the store"), 1))
        events = [make_event(StreamId("workflow", f"run {number}"), 1, data=noise(5000)) for number in range(60)]
        for pauses, some in enumerate((events[:20], events[20:40], events[40:])):
            tasks = [asyncio.create_task(store.append(event)) for event in some]
            for _ in range(pauses):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for event, task in zip(some, tasks, strict=True):
                found = await store.read(event.stream, 1)
                assert found == [event] if not task.cancelled() else found in ([], [event])
        for event in events:
            await store.append(event)  # the retry, whether or not the first try came through
            assert await store.read(event.stream, 1) == [event]
            following = make_event(event.stream, 2, previous=event)
            await store.append(following)
            assert await headers_of(store, event.stream) == [event.header(), following.header()]

    async def test_a_cancelled_read_leaves_the_store_usable(self) -> None:
        store = await self.open_store()
        (event,) = await append_chain(store, STREAM, 1)
        tasks = [asyncio.create_task(store.read(STREAM, 1)) for _ in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert outcomes[1::2] == [[event]] * 10
        assert await store.read(STREAM, 1) == [event]

    # Closing

    async def test_a_store_may_be_closed_twice_and_unused(self) -> None:
        store = await self.open_store()
        await store.append(make_event(STREAM, 1))
        await store.close()
        await store.close()
        unused = await self.open_store()
        await unused.close()
        await unused.close()

    async def test_a_store_may_be_closed_by_several_tasks_at_once(self) -> None:
        store = await self.open_store()
        await store.append(make_event(STREAM, 1))
        await asyncio.gather(store.close(), store.close(), store.close())

    async def test_closing_finishes_what_is_under_way(self) -> None:
        store = await self.open_store()
        events = [make_event(StreamId("workflow", f"run {number}"), 1) for number in range(30)]
        tasks = [asyncio.create_task(store.append(event)) for event in events]
        await asyncio.sleep(0)
        await store.close()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        other = await self.open_store()
        for event, outcome in zip(events, outcomes, strict=True):
            assert outcome is None or isinstance(outcome, CheckpointStoreError)
            if outcome is None:
                assert await other.read(event.stream, 1) == [event]

    async def test_a_store_used_in_a_with_block_is_closed_after_it(self) -> None:
        store = await self.open_store()
        async with store as entered:
            assert entered is store
            await store.append(make_event(STREAM, 1))
        with pytest.raises(CheckpointStoreError):
            await store.read(STREAM, 1)

    async def test_a_closed_store_refuses_further_work(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 2)
        listing = store.headers(STREAM)
        await store.close()
        uses: Iterable[Coroutine[Any, Any, object]] = (
            store.append(make_event(STREAM, 3, previous=events[-1])),
            store.append(events[-1]),
            store.read(STREAM, 1),
            store.find(events[0].checkpoint_id),
            store.find_in("workflow", events[0].checkpoint_id),
            headers_of(store, STREAM),
            workflow_headers_of(store, "workflow"),
            anext(listing),
            store.read_each([(STREAM, 1)]),
            anext(store.keys("workflow")),
            anext(store.keys("workflow", STREAM.run_id)),
            anext(store.headers_of_runs([STREAM])),
        )
        for outcome in await asyncio.gather(*uses, return_exceptions=True):
            assert isinstance(outcome, CheckpointStoreError), outcome
        for run_id in (None, STREAM.run_id):
            with suppress(CheckpointStoreError):  # or it leaves that to the walk
                assert await store.last("workflow", run_id) is None
        assert await headers_of(await self.open_store(), STREAM) == [event.header() for event in events]

    async def test_closing_one_store_does_not_disturb_another(self) -> None:
        store, other = await self.open_store(), await self.open_store()
        events = await append_chain(store, STREAM, 2)
        assert await other.read(STREAM, 1) == events[:1]
        await store.close()
        third = make_event(STREAM, 3, previous=events[-1])
        await other.append(third)
        assert await other.read(STREAM, 1, 2, 3) == [*events, third]

    async def _survives(self, store: EventStore, number: int, data: bytes) -> None:
        stream = StreamId("workflow", f"payload {number}")
        event = make_event(stream, 1, data=data)
        await store.append(event)
        (read,) = await store.read(stream, 1)
        located = await store.find(event.checkpoint_id)
        assert located is not None
        for found in (read, located.event):
            assert as_appended(found) == event
            assert digest_of(found) == event.digest
            assert found.payload is not None
            assert found.payload.data == data
