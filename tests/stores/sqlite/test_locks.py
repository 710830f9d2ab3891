"""Another process holds the lock: who waits for it, for how long, and what becomes of it."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from eventckpt import CheckpointStoreError, SqliteEventStore, StreamId
from eventckpt.errors import StoreLockedError
from eventckpt.stores.conformance import make_event

from ..chains import STREAM, append_chain, headers
from .helpers import HANG, beside, outcomes, plain, runs, write_lock


class TestLocks:
    async def test_a_lock_held_for_too_long_is_an_error_and_trying_again_is_safe(self, path: Path) -> None:
        async with SqliteEventStore(path, busy_timeout=0.1) as store:
            (first,) = await append_chain(store, 1)
            second = make_event(STREAM, 2, previous=first)
            with write_lock(path) as release:
                with pytest.raises(StoreLockedError, match="locked"):
                    await store.append(second)
                assert await store.read(STREAM, 1, 2) == [first]
                release()
                await store.append(second)
            assert await store.read(STREAM, 1, 2) == [first, second]

    async def test_a_lock_on_a_file_that_is_not_open_yet_is_an_error_too(self, path: Path) -> None:
        with write_lock(path) as release:
            async with SqliteEventStore(path, busy_timeout=0.1) as store:
                with pytest.raises(StoreLockedError, match="locked"):
                    await store.append(make_event(STREAM, 1))
                with pytest.raises(StoreLockedError, match="locked"):
                    await store.read(STREAM, 1)
                release()
                events = await append_chain(store, 1)
                assert await store.read(STREAM, 1) == events

    async def test_each_store_waits_for_a_lock_as_long_as_it_was_told(self, path: Path) -> None:
        async with (
            SqliteEventStore(path, busy_timeout=HANG) as patient,
            SqliteEventStore(path, busy_timeout=0) as hasty,
        ):
            (first,) = await append_chain(patient, 1)
            second = make_event(STREAM, 2, previous=first)
            with write_lock(path) as release:
                waits = asyncio.create_task(patient.append(second))
                await asyncio.sleep(0)
                with pytest.raises(StoreLockedError):
                    await hasty.append(second)
                assert not waits.done()
                release()
                await waits

    async def test_appends_that_meet_a_lock_together_wait_for_it_together(self, path: Path) -> None:
        async with asyncio.timeout(HANG), SqliteEventStore(path, busy_timeout=1) as store:
            await append_chain(store, 1)
            with write_lock(path):
                # One after the other they would wait for more than the guard's time.
                failed = await outcomes(store.append(make_event(stream, 1)) for stream in runs(2 * HANG))
            assert {type(outcome) for outcome in failed} == {StoreLockedError}

    async def test_the_event_loop_goes_on_while_a_store_waits_for_a_lock(
        self, path: Path, store: SqliteEventStore
    ) -> None:
        (first,) = await append_chain(store, 1)
        with write_lock(path) as release:
            append = asyncio.create_task(store.append(make_event(STREAM, 2, previous=first)))
            for _ in range(100):  # if the append held the loop up, it would fail before the lock is released
                await asyncio.sleep(0)
            assert await store.read(STREAM, 1, 2) == [first]
            assert not append.done()
            release()
            await append
        assert [header.seq for header in await headers(store)] == [1, 2]

    async def test_the_event_loop_goes_on_while_a_store_waits_to_open_the_file(self, path: Path) -> None:
        with plain(path) as holder:
            holder.execute("BEGIN EXCLUSIVE")
            async with SqliteEventStore(path) as store:
                tasks = [asyncio.create_task(store.read(STREAM, 1)), asyncio.create_task(append_chain(store, 1))]
                for _ in range(100):
                    await asyncio.sleep(0)
                assert not any(task.done() for task in tasks)
                holder.execute("ROLLBACK")
                await asyncio.gather(*tasks)
                assert [header.seq for header in await headers(store)] == [1]

    async def test_closing_waits_for_appends_that_wait_for_a_lock(self, path: Path) -> None:
        store = SqliteEventStore(path)
        await append_chain(store, 1)
        with write_lock(path) as release:
            events = [make_event(stream, 1) for stream in runs(20)]
            appends = outcomes(store.append(event) for event in events)
            await asyncio.sleep(0)
            close = asyncio.create_task(store.close())
            await asyncio.sleep(0)
            with pytest.raises(CheckpointStoreError, match="closed"):
                await store.append(make_event(STREAM, 2))
            assert not close.done()
            release()
            assert await appends == [None] * 20
            await close
        async with SqliteEventStore(path) as other:
            for event in events:
                assert await other.read(event.stream, 1) == [event]

    async def test_a_cancelled_close_closes_all_the_same(self, path: Path) -> None:
        store = SqliteEventStore(path)
        (first,) = await append_chain(store, 1)
        await store.read(STREAM, 1)
        with write_lock(path) as release:
            append = asyncio.create_task(store.append(make_event(STREAM, 2, previous=first)))
            await asyncio.sleep(0)
            close = asyncio.create_task(store.close())
            await asyncio.sleep(0)
            close.cancel()
            with pytest.raises(asyncio.CancelledError):
                await close
            release()
            await append
        async with asyncio.timeout(HANG):
            await store.close()
        assert not beside(path, "-wal").exists()  # the last connection has let go of the file

    async def test_a_cancelled_append_that_waits_for_its_turn_is_not_stored(
        self, path: Path, connections: list[sqlite3.Connection]
    ) -> None:
        async with SqliteEventStore(path) as store:
            await append_chain(store, 1)
            loop, begun = asyncio.get_running_loop(), asyncio.Event()
            connections[0].set_trace_callback(lambda statement: loop.call_soon_threadsafe(begun.set))
            with write_lock(path) as release:
                under_way = asyncio.create_task(store.append(make_event(StreamId("workflow", "under way"), 1)))
                await begun.wait()
                appends = [asyncio.create_task(store.append(make_event(stream, 1))) for stream in runs(20)]
                await asyncio.sleep(0)
                for append in appends[::2]:
                    append.cancel()
                await asyncio.sleep(0)
                release()
                await under_way
                await asyncio.gather(*appends, return_exceptions=True)
            assert [append.cancelled() for append in appends] == [True, False] * 10
            for stream, append in zip(runs(20), appends, strict=True):
                assert len(await store.read(stream, 1)) == (0 if append.cancelled() else 1)
