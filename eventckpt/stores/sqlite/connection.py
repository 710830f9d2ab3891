"""A store's two connections, each in a thread of its own, so that the event loop never waits for the disk.

The threads are those of `concurrent.futures`: idle ones do not keep the process alive, and work already handed over is
finished before the interpreter exits. (aiosqlite's thread does neither for a connection left open.)
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal, TypeVar

from ...errors import CheckpointStoreError, StoreLockedError, StoreReadOnlyError
from .errors import store_errors
from .file import Moved, StoreConnection, StoreFile
from .opening import Opening

__all__ = ["Connections"]

_T = TypeVar("_T")

_TRIES: Final = 8  # of reading a file that others begin to write to meanwhile


class Connections:
    """The connections to a store's file: what the store and its other ports work with."""

    def __init__(
        self, path: Path, *, synchronous: Literal["FULL", "NORMAL", "OFF"], busy_timeout: float, read_only: bool
    ) -> None:
        self.path = path
        self.read_only = read_only
        self.lock = threading.Lock()
        """Held to hand a job over or to close, so that no job comes after the last one."""
        self._file = StoreFile(path)
        opening = Opening(self._file, synchronous=synchronous, busy_timeout=busy_timeout, read_only=read_only)
        self._reader = _Worker(opening.to_read, "eventckpt-sqlite-reader")
        self._writer = _Worker(opening.to_write, "eventckpt-sqlite-writer")
        self._is_owed = False
        self._settled: Future[None] | None = None
        """Done once the appends are that `owe` was called for."""
        self._closed = False
        self._process: int | None = None
        """The process whose threads the workers are, once there are any."""

    async def reading(self, fetch: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `fetch` finds in one transaction of the reader's thread, so that all of it is as of one moment."""

        def job() -> _T:
            with store_errors(self.path, read_only=self.read_only):
                return self._reader.read(fetch)

        with self.lock:
            self.refuse_if_unusable()
            if self._is_owed:
                self._settled, self._is_owed = self._submit(self._writer, _nothing), False
            settled = self._settled
        if settled is not None and not settled.done():
            await asyncio.shield(asyncio.wrap_future(settled))
        with self.lock:
            self.refuse_if_unusable()
            done = self._submit(self._reader, job)
        return await asyncio.wrap_future(done)

    async def writing(self, change: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `change` gives, in one transaction of the writer's thread."""

        def job() -> _T:
            with store_errors(self.path), self.opened_to_write().transaction("IMMEDIATE") as connection:
                return change(connection)

        with self.lock:
            self.refuse_if_unusable(writes=True)
            done = self.hand_to_writer(job)
        return await asyncio.wrap_future(done)

    def hand_to_writer(self, job: Callable[[], _T]) -> Future[_T]:
        """Let the writer's thread do a job, after those that it has.

        Raises:
            CheckpointStoreError: there is no such thread any more.
        """
        return self._submit(self._writer, job)

    def opened_to_write(self) -> StoreConnection:
        """The writer's connection, for its jobs only."""
        return self._writer.connection()

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
            raise CheckpointStoreError(f"The store {self.path} was closed; make a new one to go on.")
        if self._was_forked():
            raise CheckpointStoreError(
                f"The store {self.path} was in use when this process was forked off; make a new one in this process."
            )
        self._file.refuse_if_replaced()

    async def close(self) -> None:
        """Finish what was handed over and close both. May be called more than once."""
        with self.lock:
            self._closed = True
            if self._was_forked():
                return
            # One after the other: of two connections that close at once, neither is the last, which clears up the log.
            ended = self._writer.end(after=self._reader.end())
        await asyncio.wrap_future(ended)

    def _submit(self, worker: _Worker, job: Callable[[], _T]) -> Future[_T]:
        self._process = os.getpid()
        try:
            return worker.submit(job)
        except RuntimeError as error:
            raise CheckpointStoreError(f"The store {self.path} has no thread to work in: {error}.") from error

    def _was_forked(self) -> bool:
        return self._process not in (None, os.getpid())


def _nothing() -> None:
    """A job that is done once those before it are."""


class _Worker:
    """One thread with one connection, opened by the first job that needs it."""

    def __init__(self, connect: Callable[[], StoreConnection], name: str) -> None:
        self._connect = connect
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._connection: StoreConnection | None = None
        self._ended: Future[None] | None = None

    def submit(self, job: Callable[[], _T]) -> Future[_T]:
        return self._thread.submit(job)

    def connection(self) -> StoreConnection:
        """The connection, for jobs only."""
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def read(self, fetch: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `fetch` finds in one transaction, so that all of it is as of one moment; for jobs only."""
        for _ in range(_TRIES):
            opened = self.connection()
            try:
                if opened.is_of_one_moment():
                    with opened.transaction("DEFERRED") as connection:
                        found = fetch(connection)
                    if opened.is_of_one_moment():
                        return found
            except Moved:
                pass
            except Exception:
                if opened.is_of_one_moment():
                    raise
            opened.close()
            self._connection = None
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
            except RuntimeError:  # the interpreter is exiting, it has already waited for the thread to finish
                self._disconnect(self._ended, after)
            self._thread.shutdown(wait=False)
        return self._ended

    def _disconnect(self, ended: Future[None], after: Future[None] | None) -> None:
        try:
            if after is not None:
                after.result()
            if self._connection is not None:
                self._connection.close()
                self._connection = None
        finally:
            ended.set_result(None)
