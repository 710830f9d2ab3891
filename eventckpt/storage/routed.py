"""One storage for all the runs of a host: where each call goes is asked when it is made.

A host's endpoint takes one storage and serves many threads by it, each request a resume or a start of its own. So a
call that begins an execution gets a handle of its own, and the task that made it goes on with that, as do the tasks
that it starts. Where no task tells, a new handle is as good: the storage knows where the checkpoint before it lies.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from agent_framework import WorkflowCheckpoint

from .. import settings
from ..text import described

if TYPE_CHECKING:
    from .checkpoint_storage import RunCheckpointStorage

__all__ = ["Resolver", "RoutedCheckpointStorage"]

Resolver: TypeAlias = Callable[[], str | Awaitable[str | None] | None]
"""Gives the id of the run that a call is about."""


class _Bind(Protocol):
    def __call__(self, run_id: str, *, looks: bool) -> RunCheckpointStorage: ...


class _Here(NamedTuple):
    """What a task goes on with."""

    storage: RoutedCheckpointStorage
    handle: RunCheckpointStorage


_here: Final[ContextVar[_Here | None]] = ContextVar("eventckpt_routed", default=None)


class RoutedCheckpointStorage:
    """A `CheckpointStorage` each call of which goes to the run that a function names. Made by `for_each`.

    Each call does what it does through a confined handle of that run: it finds no checkpoint of another run, whoever
    asks for it. A checkpoint that follows none goes behind what is in the run by then.

    Every call raises ValueError where the function names no run, and what it raises itself.
    """

    def __init__(
        self, bind: _Bind, resolver: Resolver, report: Callable[[WorkflowCheckpoint, Exception], None]
    ) -> None:
        self._bind = bind
        self._resolver = resolver
        self._report = report

    async def save(self, checkpoint: WorkflowCheckpoint) -> str:
        """See `EventCheckpointStorage.save`."""
        try:
            handle = await self._handle(starts=getattr(checkpoint, "previous_checkpoint_id", None) is None)
        except Exception as error:
            if isinstance(checkpoint, WorkflowCheckpoint):  # pyright: ignore[reportUnnecessaryIsInstance] - what an application passes
                self._report(checkpoint, error)  # workflows swallow what a save raises
            raise
        return await handle.save(checkpoint)

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint:
        """See `EventCheckpointStorage.load`; a checkpoint of another run is not found."""
        return await (await self._handle(reads=True)).load(checkpoint_id)

    async def load_with_hash(self, checkpoint_id: str) -> tuple[WorkflowCheckpoint, str]:
        """See `EventCheckpointStorage.load_with_hash`; a checkpoint of another run is not found."""
        return await (await self._handle(reads=True)).load_with_hash(checkpoint_id)

    async def get_latest(self, *, workflow_name: str) -> WorkflowCheckpoint | None:
        """See `EventCheckpointStorage.get_latest`."""
        return await (await self._handle(reads=True)).get_latest(workflow_name=workflow_name)

    async def list_checkpoints(self, *, workflow_name: str) -> list[WorkflowCheckpoint]:
        """See `EventCheckpointStorage.list_checkpoints`."""
        return await (await self._handle()).list_checkpoints(workflow_name=workflow_name)

    async def list_checkpoint_ids(self, *, workflow_name: str) -> list[str]:
        """See `EventCheckpointStorage.list_checkpoint_ids`."""
        return await (await self._handle()).list_checkpoint_ids(workflow_name=workflow_name)

    async def delete(self, checkpoint_id: str) -> bool:
        """See `EventCheckpointStorage.delete`; a checkpoint of another run is not found."""
        return await (await self._handle()).delete(checkpoint_id)

    async def delete_run(self, *, workflow_name: str, force: bool = False) -> bool:
        """See `EventCheckpointStorage.delete_run`."""
        handle = await self._handle(reads=True)  # which knows of the removal, if its task goes on
        handle.workflow_name = settings.text("workflow_name", workflow_name)
        return await handle.delete_run(force=force)

    async def _handle(self, *, starts: bool = False, reads: bool = False) -> RunCheckpointStorage:
        """The handle that this task goes on with; a new one where an execution begins, by a start or a read."""
        run_id = await self._run_id()
        here = _here.get()
        if here is not None and here.storage is self and here.handle.run_id == run_id and not (starts or reads):
            return here.handle
        handle = self._bind(run_id, looks=starts)
        _here.set(_Here(self, handle))
        return handle

    async def _run_id(self) -> str:
        given = self._resolver()
        run_id = await given if inspect.isawaitable(given) else given
        if run_id is None or run_id == "":
            raise ValueError(
                f"Which run this call is about is not known: the function given to for_each gave {described(run_id)}. "
                "Have each request say it, before its workflow runs; nothing was read or written."
            )
        return run_id
