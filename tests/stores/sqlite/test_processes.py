"""Several processes, of which one may be killed, work on one file."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from eventckpt import CheckpointEvent, EventStore, SqliteEventStore, StreamId
from eventckpt.chain import digest_of
from eventckpt.errors import StreamConflict
from eventckpt.stores.conformance import make_event

from ..chains import STREAM, append_chain, headers
from .helpers import HANG, process, runs, said


class TestProcesses:
    def test_processes_that_append_to_one_file_at_once_lose_nothing(self, path: Path) -> None:
        with processes(3, _append_beside_others, path) as results:
            own = [results.get(timeout=HANG) for _ in range(3)]
        assert sorted(own) == [0, 1, 2]

        async def check() -> None:
            async with SqliteEventStore(path) as store:
                for stream in runs(3):
                    assert [header.seq for header in await headers(store, stream)] == list(range(1, 41))
                shared = await headers(store)
                assert [header.seq for header in shared] == list(range(1, 31))
                assert [header.previous_digest for header in shared] == ["", *(h.digest for h in shared[:-1])]
                assert {header.checkpoint_id for header in shared} == {
                    f"{number} of {writer}" for number in range(10) for writer in range(3)
                }

        asyncio.run(check())

    def test_processes_that_create_one_file_at_once_all_succeed(self, tmp_path: Path) -> None:
        with processes(4, _open_beside_others, tmp_path) as results:
            failures = [results.get(timeout=HANG) for _ in range(4)]
        assert failures == [[]] * 4

    async def test_stores_that_create_one_file_at_once_all_succeed(self, tmp_path: Path) -> None:
        for number in range(20):
            path = tmp_path / f"{number}.db"
            async with AsyncExitStack() as stack:
                stores = [await stack.enter_async_context(SqliteEventStore(path)) for _ in range(4)]
                events = [make_event(stream, 1) for stream in runs(4)]
                pairs = list(zip(stores, events, strict=True))
                reads = [store.read(event.stream, 1) for store, event in pairs]
                await asyncio.gather(*reads, *(store.append(event) for store, event in pairs))
                for event in events:
                    assert await stores[0].read(event.stream, 1) == [event]

    def test_a_killed_process_loses_nothing_it_was_told_is_stored(self, path: Path) -> None:
        script = """
            async def write(store, number):
                stream, head = StreamId("workflow", f"run {number}"), None
                async for head in store.headers(stream, desc=True):
                    break
                seq = head.seq if head else 0
                while True:
                    seq += 1
                    head = make_event(stream, seq, previous=head, data=os.urandom(seq % 7 * 1000))
                    await store.append(head)
                    os.write(1, f"{number} {seq}\\n".encode())  # the line at once, or not at all

            async def main():
                store = SqliteEventStore(path)
                await asyncio.gather(*(write(store, number) for number in range(4)))

            asyncio.run(main())
        """
        acknowledged = dict.fromkeys(range(4), 0)
        for _ in range(6):
            with process(script, path) as child:
                lines = [said(child.stdout) for _ in range(random.randint(1, 300))]
                child.kill()
                assert child.stdout is not None
                lines += child.stdout.read().splitlines(keepends=True)
            for line in lines:
                number, seq = map(int, line.split())
                acknowledged[number] = max(acknowledged[number], seq)
            asyncio.run(self._holds(path, acknowledged))
        assert sum(acknowledged.values()) > 0

    async def _holds(self, path: Path, acknowledged: dict[int, int]) -> None:
        async with SqliteEventStore(path) as store:
            for number, seq in acknowledged.items():
                stored = await headers(store, runs(4)[number])
                assert [header.seq for header in stored] == list(range(1, len(stored) + 1))
                assert [header.previous_digest for header in stored[1:]] == [header.digest for header in stored[:-1]]
                assert len(stored) in (seq, seq + 1), "more than the one append that was under way"
                for event in await store.read(runs(4)[number], *range(max(1, seq - 20), len(stored) + 1)):
                    assert digest_of(event) == event.digest
                acknowledged[number] = len(stored)


@contextmanager
def processes(count: int, target: Callable[..., None], *args: Any) -> Generator[Any, None, None]:
    """`count` processes that run `target(number, barrier, results, *args)`; `results` is a queue that they fill."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(count), context.Queue()
    children = [context.Process(target=target, args=(number, barrier, results, *args)) for number in range(count)]
    try:
        for child in children:
            child.start()
        yield results
        for child in children:
            child.join(HANG)
            assert child.exitcode == 0
    finally:
        for child in children:
            if child.is_alive():
                child.kill()
                child.join()
            child.close()
        results.close()


def _append_beside_others(number: int, barrier: Any, results: Any, path: Path) -> None:
    async def own(store: EventStore) -> None:
        await append_chain(store, 40, stream=runs(3)[number])

    async def shared(store: EventStore) -> None:
        head: CheckpointEvent | None = None
        for count in range(10):
            while True:
                seq = head.seq + 1 if head else 1
                event = make_event(STREAM, seq, previous=head, checkpoint_id=f"{count} of {number}")
                try:
                    await store.append(event)
                except StreamConflict as conflict:
                    head = conflict.head
                else:
                    head = event
                    break

    async def main() -> None:
        async with SqliteEventStore(path) as store:
            await asyncio.gather(own(store), shared(store))

    barrier.wait(HANG)
    asyncio.run(main())
    results.put(number)


def _open_beside_others(number: int, barrier: Any, results: Any, folder: Path) -> None:
    failures: list[str] = []

    async def main(path: Path) -> None:
        async with SqliteEventStore(path) as store:
            event = make_event(StreamId("workflow", f"run {number}"), 1)
            _, found = await asyncio.gather(store.append(event), store.read(STREAM, 1))
            if found or await store.read(event.stream, 1) != [event]:
                failures.append(f"{path.name}: another event than its own")

    for name in range(30):
        barrier.wait(HANG)
        try:
            asyncio.run(main(folder / f"{name}.db"))
        except Exception as error:
            failures.append(f"{name}: {error!r}")
    results.put(failures)
