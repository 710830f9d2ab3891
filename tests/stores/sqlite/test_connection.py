"""The threads and connections of a store: closing it, event loops, forks and the end of the process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from eventckpt import CheckpointEvent, CheckpointStoreError, EventStore, SqliteEventStore, StreamId
from eventckpt.stores.conformance import make_event

from ..chains import STREAM, append_chain, headers
from .helpers import HANG, beside, files, plain, run, runs, stored, write_lock


class TestClosing:
    async def test_a_closed_store_leaves_the_file_alone_and_no_other_beside_it(self, path: Path) -> None:
        head: CheckpointEvent | None = None
        for seq in range(1, 61):
            async with SqliteEventStore(path) as store:
                following = make_event(STREAM, seq, previous=head)
                await asyncio.gather(store.append(following), store.read(STREAM, seq))
                head = following
            assert files(path.parent).keys() == {path.name}

    async def test_a_closed_store_leaves_no_thread_behind(self, path: Path) -> None:
        before = threading.enumerate()
        async with SqliteEventStore(path) as store:
            await append_chain(store, 1)
            await store.read(STREAM, 1)
            threads = [thread for thread in threading.enumerate() if thread not in before]
            assert len(threads) == 2
        for thread in threads:
            thread.join(HANG)
            assert not thread.is_alive()


class TestLifeOfAProcess:
    def test_a_store_that_nobody_closes_keeps_no_process_alive_and_loses_nothing(self, path: Path) -> None:
        script = """
            store = SqliteEventStore(path)

            async def main():
                await store.append(make_event(STREAM, 1))
                print(len(await store.read(STREAM, 1)))

            asyncio.run(main())
        """
        assert run(script, path).split() == ["1"]
        assert stored(path) == [1]

    def test_an_append_under_way_when_the_process_ends_is_finished(self, path: Path) -> None:
        script = """
            import threading

            store, begun, connect = SqliteEventStore(path), threading.Event(), sqlite3.connect

            def traced(*args, **options):
                connection = connect(*args, **options)
                connection.set_trace_callback(lambda statement: begun.set())
                return connection

            sqlite3.connect = traced

            async def main():
                first = make_event(STREAM, 1)
                await store.append(first)
                begun.clear()
                append = asyncio.ensure_future(store.append(make_event(STREAM, 2, previous=first)))
                for _ in range(2):  # made in one turn of the loop, and handed over after that
                    await asyncio.sleep(0)
                begun.wait()

            asyncio.run(main())
        """
        run(script, path)
        assert stored(path) == [1, 2]

    def test_a_store_can_be_closed_while_the_interpreter_exits(self, path: Path) -> None:
        script = """
            import atexit

            store = SqliteEventStore(path)

            def close():
                try:
                    asyncio.run(store.read(STREAM, 1))
                except CheckpointStoreError as error:
                    print("refused")
                asyncio.run(store.close())
                asyncio.run(store.close())
                print("closed")

            atexit.register(close)
            asyncio.run(store.append(make_event(STREAM, 1)))
        """
        assert run(script, path).split() == ["refused", "closed"]
        assert not beside(path, "-wal").exists()
        assert stored(path) == [1]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_store_in_use_refuses_to_work_in_a_forked_process(self, path: Path) -> None:
        script = """
            import warnings

            warnings.simplefilter("ignore")
            store, unused = SqliteEventStore(path), SqliteEventStore(path)
            asyncio.run(store.append(make_event(STREAM, 1)))
            child = os.fork()
            if child == 0:
                for work in (store.append(make_event(STREAM, 2)), store.read(STREAM, 1)):
                    try:
                        asyncio.run(work)
                    except CheckpointStoreError as error:
                        print("refused" if "fork" in str(error) else error, flush=True)
                asyncio.run(store.close())
                print(len(asyncio.run(unused.read(STREAM, 1))), flush=True)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            print(len(asyncio.run(store.read(STREAM, 1))))
        """
        assert run(script, path).split() == ["refused", "refused", "1", "1"]

    def test_a_store_outlives_the_event_loop_it_was_first_used_in(self, path: Path) -> None:
        store = SqliteEventStore(path)
        events = asyncio.run(append_chain(store, 2))
        third = make_event(STREAM, 3, previous=events[-1])
        asyncio.run(store.append(third))
        assert asyncio.run(store.read(STREAM, 1, 2, 3)) == [*events, third]
        assert asyncio.run(headers(store)) == [event.header() for event in (*events, third)]
        asyncio.run(store.close())

    def test_a_store_serves_several_event_loops_at_once(self, path: Path) -> None:
        store = SqliteEventStore(path)
        streams = runs(6)

        def use(stream: StreamId) -> None:
            asyncio.run(append_chain(store, 30, stream=stream))

        in_threads(use, streams)
        for stream in streams:
            assert [header.seq for header in asyncio.run(headers(store, stream))] == list(range(1, 31))
        asyncio.run(store.close())

    def test_closing_in_one_thread_leaves_no_append_of_another_hanging(self, tmp_path: Path) -> None:
        for round_ in range(30):
            path = tmp_path / f"{round_}.db"
            store = SqliteEventStore(path, synchronous="OFF")
            begun = threading.Event()
            acknowledged: list[CheckpointEvent] = []

            def use(
                stream: StreamId,
                store: EventStore = store,
                begun: threading.Event = begun,
                acknowledged: list[CheckpointEvent] = acknowledged,
            ) -> None:
                async def append() -> None:
                    event: CheckpointEvent | None = None
                    with contextlib.suppress(CheckpointStoreError):
                        while True:
                            event = make_event(stream, event.seq + 1 if event else 1, previous=event)
                            await store.append(event)
                            acknowledged.append(event)
                            begun.set()

                async def close() -> None:
                    await store.close()

                if stream.run_id == "closes":
                    assert begun.wait(HANG)
                    asyncio.run(close())
                else:
                    asyncio.run(append())

            in_threads(use, [*runs(3), StreamId("workflow", "closes")])
            with plain(path) as connection:
                stored = {digest for (digest,) in connection.execute("SELECT digest FROM events")}
            assert stored == {event.digest for event in acknowledged}
            assert not beside(path, "-wal").exists()

    def test_an_append_whose_event_loop_is_gone_holds_up_no_other(
        self, path: Path, connections: list[sqlite3.Connection]
    ) -> None:
        store = SqliteEventStore(path)
        (first,) = asyncio.run(append_chain(store, 1))
        begun = threading.Event()
        connections[0].set_trace_callback(lambda _: begun.set())

        async def leave() -> None:
            append = asyncio.ensure_future(store.append(make_event(STREAM, 2, previous=first)))
            for _ in range(2):  # made in one turn of the loop, and handed over after that
                await asyncio.sleep(0)
            assert begun.wait(HANG)
            assert not append.done()

        with write_lock(path) as release:
            asyncio.run(leave())
            release()
        other = make_event(StreamId("workflow", "other"), 1)
        asyncio.run(asyncio.wait_for(store.append(other), HANG))
        assert asyncio.run(store.read(other.stream, 1)) == [other]
        asyncio.run(store.close())


def in_threads(work: Callable[[StreamId], None], streams: list[StreamId]) -> None:
    """Does `work` for each stream, all at once, and raises what any of them raised."""
    failures: list[BaseException] = []

    def guarded(stream: StreamId) -> None:
        try:
            work(stream)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(stream,), daemon=True) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
        assert not thread.is_alive(), "an append hangs"
    assert failures == []
