"""Appends that wait together are committed together, and fail alone."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import msgspec

from eventckpt import CheckpointStoreError, SqliteEventStore, StreamId
from eventckpt.errors import StreamConflict
from eventckpt.stores.conformance import make_event

from ..chains import STREAM, append_chain, headers
from .helpers import beside, count_events, outcomes, runs, write_lock


class TestGroups:
    async def test_appends_that_wait_are_committed_together(self, path: Path, store: SqliteEventStore) -> None:
        await append_chain(store, 1)
        before = commits(path)
        events = [make_event(stream, 1) for stream in runs(200)]
        with write_lock(path) as release:
            appends = outcomes(store.append(event) for event in events)
            await asyncio.sleep(0)
            release()
            assert await appends == [None] * 200
        assert 1 <= commits(path) - before <= 3
        for event in events:
            assert await store.read(event.stream, 1) == [event]

    async def test_appends_of_one_turn_of_the_loop_are_committed_together(
        self, path: Path, store: SqliteEventStore
    ) -> None:
        await append_chain(store, 1)
        before = commits(path)
        assert await outcomes(store.append(make_event(stream, 1)) for stream in runs(200)) == [None] * 200
        assert commits(path) - before == 1

    async def test_appends_of_the_turn_in_which_the_store_is_closed_are_finished(
        self, path: Path, store: SqliteEventStore
    ) -> None:
        appends = outcomes(store.append(make_event(stream, 1)) for stream in runs(20))
        await asyncio.sleep(0)
        await store.close()
        assert await appends == [None] * 20

    def test_a_loop_that_is_closed_in_the_turn_of_an_append_keeps_no_other_from_appending(self, path: Path) -> None:
        store, loop = SqliteEventStore(path), asyncio.new_event_loop()
        cut_off = loop.create_task(store.append(make_event(StreamId("workflow", "cut off"), 1)))
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        event = make_event(STREAM, 1)

        async def go_on() -> None:
            async with store:
                await store.append(event)
                assert await store.read(STREAM, 1) == [event]

        asyncio.run(asyncio.wait_for(go_on(), 60))
        assert not cut_off.done()

    async def test_appends_that_do_not_wait_are_committed_one_by_one(self, path: Path, store: SqliteEventStore) -> None:
        (first,) = await append_chain(store, 1)
        before = commits(path)
        for seq in range(2, 12):
            first = make_event(STREAM, seq, previous=first)
            await store.append(first)
        assert commits(path) - before == 10

    async def test_what_cannot_be_stored_fails_alone(self, path: Path, store: SqliteEventStore) -> None:
        (first,) = await append_chain(store, 1)
        good = [make_event(stream, 1) for stream in runs(20)]
        bad = [
            msgspec.structs.replace(make_event(StreamId("workflow", "bad"), 1), **fields)
            for fields in (
                {"actor": "\ud800"},
                {"run_id": "\ud800"},
                {"checkpoint_id": "\ud800"},
                {"iteration_count": 1 << 70},
            )
        ]
        late = make_event(STREAM, 3, previous=first)
        with write_lock(path) as release:
            appends = outcomes(store.append(event) for event in (*good[:10], *bad, late, *good[10:]))
            await asyncio.sleep(0)
            release()
            found = await appends
        assert found[:10] == found[15:] == [None] * 10
        assert {type(outcome) for outcome in found[10:14]} == {CheckpointStoreError}
        assert isinstance(found[14], StreamConflict)
        for event in good:
            assert await store.read(event.stream, 1) == [event]
        assert await headers(store, StreamId("workflow", "bad")) == []

    async def test_rivals_in_one_group_are_told_of_the_winner(self, path: Path, store: SqliteEventStore) -> None:
        (first,) = await append_chain(store, 1)
        rivals = [make_event(STREAM, 2, previous=first, data=bytes([number])) for number in range(5)]
        with write_lock(path) as release:
            appends = outcomes(store.append(event) for event in rivals)
            await asyncio.sleep(0)
            release()
            winner, *losers = await appends
        assert winner is None
        for loser in losers:
            assert isinstance(loser, StreamConflict)
            assert loser.head == rivals[0].header()

    async def test_a_run_of_events_may_wait_in_one_group(self, path: Path, store: SqliteEventStore) -> None:
        events = await append_chain(store, 1)
        for seq in range(2, 700):
            events.append(make_event(STREAM, seq, previous=events[-1], data=b""))
        with write_lock(path) as release:
            appends = outcomes(store.append(event) for event in events[1:])
            await asyncio.sleep(0)
            release()
            assert set(await appends) == {None}
        assert await headers(store) == [event.header() for event in events]

    async def test_other_writes_get_their_turn_between_two_groups(self, path: Path, store: SqliteEventStore) -> None:
        await append_chain(store, 1)
        with write_lock(path) as release:
            appends = outcomes(store.append(make_event(stream, 1, data=b"")) for stream in runs(1500))
            await asyncio.sleep(0)
            other = asyncio.create_task(store.writing(count_events))
            await asyncio.sleep(0)
            release()
            seen = await other
            assert set(await appends) == {None}
        assert seen < 1501
        assert await store.reading(count_events) == 1501


def commits(path: Path) -> int:
    """How many transactions are in the write-ahead log: the frames with a database size end one each."""
    log = beside(path, "-wal").read_bytes()
    page_size = struct.unpack(">I", log[8:12])[0]
    frames = (log[start : start + 24] for start in range(32, len(log), 24 + page_size))
    return sum(1 for frame in frames if frame[8:16] == log[16:24] and struct.unpack(">I", frame[4:8])[0])
