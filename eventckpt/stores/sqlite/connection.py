"""A store's two connections, each in a thread of its own, so that the event loop never waits for the disk.

The threads are those of `concurrent.futures`: idle ones do not keep the process alive, and work already handed over is
finished before the interpreter exits. (aiosqlite's thread does neither for a connection left open.)

Nobody needs to close a store. A connection belongs to its thread, which ends when the store is garbage collected, and
when the interpreter exits, and closes it then. A finalizer of the store does not close it: that runs wherever the last
reference goes, mostly in the event loop, and between any two steps of code that may hold the locks of the executor.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeVar

from ...errors import CheckpointStoreError, StoreLockedError, StoreReadOnlyError
from .errors import store_errors
from .file import Checkpointed, Moved, StoreConnection, StoreFile
from .opening import Opening
from .tables import Log, Tables

__all__ = ["Connections", "Threads"]

_T = TypeVar("_T")

_TRIES: Final = 8  # of reading a file that others begin to write to meanwhile
_PATIENCE: Final = 10.0  # seconds that a thread which ends waits for the other one's connection to be closed

_mine: Final = threading.local()
"""What the threads of all stores have open, each its own `held`: a `_Held`, to which there is no other reference."""

_carried_over: Final[list[StoreConnection]] = []
"""Connections of the process that this one was forked off from. They are never closed here, where SQLite believes that
it has the locks of the parent, and would clear up the log under it."""


class Threads:
    """The two threads of a store's file, which all that the store keeps in it shares."""

    def __init__(
        self, path: Path, *, synchronous: Literal["FULL", "NORMAL", "OFF"], busy_timeout: float, read_only: bool
    ) -> None:
        self.path: Path = path
        self.read_only: bool = read_only
        self.lock: threading.Lock = threading.Lock()
        """Held to hand a job over or to close, so that no job comes after the last one."""
        self._file = StoreFile(path)
        opening = Opening(self._file, synchronous=synchronous, busy_timeout=busy_timeout, read_only=read_only)
        self.reader: _Worker = _Worker(opening.to_read, "eventckpt-sqlite-reader")
        self.writer: _Worker = _Worker(opening.to_write, "eventckpt-sqlite-writer", after=self.reader)
        self._closed = False
        self._process: int | None = None
        """The process whose threads the workers are, once there are any."""

    def refuse_if_unusable(self) -> None:
        """Raise what keeps a job from being handed over; to be called with the lock held."""
        if self._closed:
            raise _closed(self.path)
        if self._was_forked():
            raise CheckpointStoreError(
                f"The store {self.path} was in use when this process was forked off; make a new one in this process."
            )
        self._file.refuse_if_replaced()

    def submit(self, worker: _Worker, job: Callable[[], _T]) -> Future[_T]:
        """Let a worker do a job, after those that it has.

        Raises:
            CheckpointStoreError: there is no such thread any more.
        """
        self._process = os.getpid()
        try:
            return worker.submit(job)
        except RuntimeError as error:
            raise CheckpointStoreError(f"The store {self.path} has no thread to work in: {error}.") from error

    async def close(self) -> None:
        """Finish what was handed over and end both. May be called more than once."""
        with self.lock:
            self._closed = True
            if self._was_forked():
                return
            # One after the other: of two connections that close at once, neither is the last, which clears up the log.
            ended = self.writer.end(after=self.reader.end())
        await asyncio.wrap_future(ended)

    def _was_forked(self) -> bool:
        return self._process not in (None, os.getpid())


class Connections:
    """The connections to a store's file: what a store and its other ports work with, on one log."""

    def __init__(self, threads: Threads, tables: Tables) -> None:
        self.path: Path = threads.path
        self.read_only: bool = threads.read_only
        self.lock: threading.Lock = threads.lock
        """See `Threads.lock`."""
        self._threads = threads
        self._tables = tables
        self._is_owed = False
        self._settled: Future[None] | None = None
        """Done once the appends are that `owe` was called for."""
        self._closed = False

    def of(self, tables: Tables) -> Connections:
        """Those to another log of the file, in the same threads."""
        return Connections(self._threads, tables)

    async def reading(self, fetch: Callable[[Log], _T]) -> _T:
        """What `fetch` finds in one transaction of the reader's thread, so that all of it is as of one moment."""

        def job() -> _T:
            with store_errors(self.path, read_only=self.read_only):
                return self._threads.reader.read(fetch, self._tables)

        with self.lock:
            self.refuse_if_unusable()
            if self._is_owed:
                self._settled, self._is_owed = self.hand_to_writer(_nothing), False
            settled = self._settled
        if settled is not None and not settled.done():
            await asyncio.shield(asyncio.wrap_future(settled))
        with self.lock:
            self.refuse_if_unusable()
            done = self._threads.submit(self._threads.reader, job)
        return await asyncio.wrap_future(done)

    async def writing(self, change: Callable[[Log], _T]) -> _T:
        """What `change` gives, in one transaction of the writer's thread."""

        def job() -> _T:
            with self.changing() as log:
                return change(log)

        with self.lock:
            self.refuse_if_unusable(writes=True)
            done = self.hand_to_writer(job)
        return await asyncio.wrap_future(done)

    async def checkpoint(self) -> Checkpointed:
        """Put the log into the file, as far as those who read it now let that be, and empty it where nobody reads or
        writes: nobody waits for it. In the writer's thread, between two transactions."""

        def job() -> Checkpointed:
            with store_errors(self.path):
                return self._threads.writer.connection().checkpoint()

        with self.lock:
            self.refuse_if_unusable(writes=True)
            done = self.hand_to_writer(job)
        return await asyncio.wrap_future(done)

    @contextmanager
    def changing(self) -> Generator[Log, None, None]:
        """One transaction that writes; for jobs of the writer's thread only."""
        with (
            store_errors(self.path),
            self._threads.writer.connection().transaction("IMMEDIATE", self._tables) as log,
        ):
            yield log

    def hand_to_writer(self, job: Callable[[], _T]) -> Future[_T]:
        """Let the writer's thread do a job, after those that it has.

        Raises:
            CheckpointStoreError: there is no such thread any more.
        """
        return self._threads.submit(self._threads.writer, job)

    def owe(self) -> None:
        """A caller was cancelled whose append may be under way: the next read is to see what became of it."""
        with self.lock:
            self._is_owed = True

    def refuse_if_unusable(self, *, writes: bool = False) -> None:
        """Raise what keeps a job from being handed over; to be called with the lock held."""
        if writes and self.read_only:
            raise StoreReadOnlyError(
                f"The store {self.path} was opened to be read only, and nothing was written. To write, make a store "
                "without read_only."
            )
        if self._closed:
            raise _closed(self.path)
        self._threads.refuse_if_unusable()

    async def close_log(self) -> None:
        """Finish what was handed over of this log. The file stays open for the other one."""
        with self.lock:
            self._closed = True
            try:
                self._threads.refuse_if_unusable()
                handed_over = self.hand_to_writer(_nothing)
            except CheckpointStoreError:  # nothing more is done, and nothing waits
                return
        await asyncio.wrap_future(handed_over)

    async def close(self) -> None:
        """Finish what was handed over and close both. May be called more than once."""
        await self._threads.close()


def _closed(path: Path) -> CheckpointStoreError:
    """What use of a closed store gets."""
    return CheckpointStoreError(f"The store {path} was closed; make a new one to go on.")


def _nothing() -> None:
    """A job that is done once those before it are."""


class _Held:
    """What a thread has open. It goes when the thread ends, and closes the connection in it."""

    def __init__(self, opened: StoreConnection, closed: threading.Event, after: threading.Event | None) -> None:
        self.opened: StoreConnection | None = opened
        self._closed = closed
        self._after = after
        self._process = os.getpid()
        closed.clear()

    def close(self) -> None:
        """Close the connection, unless that was done."""
        opened, self.opened = self.opened, None
        if opened is not None:
            try:
                opened.close()
            finally:
                self._closed.set()

    def __del__(self) -> None:
        if self.opened is None:
            return
        if self._process != os.getpid():  # a fork ends the other threads in the child
            _carried_over.append(self.opened)
            return
        if self._after is not None:
            self._after.wait(_PATIENCE)
        self.close()


class _Worker:
    """One thread with one connection, opened by the first job that needs it.

    Args:
        connect: opens it.
        name: of the thread.
        after: the worker whose connection is closed before, where both threads end at once.
    """

    def __init__(self, connect: Callable[[], StoreConnection], name: str, *, after: _Worker | None = None) -> None:
        self._connect = connect
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._closed = threading.Event()
        """Whether the thread has nothing open."""
        self._closed.set()
        self._after = after and after._closed
        self._ended: Future[None] | None = None

    def submit(self, job: Callable[[], _T]) -> Future[_T]:
        return self._thread.submit(job)

    def connection(self) -> StoreConnection:
        """The connection, for jobs only."""
        held: _Held | None = getattr(_mine, "held", None)
        if held is None or held.opened is None:
            opened = self._connect()
            _mine.held = _Held(opened, self._closed, self._after)
            return opened
        return held.opened

    def read(self, fetch: Callable[[Log], _T], tables: Tables) -> _T:
        """What `fetch` finds in one transaction, so that all of it is as of one moment; for jobs only."""
        for _ in range(_TRIES):
            opened = self.connection()
            try:
                if opened.is_of_one_moment():
                    with opened.transaction("DEFERRED", tables) as log:
                        found = fetch(log)
                    if opened.is_of_one_moment():
                        return found
            except Moved:
                pass
            except Exception:
                if opened.is_of_one_moment():
                    raise
            _let_go()
        raise StoreLockedError(
            "Each time that the store was read, another process opened it to write, and closed it again. Trying again "
            "is safe."
        )

    def end(self, *, after: Future[None] | None = None) -> Future[None]:
        """Close the connection after the jobs already handed over, and after `after`; the same future each time."""
        if self._ended is None:
            self._ended = Future()
            self._ended.set_running_or_notify_cancel()  # who waits for it can be cancelled, it cannot
            try:
                self._thread.submit(self._disconnect, self._ended, after)
            except RuntimeError:  # the interpreter is exiting: the thread has ended, and what it had open was closed
                self._ended.set_result(None)
            self._thread.shutdown(wait=False)
        return self._ended

    def _disconnect(self, ended: Future[None], after: Future[None] | None) -> None:
        try:
            if after is not None:
                after.result()
            _let_go()
        finally:
            ended.set_result(None)


def _let_go() -> None:
    """Close what this thread has open."""
    held: _Held | None = getattr(_mine, "held", None)
    if held is not None:
        held.close()
