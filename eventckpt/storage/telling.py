"""The events that tell of removals: one for all runs of a workflow that wait to be told of at the same time.

Whoever comes while another is appending waits, and what came together meanwhile is one event. Each by itself, N
removals would take the same place from each other, N(N+1)/2 appends for N events. That is within a process, and by the
store object; removals of several processes try again behind each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

import msgspec

from ..errors import StoreCorruptError
from ..events import REMOVALS, CheckpointEvent, Removal, StreamId
from ..stores import AuditStore, head_of
from ..stores.walks import RUNS_AT_ONCE
from .compose import removal_of_runs_after
from .conflict import append_behind
from .memory import EMPTY, Head

__all__ = ["tell"]


async def tell(store: AuditStore, workflow_name: str, removal: Removal, actor: str | None) -> None:
    """Append an event that tells of these runs, and maybe of others that are told of by the same words.

    Args:
        store: the engine.
        workflow_name: that of the runs.
        removal: the runs, each with what closes it, and why they go.
        actor: who removes them.

    Raises:
        StoreCorruptError: the store takes no such event.
        CheckpointStoreError: the engine failed. Nothing was told, as far as it says.
    """
    desks = _DESKS.setdefault(store, {})
    key = (workflow_name, asyncio.get_running_loop())
    desk = desks.setdefault(key, _Desk(store, workflow_name))
    try:
        await desk.tell(_Waiting(removal, actor))
    finally:
        if not desk.waiting:
            desks.pop(key, None)


class _Waiting:
    """Runs that wait to be told of."""

    def __init__(self, removal: Removal, actor: str | None) -> None:
        self.runs = removal.runs
        self.words = msgspec.structs.replace(removal, runs=()), actor
        self.is_told = False
        self.failure: Exception | None = None


class _Desk:
    """Where removals of one workflow wait for each other."""

    def __init__(self, store: AuditStore, workflow_name: str) -> None:
        self.waiting: list[_Waiting] = []
        self._store = store
        self._workflow_name = workflow_name
        self._turn = asyncio.Lock()

    async def tell(self, mine: _Waiting) -> None:
        """Have this told: by whoever has the turn, or else by us, with the others that can be."""
        self.waiting.append(mine)
        try:
            async with self._turn:
                if not mine.is_told and mine.failure is None:
                    await self._tell(self._with(mine))
        finally:
            if mine in self.waiting:
                self.waiting.remove(mine)
        if mine.failure is not None:
            raise mine.failure

    def _with(self, mine: _Waiting) -> list[_Waiting]:
        """This one and those that its event has room for."""
        together, count = [mine], len(mine.runs)
        for other in self.waiting:
            if other is not mine and other.words == mine.words and count + len(other.runs) <= RUNS_AT_ONCE:
                together.append(other)
                count += len(other.runs)
        return together

    async def _tell(self, together: Sequence[_Waiting]) -> None:
        """Append one event for all of these. Where that fails it failed for each; where it is cancelled, the next one
        that waits does it, for a run may be told of twice."""
        (of_all, actor), runs = together[0].words, [run for each in together for run in each.runs]
        try:
            await self._append(msgspec.structs.replace(of_all, runs=tuple(runs)), actor)
        except Exception as error:
            for each in together:
                each.failure = error
        else:
            for each in together:
                each.is_told = True
        self.waiting = [each for each in self.waiting if each not in together]

    async def _append(self, removal: Removal, actor: str | None) -> None:
        name = self._workflow_name

        async def after(head: Head) -> CheckpointEvent:
            return removal_of_runs_after(name, head, removal, actor)

        last = await head_of(self._store, StreamId(name, REMOVALS))
        if await append_behind(self._store, EMPTY if last is None else Head.of(last), after) is None:
            raise StoreCorruptError(
                f"The removal of {len(removal.runs)} runs of workflow {name!r} was not recorded: the store takes no "
                "event into the stream of its removals, and gives none of it. Nothing was removed; see `eventckpt "
                "doctor`."
            )


_Key: TypeAlias = tuple[str, asyncio.AbstractEventLoop]
_DESKS: Final[WeakKeyDictionary[AuditStore, dict[_Key, _Desk]]] = WeakKeyDictionary()
