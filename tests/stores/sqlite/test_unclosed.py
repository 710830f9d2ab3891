"""Stores that nobody closes: what they had open is closed once nobody has them, in the threads that it belonged to."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointStoreError, SqliteCheckpointStorage, SqliteEventStore, StreamId
from eventckpt.stores.conformance import make_event

from ..chains import STREAM, append_chain
from .helpers import HANG, PROLOGUE, beside, files, run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("eventckpt-sqlite")}


def until_over(those: set[threading.Thread]) -> None:
    """Wait for threads to end, collecting what the event loop lets go of meanwhile."""
    for _ in range(HANG * 10):
        gc.collect()
        for thread in those:
            thread.join(0.1)
        if not any(thread.is_alive() for thread in those):
            break
    assert not any(thread.is_alive() for thread in those)
    gc.collect()  # finds a connection that is still open, which is an error from Python 3.13 on


async def writes(path: Path) -> object:
    store = SqliteEventStore(path)
    await append_chain(store, 2)
    return store


async def reads(path: Path) -> object:
    store = SqliteEventStore(path)
    await store.read(STREAM, 1)
    return store


async def writes_and_reads(path: Path) -> object:
    store = SqliteEventStore(path)
    await append_chain(store, 2)
    await store.read(STREAM, 1)
    return store


async def looks(path: Path) -> object:
    store = SqliteEventStore(path, read_only=True)
    await store.read(STREAM, 1)
    return store


async def is_part_of_a_cycle(path: Path) -> object:
    cycle: list[object] = [await writes_and_reads(path)]
    cycle.append(cycle)
    return cycle


async def fails(path: Path) -> object:
    store = SqliteEventStore(path)
    await append_chain(store, 2)
    with pytest.raises(CheckpointStoreError, match="ZeroDivisionError"):
        await store.reading(lambda connection: 1 // 0)
    return store


async def is_given_up_during_an_append(path: Path) -> object:
    store = SqliteEventStore(path)
    events = await append_chain(store, 1)
    append = asyncio.ensure_future(store.append(make_event(STREAM, 2, previous=events[-1])))
    await asyncio.sleep(0)
    append.cancel()
    await asyncio.wait([append])
    return store


async def lists_a_part(path: Path) -> object:
    store = SqliteEventStore(path)
    await append_chain(store, 2)
    async for _ in store.headers(STREAM):
        break
    return store


async def gives_another_port(path: Path) -> object:
    store = SqliteEventStore(path)
    await append_chain(store, 1)
    runs = store.run_store()
    assert await runs.is_empty()
    return runs


async def saves(path: Path) -> object:
    storage = SqliteCheckpointStorage(path)
    name = await storage.save(WorkflowCheckpoint("workflow", "graph"))
    await storage.load(name)
    return storage


@pytest.mark.parametrize(
    "use",
    [
        writes,
        reads,
        writes_and_reads,
        looks,
        is_part_of_a_cycle,
        fails,
        lists_a_part,
        is_given_up_during_an_append,
        gives_another_port,
        saves,
    ],
)
async def test_what_a_store_had_open_is_closed_once_nobody_has_the_store(
    path: Path, use: Callable[[Path], Awaitable[object]]
) -> None:
    async with SqliteEventStore(path) as store:
        await store.append(make_event(StreamId("workflow", "another"), 1))
    before = threads()
    used = await use(path)
    those = threads() - before
    assert those
    del used
    gc.collect()
    await asyncio.to_thread(until_over, those)
    assert files(path.parent).keys() == {path.name}  # the last connection clears up the log


async def test_a_store_whose_ports_are_in_use_stays_open(path: Path) -> None:
    before = threads()
    store = SqliteEventStore(path)
    runs, feed = store.run_store(), store.change_feed()
    await append_chain(store, 1)
    del store
    gc.collect()
    assert await runs.is_empty()
    (everything,) = await feed.ranges()
    assert len((await feed.read(everything, None, start="beginning", limit=10)).events) == 1
    those = threads() - before
    del runs, feed
    gc.collect()
    until_over(those)
    assert files(path.parent).keys() == {path.name}


def test_many_stores_that_are_collected_while_others_hand_over_jobs_block_nobody(tmp_path: Path) -> None:
    before = threads()
    threshold = gc.get_threshold()

    async def use() -> None:
        async with SqliteEventStore(tmp_path / "events.db") as store:
            events = await append_chain(store, 1)
            for number in range(20):
                await is_part_of_a_cycle(tmp_path / f"{number}.db")
                assert await store.read(STREAM, 1) == events

    gc.set_threshold(1)  # the collector comes at every step
    try:
        asyncio.run(asyncio.wait_for(use(), HANG))
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    until_over(threads() - before)


def test_what_is_open_when_the_interpreter_exits_is_closed(path: Path) -> None:
    script = """
        store, another = SqliteEventStore(path), SqliteEventStore(path)

        async def main():
            await store.append(make_event(STREAM, 1))
            await another.read(STREAM, 1)
            await store.read(STREAM, 1)

        asyncio.run(main())
    """
    command = [sys.executable, "-W", "error", "-c", PROLOGUE + textwrap.dedent(script), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert files(path.parent).keys() == {path.name}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_closes_nothing_of_its_parent(path: Path) -> None:
    script = """
        import gc, warnings

        warnings.simplefilter("ignore")
        store = SqliteEventStore(path)
        first = make_event(STREAM, 1)
        asyncio.run(store.append(first))
        opened = set(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else set()
        child = os.fork()
        if child == 0:
            del store
            gc.collect()
            print(opened <= set(os.listdir("/proc/self/fd")) if opened else True, flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(Path(f"{path}-wal").exists())
        asyncio.run(store.append(make_event(STREAM, 2, previous=first)))
        print(len(asyncio.run(store.read(STREAM, 1, 2))))
    """
    assert run(script, path).split() == ["True", "True", "2"]
    assert not beside(path, "-wal").exists()
