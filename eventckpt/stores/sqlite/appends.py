"""Group commit: appends that wait at the same time are committed together, in one transaction with one flush.

That is where the throughput of parallel runs comes from. The writer is handed what one turn of the event loop has
brought, not the first of it: of runs that wake up together, it would commit one by itself, and then the two that came
meanwhile, while it and the loop wait for each other's turn with the interpreter. A whole transaction runs within one
job of the writer's thread, so no cancellation can fall into its middle.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from ...errors import CheckpointStoreError, StoreFormatError, StoreLockedError, StoreReplacedError
from ...events import CheckpointEvent
from .changes import append_one
from .connection import Connections

__all__ = ["Appends"]

_GROUP: Final = 512  # appends in one transaction: bounds how long other processes wait for the write lock


class _Waiting(NamedTuple):
    """An append that has not been committed, and who waits for it."""

    event: CheckpointEvent
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


class Appends:
    """The appends of one store object, of whichever tasks and threads."""

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
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._connections.lock:
            self._connections.refuse_if_unusable(writes=True)
            self._waiting.append(_Waiting(event, loop, done))
            if self._in_turn is not loop:
                loop.call_soon(self.hand_over)
                self._in_turn = loop
        try:
            await done
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
            _settle(group, self._append([waiting.event for waiting in group]))
            with suppress(CheckpointStoreError):  # the store is closing, and no job comes after this one
                # Behind the writer's other jobs, which get their turn.
                self._connections.hand_to_writer(self._append_waiting)
                return

    def _append(self, events: list[CheckpointEvent]) -> Sequence[Exception | None]:
        """What became of each event. What fails one of them does not fail the others."""
        try:
            with self._connections.changing() as log:
                return [append_one(log, event) for event in events]
        except CheckpointStoreError as error:
            # Each by itself would wait for the lock again, or find the same file, or run into the same trigger.
            if len(events) == 1 or isinstance(error, StoreLockedError | StoreReplacedError | StoreFormatError):
                return [error] * len(events)
        return [outcome for event in events for outcome in self._append([event])]

    def _take_waiting(self) -> list[_Waiting]:
        """The next group that is due; where there is none, the writer's job is over."""
        with self._connections.lock:
            group: list[_Waiting] = []
            while self._due and not group:
                group = self._take(min(self._due, _GROUP))
            self._appending = bool(group)
        return group

    def _take(self, count: int) -> list[_Waiting]:
        """So many appends that are due, without those whose callers wait no longer; to be called with the lock held."""
        self._due -= count
        taken = [self._waiting.popleft() for _ in range(count)]
        return [waiting for waiting in taken if not waiting.done.cancelled()]


def _settle(group: list[_Waiting], outcomes: Sequence[Exception | None]) -> None:
    """Tell each caller, waking each event loop once for the whole group."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[None], Exception | None]]] = {}
    for waiting, outcome in zip(group, outcomes, strict=True):
        by_loop.setdefault(waiting.loop, []).append((waiting.done, outcome))
    for loop, settled in by_loop.items():
        with suppress(RuntimeError):  # a loop that was closed has nobody left to tell
            loop.call_soon_threadsafe(_tell, settled)


def _tell(settled: list[tuple[asyncio.Future[None], Exception | None]]) -> None:
    for done, outcome in settled:
        if done.done():  # cancelled meanwhile
            continue
        if outcome is None:
            done.set_result(None)
        else:
            done.set_exception(outcome)
