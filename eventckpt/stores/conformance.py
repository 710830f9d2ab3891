"""The tests that every event store passes. Subclass `EventStoreConformance` to check an engine of your own.

    class TestMyStore(EventStoreConformance):
        @pytest.fixture(autouse=True)
        async def one_place_for_the_data(self, tmp_path: Path) -> AsyncGenerator[None, None]:
            self.path = tmp_path / "events"
            async with AsyncExitStack() as self.opened:
                yield

        async def open_store(self) -> EventStore:
            return await self.opened.enter_async_context(MyStore(self.path))

The cases need pytest and pytest-asyncio (`asyncio_mode = "auto"`); eventckpt itself imports neither, only this
module does. They hold for any engine: what one of them can do beyond the port, such as how it recovers from a
crash, is for the engine's own tests.
"""
# ruff: noqa: S101 - asserting is what this module is for

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Coroutine, Iterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import pytest

from ..chain import digest_of, sealed
from ..errors import CheckpointStoreError, StreamConflict
from ..events import (
    CheckpointEvent,
    EventType,
    ForkPoint,
    Payload,
    PendingRequest,
    Pruned,
    RunInfo,
    RunStatus,
    StreamId,
    Summary,
)
from ..removals import Removals
from . import AuditStore, EventStore, FoundEvent, RunStore

__all__ = ["AuditStoreConformance", "EventStoreConformance", "RunStoreConformance", "make_event"]

STREAM: Final = StreamId("workflow", "run")
MANY: Final = 620
"""More events than any engine gives in one page of a listing."""
RUNS: Final = 280
"""More runs than any engine gives in one page."""

_BEGINNING: Final = datetime(2026, 1, 1, tzinfo=UTC)
_ticks = itertools.count()


def make_event(
    stream: StreamId,
    seq: int,
    *,
    previous: CheckpointEvent | None = None,
    data: bytes = b"state",
    type: EventType = "checkpoint",  # noqa: A002 - the event's own name for it
    checkpoint_id: str | None = None,
) -> CheckpointEvent:
    """A sealed event with every header field set, dated a millisecond after the one made before.

    Args:
        stream: the run it belongs to.
        seq: its position there.
        previous: the event whose digest it carries on: the stream's head, or what a fork began from.
        data: the payload's; not looked at by any engine.
        type: a tombstone has no payload.
        checkpoint_id: by default made of the stream and the seq, so that no two events share it by chance.
    """
    moment = (_BEGINNING + timedelta(milliseconds=next(_ticks))).isoformat()
    payload = Payload(
        encoding="zstd",
        base_seq=seq - 1 if seq > 1 else None,
        raw_size=3 * len(data),
        raw_sha256=hashlib.sha256(data).hexdigest(),
        stored_size=len(data),
        data=data,
        since_base=seq,
    )
    fork = None
    if previous is not None and previous.stream != stream:
        fork = ForkPoint(
            workflow_name=previous.workflow_name,
            run_id=previous.run_id,
            seq=previous.seq,
            checkpoint_id=previous.checkpoint_id,
        )
    return sealed(
        CheckpointEvent(
            type=type,
            workflow_name=stream.workflow_name,
            run_id=stream.run_id,
            seq=seq,
            checkpoint_id=checkpoint_id or f"checkpoint {seq} of {stream.run_id}, {stream.workflow_name}",
            previous_checkpoint_id=previous.checkpoint_id if previous else None,
            timestamp=moment,
            iteration_count=seq,
            graph_signature_hash="graph",
            checkpoint_version="1.0",
            summary=Summary(
                executor_ids=("first", "second"),
                messages={"first": 2, "second": 0},
                pending_requests=(
                    PendingRequest(request_id="q1", source_executor_id="first", request_type="app:Question"),
                ),
                answered_requests=("q0",),
                state_keys=("count", "größe"),
                more_state_keys=7,
            ),
            payload=payload if type == "checkpoint" else None,
            actor="someone",
            recorded_at=moment,
            forked_from=fork,
            previous_digest=previous.digest if previous else "",
        )
    )


class EventStoreConformance:
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
        events = await _append_chain(store, STREAM, 3)
        assert await store.read(STREAM, 1, 2, 3) == events
        assert await store.read(STREAM, 2) == [events[1]]

    async def test_another_store_over_the_same_data_reads_what_was_acknowledged(self) -> None:
        events = await _append_chain(await self.open_store(), STREAM, 2)
        other = await self.open_store()
        assert await other.read(STREAM, 1, 2) == events
        third = make_event(STREAM, 3, previous=events[-1])
        await other.append(third)
        assert await (await self.open_store()).read(STREAM, 3) == [third]

    async def test_every_field_of_an_event_survives(self) -> None:
        store = await self.open_store()
        origin = make_event(StreamId("workflow", "origin"), 1)
        await store.append(origin)
        first = make_event(STREAM, 1, previous=origin)
        second = make_event(STREAM, 2, previous=first)
        stretch = Pruned(first=1, last=1, previous_digest=first.previous_digest, digest=first.digest)
        removal = msgspec.structs.replace(
            make_event(STREAM, 3, previous=second, type="tombstone"), checkpoint_id="", pruned=(stretch,)
        )
        events = [first, second, sealed(removal)]
        parts = [part for event in events for part in (event, event.summary, event.payload) if part is not None]
        fields = [(part, field) for part in parts for field in msgspec.structs.fields(part)]
        proved = {(type(part), field.name) for part, field in fields if getattr(part, field.name) != field.default}
        assert {(type(part), field.name) for part, field in fields} - proved == {
            (CheckpointEvent, "schema"),
            (Payload, "parts"),  # the engine's own
        }, "this case has fallen behind the fields of an event"
        for event in events:
            await store.append(event)
        assert await store.read(STREAM, 1, 2, 3) == events

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
        await _append_chain(store, STREAM, 3)
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
        await self._survives(store, 1, _noise(1_000_000))

    async def test_what_belongs_to_an_event_is_no_orphan(self) -> None:
        store = await self.open_store()
        event = make_event(STREAM, 1, data=_noise(1_500_000))
        await store.append(event)
        assert await store.remove_orphaned_parts(older_than=0) == 0
        (read,) = await store.read(STREAM, 1)
        assert _as_appended(read) == event

    async def test_a_tombstone_survives(self) -> None:
        store = await self.open_store()
        (event,) = await _append_chain(store, STREAM, 1)
        tombstone = make_event(STREAM, 2, previous=event, type="tombstone", checkpoint_id=event.checkpoint_id)
        await store.append(tombstone)
        assert await store.read(STREAM, 2) == [tombstone]

    async def test_the_first_event_of_a_fork_carries_on_the_digest_of_another_run(self) -> None:
        store = await self.open_store()
        events = await _append_chain(store, STREAM, 2)
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
        events = await _append_chain(store, STREAM, 3)
        await _conflicts(store, make_event(STREAM, 3, previous=events[1], data=b"other"), head=events[-1])
        await _conflicts(store, make_event(STREAM, 2, previous=events[0], data=b"other"), head=events[-1])
        await _conflicts(store, make_event(STREAM, 1, data=b"other"), head=events[-1])
        assert await store.read(STREAM, 1, 2, 3, 4) == events

    async def test_a_gap_is_a_conflict_that_tells_the_head(self) -> None:
        store = await self.open_store()
        events = await _append_chain(store, STREAM, 2)
        await _conflicts(store, make_event(STREAM, 4, previous=events[-1]), head=events[-1])
        await _conflicts(store, make_event(STREAM, 400, previous=events[-1]), head=events[-1])
        assert await _headers(store, STREAM) == [event.header() for event in events]

    async def test_a_stream_without_events_conflicts_with_any_seq_but_one(self) -> None:
        store = await self.open_store()
        await _conflicts(store, make_event(STREAM, 2), head=None)
        await _conflicts(store, make_event(STREAM, 2, previous=make_event(STREAM, 1)), head=None)
        assert await _headers(store, STREAM) == []

    async def test_another_previous_digest_than_the_heads_is_a_conflict(self) -> None:
        store = await self.open_store()
        events = await _append_chain(store, STREAM, 2)
        for stranger in (make_event(STREAM, 2, previous=events[0], data=b"other"), events[0], None):
            await _conflicts(store, make_event(STREAM, 3, previous=stranger), head=events[-1])
        assert await store.read(STREAM, 3) == []

    async def test_appending_the_same_event_again_does_nothing(self) -> None:
        store = await self.open_store()
        events = await _append_chain(store, STREAM, 3)
        other = await self.open_store()
        for event in (events[2], events[0], events[1]):
            await store.append(event)
            await other.append(event)
        assert await _headers(store, STREAM) == [event.header() for event in events]
        assert await store.read(STREAM, 1, 2, 3) == events
        fourth = make_event(STREAM, 4, previous=events[-1])
        await store.append(fourth)
        assert await store.read(STREAM, 4) == [fourth]

    async def test_appending_the_same_event_many_times_at_once_stores_it_once(self) -> None:
        stores = [await self.open_store(), await self.open_store()]
        event = make_event(STREAM, 1)
        await asyncio.gather(*(store.append(event) for store in stores * 4))
        assert await _headers(stores[0], STREAM) == [event.header()]

    async def test_the_same_seq_with_other_content_is_a_conflict(self) -> None:
        store = await self.open_store()
        event = make_event(STREAM, 1)
        await store.append(event)
        await _conflicts(store, sealed(msgspec.structs.replace(event, actor="someone else")), head=event)
        assert await store.read(STREAM, 1) == [event]

    async def test_a_conflict_is_told_by_another_store_too(self) -> None:
        events = await _append_chain(await self.open_store(), STREAM, 2)
        other = await self.open_store()
        await _conflicts(other, make_event(STREAM, 2, previous=events[0], data=b"other"), head=events[-1])

    # Reading

    async def test_reads_are_in_the_order_of_seq_and_leave_out_what_is_not_there(self) -> None:
        store = await self.open_store()
        first, second, third = await _append_chain(store, STREAM, 3)
        assert await store.read(STREAM, 3, 99, 1) == [first, third]
        assert await store.read(STREAM, 2, 2) == [second]
        assert await store.read(STREAM, 4, 0) == []
        assert await store.read(STREAM) == []

    async def test_any_number_of_seqs_can_be_read_at_once(self) -> None:
        store = await self.open_store()
        events = await _append_chain(store, STREAM, 3)
        assert await store.read(STREAM, *range(1, MANY)) == events

    async def test_nothing_is_found_in_an_empty_store(self) -> None:
        store = await self.open_store()
        assert await store.read(STREAM, 1) == []
        assert await store.find("no such id") is None
        assert await store.find("no such id", stream=STREAM) is None
        assert await store.find_in("workflow", "no such id") is None
        assert await _headers(store, STREAM) == []
        assert await _workflow_headers(store, "workflow") == []

    async def test_what_belongs_to_another_run_or_workflow_is_not_found(self) -> None:
        store = await self.open_store()
        (event,) = await _append_chain(store, STREAM, 1)
        for stranger in (StreamId("workflow", "other"), StreamId("other", "run")):
            assert await store.read(stranger, 1) == []
            assert await store.find(event.checkpoint_id, stream=stranger) is None
            assert await _headers(store, stranger) == []
        assert await _workflow_headers(store, "other") == []
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
        first, second = await _append_chain(store, STREAM, 2)
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
        second = make_event(STREAM, 2, previous=first, checkpoint_id="wanted", data=_noise(900_000))
        third = make_event(STREAM, 3, previous=second)
        for event in (first, second, third):
            await store.append(event)
        located = await store.find_in("workflow", "wanted")
        assert located is not None
        assert (_as_appended(located.event), located.head) == (second, third.header())

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
            event = sealed(msgspec.structs.replace(event, timestamp=moment, recorded_at=moment))
            await stores[number % 2].append(event)
        await self.settle()
        stores.append(await self.open_store())
        for name in ("workflow 0", "workflow 1"):
            assert len({str(await store.find_in(name, "wanted")) for store in stores}) == 1
            for desc in (False, True):
                assert len({str(await _workflow_headers(store, name, desc=desc)) for store in stores}) == 1
        assert len({str(await store.find("wanted")) for store in stores}) == 1

    async def test_a_listing_with_equal_times_is_the_same_in_either_direction(self) -> None:
        store = await self.open_store()
        moments = ("2026-01-02", "2026-01-01", "2026-01-02", "2026-01-02")
        for name in ("b", "c", "a"):
            head: CheckpointEvent | None = None
            for seq, moment in enumerate(moments, 1):
                event = make_event(StreamId("workflow", name), seq, previous=head)
                head = sealed(msgspec.structs.replace(event, timestamp=moment, recorded_at=moment))
                await store.append(head)
        listed = await _workflow_headers(store, "workflow")
        assert len(listed) == 12
        assert await _workflow_headers(store, "workflow", desc=True) == listed[::-1]
        for name in ("a", "b", "c"):
            assert [header.seq for header in listed if header.run_id == name] == [1, 2, 3, 4]

    # Listing

    async def test_a_listing_never_gives_data_but_its_size(self) -> None:
        store = await self.open_store()
        data = _noise(300_000)
        first = make_event(STREAM, 1, data=data)
        second = make_event(STREAM, 2, previous=first, data=data)
        for event in (first, second):
            await store.append(event)
        located = await store.find(first.checkpoint_id)
        assert located is not None
        assert _as_appended(located.event) == first
        with pytest.raises(StreamConflict) as conflict:
            await store.append(make_event(STREAM, 1, data=b"other"))
        assert conflict.value.head is not None
        listed = [*await _headers(store, STREAM), *await _workflow_headers(store, "workflow")]
        assert [header.seq for header in listed] == [1, 2, 1, 2]
        for header in (*listed, located.head, conflict.value.head):
            assert _as_appended(header) == (first, second)[header.seq - 1].header()
            assert header.payload is not None
            assert (header.payload.data, header.payload.stored_size) == (b"", len(data))

    async def test_headers_are_bounded_by_gt_and_lte_in_either_direction(self) -> None:
        store = await self.open_store()
        headers = [event.header() for event in await _append_chain(store, STREAM, 6)]
        assert await _headers(store, STREAM) == headers
        assert await _headers(store, STREAM, desc=True) == headers[::-1]
        assert await _headers(store, STREAM, gt=2) == headers[2:]
        assert await _headers(store, STREAM, lte=4) == headers[:4]
        assert await _headers(store, STREAM, gt=2, lte=4) == headers[2:4]
        assert await _headers(store, STREAM, gt=2, lte=4, desc=True) == headers[2:4][::-1]
        assert await _headers(store, STREAM, gt=6) == []
        assert await _headers(store, STREAM, lte=0) == []
        assert await _headers(store, STREAM, gt=4, lte=4) == []
        assert await _headers(store, STREAM, gt=5, lte=2) == []
        assert await _headers(store, STREAM, gt=4, lte=1000) == headers[4:]

    async def test_listings_of_many_events_are_complete_and_in_order(self) -> None:
        store = await self.open_store()
        headers = [event.header() for event in await _append_chain(store, STREAM, MANY, data=b"")]
        assert await _headers(store, STREAM) == headers
        assert await _headers(store, STREAM, desc=True) == headers[::-1]
        assert await _headers(store, STREAM, gt=1, lte=MANY - 1) == headers[1:-1]
        assert await _headers(store, STREAM, gt=1, lte=MANY - 1, desc=True) == headers[1:-1][::-1]
        assert await _workflow_headers(store, "workflow") == headers
        assert await _workflow_headers(store, "workflow", desc=True) == headers[::-1]

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
        assert await _workflow_headers(store, "workflow") == appended
        assert await _workflow_headers(store, "workflow", desc=True) == appended[::-1]

    async def test_within_a_run_the_headers_of_a_workflow_are_by_seq_whatever_the_clocks_said(self) -> None:
        store = await self.open_store()
        later = make_event(STREAM, 1)
        earlier = sealed(msgspec.structs.replace(make_event(STREAM, 2, previous=later), timestamp="2000-01-01"))
        same = sealed(msgspec.structs.replace(make_event(STREAM, 3, previous=earlier), timestamp="2000-01-01"))
        for event in (later, earlier, same):
            await store.append(event)
        assert [header.seq for header in await _workflow_headers(store, "workflow")] == [1, 2, 3]
        assert [header.seq for header in await _workflow_headers(store, "workflow", desc=True)] == [3, 2, 1]

    async def test_a_listing_can_be_left_early_and_others_go_on_beside_it(self) -> None:
        store = await self.open_store()
        events = await _append_chain(store, STREAM, 3)
        listing = store.headers(STREAM)
        assert await anext(listing) == events[0].header()
        fourth = make_event(STREAM, 4, previous=events[-1])
        await store.append(fourth)
        await listing.aclose()
        assert await _headers(store, STREAM, desc=True) == [event.header() for event in (fourth, *events[::-1])]

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
        ones = await _append_chain(store, one, 2, data=b"one")
        assert await store.read(other, 1, 2) == []
        others = await _append_chain(store, other, 1, data=b"other")
        for stream, events in ((one, ones), (other, others)):
            assert await store.read(stream, 1, 2, 3) == events
            assert await _headers(store, stream) == [event.header() for event in events]
            for event in events:
                located = FoundEvent(event, events[-1].header())
                assert await store.find(event.checkpoint_id) == located
                assert await store.find(event.checkpoint_id, stream=stream) == located
        if one.workflow_name != other.workflow_name:
            assert await _workflow_headers(store, one.workflow_name) == [event.header() for event in ones]
            assert await _workflow_headers(store, other.workflow_name) == [event.header() for event in others]

    async def test_the_longest_run_id_may_be_of_any_characters(self) -> None:
        store = await self.open_store()
        for run_id in ("🚀" * 255, "🚀" * 254 + "🛰"):
            stream = StreamId("workflow", run_id)
            events = await _append_chain(store, stream, 2)
            assert await store.read(stream, 1, 2) == events
            assert await _headers(store, stream) == [event.header() for event in events]

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
        headers = await _headers(stores[0], STREAM)
        assert [header.seq for header in headers] == list(range(1, 31))
        assert [header.previous_digest for header in headers] == ["", *(header.digest for header in headers[:-1])]
        assert {header.checkpoint_id for header in headers} == {
            f"{number} of {writer}" for number in range(5) for writer in range(6)
        }

    async def test_parallel_appends_to_many_streams_are_all_there(self) -> None:
        stores = [await self.open_store(), await self.open_store()]
        streams = [StreamId("workflow", f"run {number}") for number in range(40)]
        chains = await asyncio.gather(
            *(_append_chain(stores[number % 2], stream, 3) for number, stream in enumerate(streams))
        )
        await self.settle()
        for stream, events in zip(streams, chains, strict=True):
            assert await stores[0].read(stream, 1, 2, 3) == events
        assert len(await _workflow_headers(stores[1], "workflow")) == 3 * len(streams)

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
        events = [make_event(StreamId("workflow", f"run {number}"), 1, data=_noise(5000)) for number in range(60)]
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
            assert await _headers(store, event.stream) == [event.header(), following.header()]

    async def test_a_cancelled_read_leaves_the_store_usable(self) -> None:
        store = await self.open_store()
        (event,) = await _append_chain(store, STREAM, 1)
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
        events = await _append_chain(store, STREAM, 2)
        listing = store.headers(STREAM)
        await store.close()
        uses: Iterable[Coroutine[Any, Any, object]] = (
            store.append(make_event(STREAM, 3, previous=events[-1])),
            store.append(events[-1]),
            store.read(STREAM, 1),
            store.find(events[0].checkpoint_id),
            store.find_in("workflow", events[0].checkpoint_id),
            _headers(store, STREAM),
            _workflow_headers(store, "workflow"),
            anext(listing),
        )
        for use in uses:
            with pytest.raises(CheckpointStoreError):
                await use
        assert await _headers(await self.open_store(), STREAM) == [event.header() for event in events]

    async def test_closing_one_store_does_not_disturb_another(self) -> None:
        store, other = await self.open_store(), await self.open_store()
        events = await _append_chain(store, STREAM, 2)
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
            assert _as_appended(found) == event
            assert digest_of(found) == event.digest
            assert found.payload is not None
            assert found.payload.data == data


def _as_appended(event: CheckpointEvent) -> CheckpointEvent:
    """`event` without what an engine may note in it of its own: the parts that a large payload lies in."""
    if event.payload is None:
        return event
    return msgspec.structs.replace(event, payload=msgspec.structs.replace(event.payload, parts=()))


class AuditStoreConformance:
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
            await _append_chain(store, name, 2)
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
                    records = {name: _record(head, [head]) for name, head in heads.items()}
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
        events = await _append_chain(store, STREAM, 6)
        assert await _events(store, STREAM) == events
        assert await _events(store, STREAM, gt=2, lte=4) == events[2:4]
        assert await _events(store, STREAM, gt=6) == []
        assert await _events(store, StreamId("workflow", "other")) == []

    async def test_many_and_large_events_are_given_whole(self) -> None:
        store = await self.open_store()
        events = await _append_chain(store, STREAM, 3, data=_noise(900_000))
        assert [_as_appended(event) for event in await _events(store, STREAM)] == events
        many = await _append_chain(store, StreamId("workflow", "many"), 300)
        assert await _events(store, StreamId("workflow", "many")) == many

    async def test_copies_are_put_under_their_seqs_gaps_and_all_and_once(self) -> None:
        events = await _append_chain(await self.open_store(), StreamId("workflow", "elsewhere"), 1)
        store = await self.open_store()
        copies = [make_event(STREAM, seq) for seq in (3, 4, 7)]
        assert await store.put(STREAM, copies) == 3
        assert await store.put(STREAM, copies[1:]) == 0
        assert await _events(store, STREAM) == copies
        assert await _headers(store, STREAM) == [event.header() for event in copies]
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
        events = await _append_chain(store, STREAM, 2)
        with pytest.raises(StreamConflict) as conflict:
            await store.put(STREAM, [make_event(STREAM, 2, data=b"other")])
        assert conflict.value.seq == 2
        assert await _events(store, STREAM) == events

    async def test_removed_events_are_gone_and_the_others_stay(self) -> None:
        store = await self.open_store()
        events = await _append_chain(store, STREAM, 5)
        other = await _append_chain(store, StreamId("workflow", "other"), 2)
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
        events = await _append_chain(store, STREAM, 3)
        for seqs in ([3], [1, 2, 3], [3, 99]):
            with pytest.raises(
                CheckpointStoreError, match="seq 3 is the last event of run 'run' of workflow 'workflow'"
            ):
                await store.remove(STREAM, seqs)
        assert await _events(store, STREAM) == events
        record = _record(events[-1], events)
        await store.append(record)
        assert await store.remove(STREAM, [1, 2, 3]) == 3
        assert await _events(store, STREAM) == [record]

    @pytest.mark.parametrize("done", ["recorded", "begun", "ended", "done twice", "done by two at once"])
    @pytest.mark.parametrize("gone", [(1,), (3, 4), (2, 4), (1, 2, 3, 4, 5)], ids=str)
    async def test_a_removal_frees_no_seq(self, gone: tuple[int, ...], done: str) -> None:
        store = await self.open_store()
        events = await _append_chain(store, STREAM, 5)
        (elsewhere,) = await _append_chain(store, StreamId("workflow", "other"), 1)
        record = await self._removed(store, events, gone, done)
        late = await self.open_store()
        for seq in range(1, 7):
            for previous in (events[seq - 2] if seq > 1 else None, elsewhere):
                await _conflicts(late, make_event(STREAM, seq, previous=previous, data=b"late"), head=record)
        left = [header.seq for header in await _headers(late, STREAM)]
        assert set(left) >= {1, 2, 3, 4, 5, 6} - set(gone), "nothing else is gone, and nothing new is there"
        seventh = make_event(STREAM, 7, previous=record)
        await late.append(seventh)
        assert [header.seq for header in await _headers(late, STREAM)] == [*left, 7]

    @pytest.mark.parametrize("done", ["recorded", "begun", "ended", "done twice", "done by two at once"])
    async def test_an_append_of_what_was_removed_since_brings_nothing_back(self, done: str) -> None:
        store = await self.open_store()
        events = await _append_chain(store, STREAM, 5)
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
        events = await _append_chain(store, STREAM, 5)
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
        events = await _append_chain(store, STREAM, MANY, data=b"")
        record = _record(events[-1], events[1:-1])
        await store.append(record)
        await self.settle()
        following = watcher.follow(last=1, poll=0.01)
        assert await anext(following) == record.header()
        assert await store.remove(STREAM, range(2, MANY)) == MANY - 2
        left = [events[0].header(), events[-1].header(), record.header()]
        await self.settle()
        for reader in (store, watcher):
            assert await _headers(reader, STREAM) == left
            assert await _headers(reader, STREAM, desc=True) == left[::-1]
            assert await _headers(reader, STREAM, gt=1, lte=MANY - 1) == []
            assert await _headers(reader, STREAM, gt=1, lte=MANY - 1, desc=True) == []
            assert await _workflow_headers(reader, "workflow") == left
            assert await _workflow_headers(reader, "workflow", desc=True) == left[::-1]
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
        record = _record(seventh, [make_event(STREAM, seq) for seq in (1, 2, 5, 6)])
        assert await store.put(STREAM, [third, fourth, seventh, record]) == 4
        unmarked = await store.unmarked(STREAM, Removals([record]))
        assert unmarked in ([], [1, 2, 5, 6])
        assert await store.remove(STREAM, [1, 2, 5, 6]) == 0, "no events were there"
        assert await store.unmarked(STREAM, Removals([record])) == []
        for seq, previous in ((1, None), (2, third), (5, fourth), (6, fourth)):
            await _conflicts(await self.open_store(), make_event(STREAM, seq, previous=previous), head=record)
        assert await _events(store, STREAM) == [third, fourth, seventh, record]

    async def test_copies_that_are_put_over_gaps_leave_no_seq_in_them_free(self) -> None:
        store = await self.open_store()
        third, fourth, seventh = (make_event(STREAM, seq) for seq in (3, 4, 7))
        gone = [make_event(STREAM, seq) for seq in (1, 2, 5, 6)]
        record = _record(seventh, gone)
        copies = [third, fourth, seventh, record]
        assert await store.put_over(STREAM, copies[:3], after=0) == 3
        assert await store.put_over(STREAM, copies, after=0) == 1
        assert await store.put_over(STREAM, copies, after=record.seq) == 0
        await self.settle()
        for seq, previous in ((1, None), (5, fourth)):
            await _conflicts(await self.open_store(), make_event(STREAM, seq, previous=previous), head=record)
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
        events = await _append_chain(store, STREAM, 4)
        far = [make_event(STREAM, 4, previous=events[2]), make_event(STREAM, 9)]
        for after, copies in ((1, far[1:]), (2, far), (3, far[1:])):
            with pytest.raises(StreamConflict) as conflict:
                await store.put_over(STREAM, copies, after=after)
            assert (conflict.value.seq, conflict.value.head) == (after + 1, events[-1].header())
        assert await _events(store, STREAM) == events
        assert await store.put_over(STREAM, far[1:], after=4) == 1
        await _conflicts(store, make_event(STREAM, 5, previous=events[-1]), head=far[1])

    async def test_a_record_that_claims_any_number_of_seqs_costs_little(self) -> None:
        store = await self.open_store()
        events = await _append_chain(store, STREAM, 3)
        stretch = Pruned(first=-(2**62), last=2**62, previous_digest="", digest=events[1].digest)
        record = _record(events[-1], [], stretch)
        await store.append(record)
        hostile = Removals([record])
        assert await store.unmarked(STREAM, hostile) == []
        far = make_event(STREAM, 2_000_000)
        await store.put(STREAM, [far])
        farther = _record(far, [], stretch)
        await store.put(STREAM, [farther])
        unmarked = await store.unmarked(STREAM, Removals([farther]))
        assert len(unmarked) <= 10_000
        assert unmarked == list(range(5, 5 + len(unmarked)))
        assert await store.unmarked(StreamId("workflow", "none"), hostile) == []

    @pytest.mark.parametrize("seq", [0, -1, 10**12, 2**63 - 1, 2**63, 2**63 + 5, 2**64, 10**20, -(2**63), -(10**20)])
    async def test_of_a_seq_that_no_event_can_have_there_is_none(self, seq: int) -> None:
        store = await self.open_store()
        events = await _append_chain(store, STREAM, 2)
        assert await store.read(STREAM, seq) == []
        assert await store.read(STREAM, seq, 1) == events[:1]
        expected = events if seq <= 0 else []
        assert await _events(store, STREAM, gt=seq) == expected
        assert await _headers(store, STREAM, gt=seq) == [event.header() for event in expected]
        expected = [] if seq <= 0 else events
        assert await _events(store, STREAM, lte=seq) == expected
        assert await _headers(store, STREAM, lte=seq) == [event.header() for event in expected]
        assert await store.remove(STREAM, [seq]) == 0

    async def _removed(
        self, store: AuditStore, events: list[CheckpointEvent], gone: tuple[int, ...], done: str
    ) -> CheckpointEvent:
        """Record the removal of these seqs, and carry it out as far as `done` says; the record, the new head."""
        record = _record(events[-1], [event for event in events if event.seq in gone])
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
        await _append_chain(store, STREAM, 1)
        assert await store.find("\udcff") is await store.find_in("workflow", "\udcff") is None
        assert await store.find_in("\udcff", "x") is None
        assert await store.checkpoint_ids("\udcff", limit=3) == []
        assert await _streams(store, prefix="\udcff") == await _streams(store, workflow_name="\udcff") == []
        for stream in (StreamId("\udcff", "run"), StreamId("workflow", "\udcff")):
            assert await store.find("x", stream=stream) is None
            assert await store.read(stream, 1) == await _events(store, stream) == await _headers(store, stream) == []

    async def test_any_number_of_last_events_is_all(self) -> None:
        store = await self.open_store()
        events = await _append_chain(store, STREAM, 2)
        following = store.follow(last=10**20, poll=0.01)
        assert [await anext(following), await anext(following)] == [event.header() for event in events]
        await following.aclose()

    async def test_a_follower_gets_the_last_events_and_then_each_new_one(self) -> None:
        store, writer = await self.open_store(), await self.open_store()
        events = await _append_chain(writer, STREAM, 3)
        following = store.follow(last=2, poll=0.01)
        got = [await anext(following), await anext(following)]
        assert [event.seq for event in got] == [2, 3]
        fourth = make_event(STREAM, 4, previous=events[-1], data=_noise(10_000))
        await writer.append(fourth)
        await self.settle()
        assert await anext(following) == fourth.header()
        others = [make_event(StreamId("workflow", f"run {number}"), 1) for number in range(5)]
        for event in others:
            await writer.append(event)
        await self.settle()
        names = {(await anext(following)).run_id for _ in others}
        assert names == {event.run_id for event in others}
        await following.aclose()

    async def test_an_engine_that_is_well_says_so(self) -> None:
        store = await self.open_store()
        await _append_chain(store, STREAM, 1)
        checks = await store.checks()
        assert checks
        assert [check for check in checks if not check.ok] == []
        assert [header.seq for header in await _headers(store, STREAM)] == [1]
        assert len(await _streams(store)) == 1


class RunStoreConformance:
    """The cases for `RunStore`, the documents beside an engine's events. Used like `EventStoreConformance`."""

    async def open_store(self) -> EventStore:
        """See `EventStoreConformance.open_store`."""
        raise NotImplementedError

    async def settle(self) -> None:
        """See `EventStoreConformance.settle`."""

    async def test_a_document_is_written_where_its_seq_grows(self) -> None:
        runs = (await self.open_store()).run_store()
        assert await runs.put(_document(2)) == 1
        for stays in (_document(1), _document(2), _document(2, status="done"), _document(2, digest="other")):
            assert await runs.put(stays) == 0
        assert await _stored(runs) == _document(2)
        assert await runs.put(_document(3, status="waiting")) == 1
        assert await _stored(runs) == _document(3, status="waiting")

    @pytest.mark.parametrize("status", ["done", "open"])
    async def test_one_that_says_idle_gives_way_to_one_of_the_same_events_that_says_more(
        self, status: RunStatus
    ) -> None:
        runs = (await self.open_store()).run_store()
        await runs.put(_document(2, status="idle"))
        assert (await _stored(runs)).status == "idle"
        for stays in (
            _document(2, status="idle", messages={"a": 1}),
            _document(2, status=status, digest="other"),
            _document(1, status=status),
        ):
            assert await runs.put(stays) == 0
        assert await _stored(runs) == _document(2, status="idle")
        assert await runs.put(_document(2, status=status)) == 1
        for stays in (_document(2, status=status), _document(2, status="waiting"), _document(2, status="idle")):
            assert await runs.put(stays) == 0
        assert await _stored(runs) == _document(2, status=status)

    async def test_one_that_says_idle_never_gives_way_once_its_run_has_moved_on(self) -> None:
        runs, other = (await self.open_store()).run_store(), (await self.open_store()).run_store()
        await runs.put(_document(2, status="idle"))
        await self.settle()
        await other.put(_document(3, status="running"))
        assert await runs.put(_document(2, status="done")) == 0
        await self.settle()
        assert await _stored(runs) == _document(3, status="running")

    async def test_of_stores_that_write_over_one_that_says_idle_at_once_one_does(self) -> None:
        stores = [(await self.open_store()).run_store() for _ in range(3)]
        await stores[0].put(_document(2, status="idle"))
        await self.settle()
        assert sum(await asyncio.gather(*(runs.put(_document(2, status="done")) for runs in stores * 2))) == 1
        await self.settle()
        assert await _stored(stores[1]) == _document(2, status="done")

    @pytest.mark.parametrize(
        "counts", [{"checkpoints": 2}, {"tombstones": 2}, {"removed": 2}, {"checkpoints": 1, "removed": 3}], ids=str
    )
    async def test_one_of_the_same_head_that_knows_of_more_is_written_over_one_that_knows_less_and_never_the_reverse(
        self, counts: dict[str, Any]
    ) -> None:
        runs, other = (await self.open_store()).run_store(), (await self.open_store()).run_store()
        less, more = _document(4, checkpoints=1), _document(4, status="waiting", **counts)
        await runs.put(less)
        await self.settle()
        assert await other.put(msgspec.structs.replace(more, digest="other"), _document(3, checkpoints=3)) == 0
        assert await other.put(more) == 1
        await self.settle()
        for stays in (
            less,
            more,
            _document(4, checkpoints=1, tombstones=1),
            _document(4, checkpoints=4, status="idle"),
        ):
            assert await runs.put(stays) == 0
        await self.settle()
        assert await _stored(runs) == more

    async def test_of_stores_that_know_of_more_and_more_and_write_at_once_the_one_that_knows_most_stays(self) -> None:
        stores = [(await self.open_store()).run_store() for _ in range(3)]
        await stores[0].put(_document(9, checkpoints=1))
        await self.settle()
        documents = [_document(9, checkpoints=known) for known in (4, 7, 2, 9, 5, 8)]
        await asyncio.gather(*(runs.put(info) for runs, info in zip(stores * 2, documents, strict=True)))
        await self.settle()
        assert await _stored(stores[1]) == _document(9, checkpoints=9)

    async def test_the_newest_run_beside_some_is_the_newest_of_the_others(self) -> None:
        store = await self.open_store()
        runs, names = store.run_store(), ["a", "b", "c", "d", "e"]
        for run in names:
            event = make_event(StreamId("workflow", run), 1)
            if run in "ab":
                event = sealed(msgspec.structs.replace(event, timestamp="2026-01-01T00:00:00+00:00"))
            await store.append(event)
            await runs.put(
                _document(1, run=run, checkpoint_id=event.checkpoint_id, checkpoint_seq=1, timestamp=event.timestamp)
            )
        await self.settle()
        for count in range(len(names)):
            beside = [StreamId("workflow", run) for run in names[len(names) - count :]]
            found = await runs.newest("workflow", beside=beside)
            assert found is not None
            assert found.run_id == names[-1 - count]
        assert await runs.newest("workflow", beside=[StreamId("workflow", run) for run in names]) is None
        assert await runs.newest("other", beside=[]) is None

    @pytest.mark.parametrize(
        "damage",
        [
            {"seq": 0},
            {"seq": -1},
            {"status": "asleep\x1b[31m"},
            {"digest": 5},
            {"messages": ["a"]},
            {"checkpoints": "x"},
        ],
        ids=str,
    )
    async def test_a_document_that_is_damaged_is_as_if_there_were_none_and_is_written_over(
        self, damage: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        writer, store = await self.open_store(), await self.open_store()
        whole = [_document(1, run=run, timestamp="2026", checkpoint_seq=1, checkpoint_id="x") for run in ("a", "run")]
        for info in whole:
            await writer.append(make_event(info.stream, 1))
        assert await writer.run_store().put(whole[0], msgspec.structs.replace(whole[1], **damage)) == 2
        await self.settle()
        runs = store.run_store()
        with caplog.at_level("WARNING", "eventckpt"):
            for _ in range(2):
                assert await runs.get(STREAM, whole[0].stream) == {whole[0].stream: whole[0]}
                assert [info async for info in runs.all()] == whole[:1]
                assert [info async for info in runs.all("workflow")] == whole[:1]
                assert [info async for info in runs.idle()] == []
                assert await runs.newest("workflow") == whole[0]
        [said] = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
        assert "workflow|run" in said
        assert await runs.put(whole[1]) == 1
        assert await _stored(runs) == await runs.newest("workflow") == whole[1]

    async def test_the_documents_that_say_idle_are_found_in_each_projection_by_itself(self) -> None:
        store = await self.open_store()
        runs, other = store.run_store("one"), store.run_store("other")
        found = [_document(1, run=f"run {number}", status="idle") for number in range(MANY)]
        await runs.put(*found, _document(1, run="done"), _document(1, run="runs", status="running"))
        await other.put(_document(1, run="elsewhere", status="idle"))
        assert sorted([info.stream async for info in runs.idle()]) == sorted(info.stream for info in found)
        assert [info.run_id async for info in other.idle()] == ["elsewhere"]
        await runs.put(*(msgspec.structs.replace(info, status="done") for info in found))
        assert [info async for info in runs.idle()] == []
        assert [info.run_id async for info in other.idle()] == ["elsewhere"]
        assert len([info async for info in runs.all()]) == MANY + 2

    async def test_a_projection_is_put_in_use_by_the_last_claim_alone(self) -> None:
        first, other = (await self.open_store()).run_store(), (await self.open_store()).run_store()
        claim = await first.claim()
        assert claim.name == "latest"
        await self.settle()
        later = await other.claim()
        assert not await first.activate("latest-2", claim=claim)
        assert await other.activate("latest-3", claim=later)
        assert not await other.activate("latest-4", claim=later)
        await self.settle()
        third = await first.claim()
        assert third.name == "latest-3"
        assert await other.activate("latest-5")  # without a claim, in any case
        assert not await first.activate("latest-6", claim=third)
        await self.settle()
        assert await (await self.open_store()).run_store().active() == "latest-5"

    async def test_of_stores_that_claim_at_once_one_puts_its_projection_in_use(self) -> None:
        stores = [(await self.open_store()).run_store() for _ in range(4)]
        claims = await asyncio.gather(*(runs.claim() for runs in stores))
        assert len({claim.token for claim in claims}) == len(claims)
        done = await asyncio.gather(
            *(
                runs.activate(f"of {number}", claim=claim)
                for number, (runs, claim) in enumerate(zip(stores, claims, strict=True))
            )
        )
        assert sum(done) == 1
        await self.settle()
        assert await (await self.open_store()).run_store().active() == f"of {done.index(True)}"

    async def test_a_projection_is_empty_until_it_has_a_document(self) -> None:
        store = await self.open_store()
        runs, other = store.run_store("one"), store.run_store("other")
        assert await runs.is_empty()
        await runs.put(_document(1))
        assert not await runs.is_empty()
        assert await other.is_empty()
        await runs.clear()
        assert await runs.is_empty()


def _document(seq: int, *, run: str = "run", status: RunStatus = "open", **fields: Any) -> RunInfo:
    info = RunInfo(workflow_name="workflow", run_id=run, seq=seq, status=status, digest=f"of {seq}")
    return msgspec.structs.replace(info, **fields)


async def _stored(runs: RunStore) -> RunInfo:
    return (await runs.get(STREAM))[STREAM]


async def _append_chain(
    store: EventStore, stream: StreamId, count: int, *, data: bytes = b"state"
) -> list[CheckpointEvent]:
    """`count` events from the beginning of `stream`, each appended at the head."""
    events: list[CheckpointEvent] = []
    for seq in range(1, count + 1):
        event = make_event(stream, seq, previous=events[-1] if events else None, data=data)
        await store.append(event)
        events.append(event)
    return events


def _record(head: CheckpointEvent, gone: Iterable[CheckpointEvent], *more: Pruned) -> CheckpointEvent:
    """The record of a removal, behind `head`: of each event that is to go, neighbours in one stretch."""
    stretches: list[Pruned] = []
    for event in gone:
        if stretches and stretches[-1].last == event.seq - 1:
            stretches[-1] = msgspec.structs.replace(stretches[-1], last=event.seq, digest=event.digest)
        else:
            stretches.append(
                Pruned(first=event.seq, last=event.seq, previous_digest=event.previous_digest, digest=event.digest)
            )
    record = make_event(head.stream, head.seq + 1, previous=head, type="tombstone")
    return sealed(msgspec.structs.replace(record, checkpoint_id="", pruned=(*stretches, *more)))


async def _conflicts(store: EventStore, event: CheckpointEvent, *, head: CheckpointEvent | None) -> None:
    """`event` cannot be appended to `store`, whose head is `head`."""
    with pytest.raises(StreamConflict) as conflict:
        await store.append(event)
    assert conflict.value.head == (head.header() if head else None)
    assert (conflict.value.stream, conflict.value.seq) == (event.stream, event.seq)


async def _headers(
    store: EventStore, stream: StreamId, *, gt: int = 0, lte: int | None = None, desc: bool = False
) -> list[CheckpointEvent]:
    return [header async for header in store.headers(stream, gt=gt, lte=lte, desc=desc)]


async def _workflow_headers(store: EventStore, workflow_name: str, *, desc: bool = False) -> list[CheckpointEvent]:
    return [header async for header in store.workflow_headers(workflow_name, desc=desc)]


def _noise(size: int) -> bytes:
    """Bytes that do not compress, the same each time."""
    return hashlib.shake_256(b"noise").digest(size)


async def _streams(store: AuditStore, *, workflow_name: str | None = None, prefix: str = "") -> list[StreamId]:
    return [stream async for stream in store.streams(workflow_name=workflow_name, prefix=prefix)]


async def _events(store: AuditStore, stream: StreamId, *, gt: int = 0, lte: int | None = None) -> list[CheckpointEvent]:
    return [event async for event in store.events(stream, gt=gt, lte=lte)]
