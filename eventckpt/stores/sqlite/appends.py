"""Group commit: appends, and removals of events, that wait at the same time are committed together, in one transaction
with one flush.

That is where the throughput of parallel runs comes from. The writer is handed what one turn of the event loop has
brought, not the first of it: of runs that wake up together, it would commit one by itself, and then the two that came
meanwhile, while it and the loop wait for each other's turn with the interpreter. A whole transaction runs within one
job of the writer's thread, so no cancellation can fall into its middle.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from ...errors import CheckpointStoreError, StoreFormatError, StoreLockedError, StoreReplacedError
from ...events import CheckpointEvent, StreamId
from .changes import append_one, remove
from .connection import Connections
from .tables import Log

__all__ = ["Appends"]

_GROUP: Final = 512  # rows changed in one transaction: bounds how long other processes wait for the write lock

_Change: TypeAlias = Callable[[Log], object]
"""What is done in a transaction. What it gives, or raises, is what its caller gets; an exception that it gives is
raised there, and does not end the transaction."""


class _Waiting(NamedTuple):
    """A change that has not been committed, and who waits for it."""

    change: _Change
    rows: int
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]


class Appends:
    """The appends, and removals, of one store object, of whichever tasks and threads."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        # All of these are under the lock of the connections.
        self._waiting: deque[_Waiting] = deque()
        self._due = 0
        """How many of those that wait the writer may take: not those of a turn that goes on."""
        self._appending = False
        """Whether a job of the writer is there to take what is due."""
        self._in_turn: asyncio.AbstractEventLoop | None = None
        """The event loop that is to call `hand_over` after its turn. One that was closed in it never does."""

    async def append(self, event: CheckpointEvent) -> None:
        """See `EventStore.append`."""
        await self._committed(partial(append_one, event=event), 1)

    async def remove(self, stream: StreamId, seqs: Sequence[int]) -> int:
        """See `AuditStore.remove`."""
        return await self._committed(partial(remove, stream=stream, seqs=seqs), len(seqs))

    async def _committed(self, change: _Change, rows: int) -> Any:
        """What a change gives that changes so many rows, once it is committed."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        with self._connections.lock:
            self._connections.refuse_if_unusable(writes=True)
            self._waiting.append(_Waiting(change, rows, loop, done))
            if self._in_turn is not loop:
                loop.call_soon(self.hand_over)
                self._in_turn = loop
        try:
            return await done
        except asyncio.CancelledError:
            self._connections.owe()
            raise

    def hand_over(self) -> None:
        """Let the writer have all that waits."""
        with self._connections.lock:
            self._in_turn = None
            self._due = len(self._waiting)
            if not self._due or self._appending:
                return
            try:
                self._connections.hand_to_writer(self._append_waiting)
                self._appending = True
            except CheckpointStoreError as error:  # it was closed in this turn
                group = self._take(self._due)
                _settle(group, [error] * len(group))

    # In the writer thread

    def _append_waiting(self) -> None:
        while group := self._take_waiting():
            _settle(group, self._change([waiting.change for waiting in group]))
            with suppress(CheckpointStoreError):  # the store is closing, and no job comes after this one
                # Behind the writer's other jobs, which get their turn.
                self._connections.hand_to_writer(self._append_waiting)
                return

    def _change(self, changes: list[_Change]) -> Sequence[object]:
        """What became of each change. What fails one of them does not fail the others."""
        try:
            with self._connections.changing() as log:
                return [change(log) for change in changes]
        except CheckpointStoreError as error:
            # Each by itself would wait for the lock again, or find the same file, or run into the same trigger.
            if len(changes) == 1 or isinstance(error, StoreLockedError | StoreReplacedError | StoreFormatError):
                return [error] * len(changes)
        return [outcome for change in changes for outcome in self._change([change])]

    def _take_waiting(self) -> list[_Waiting]:
        """The next group that is due; where there is none, the writer's job is over."""
        with self._connections.lock:
            group: list[_Waiting] = []
            while self._due and not group:
                group = self._take(self._fitting())
            self._appending = bool(group)
        return group

    def _fitting(self) -> int:
        """How many of the changes that are due fit into a transaction; at least one."""
        rows = 0
        for count in range(self._due):
            rows += self._waiting[count].rows
            if rows > _GROUP:
                return max(1, count)
        return self._due

    def _take(self, count: int) -> list[_Waiting]:
        """So many changes that are due, without those whose callers wait no longer; to be called with the lock held."""
        self._due -= count
        taken = [self._waiting.popleft() for _ in range(count)]
        return [waiting for waiting in taken if not waiting.done.cancelled()]


def _settle(group: list[_Waiting], outcomes: Sequence[object]) -> None:
    """Tell each caller, waking each event loop once for the whole group."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], object]]] = {}
    for waiting, outcome in zip(group, outcomes, strict=True):
        by_loop.setdefault(waiting.loop, []).append((waiting.done, outcome))
    for loop, settled in by_loop.items():
        with suppress(RuntimeError):  # a loop that was closed has nobody left to tell
            loop.call_soon_threadsafe(_tell, settled)


def _tell(settled: list[tuple[asyncio.Future[Any], object]]) -> None:
    for done, outcome in settled:
        if done.done():  # cancelled meanwhile
            continue
        if isinstance(outcome, Exception):
            done.set_exception(outcome)
        else:
            done.set_result(outcome)
