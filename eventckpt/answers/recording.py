"""An answer is on record before it is acted on, or it is not acted on.

A graph workflow saves the responses in flight before it delivers them, and goes on where that save fails: it would act
on an answer that nobody hears of, and the run would still ask. So a first save that fails ends the run of the workflow.
"""

from __future__ import annotations

import asyncio

from agent_framework import WorkflowCheckpoint

from ..storage import RunCheckpointStorage

__all__ = ["OnRecord"]


class OnRecord:
    """A `CheckpointStorage` whose first save has to succeed; around the run of a workflow that saves in the task that
    runs it: `async with OnRecord(handle) as storage:`. At the end it raises what the save raised.

    Args:
        handle: where it saves to.
    """

    def __init__(self, handle: RunCheckpointStorage) -> None:
        self._handle = handle
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._is_on_record = False
        self._failure: Exception | None = None

    async def __aenter__(self) -> OnRecord:
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._failure is None or self._task is None:
            return
        if self._task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError):
            raise self._failure

    async def save(self, checkpoint: WorkflowCheckpoint) -> str:
        """See `RunCheckpointStorage.save`."""
        try:
            checkpoint_id = await self._handle.save(checkpoint)
        except Exception as error:
            if not self._is_on_record and self._failure is None and self._task is not None:
                self._failure = error
                self._task.cancel()
                await asyncio.sleep(0)  # here it ends: what is raised below, the workflow would go on after
            raise
        self._is_on_record = True
        return checkpoint_id

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint:
        """See `RunCheckpointStorage.load`."""
        return await self._handle.load(checkpoint_id)

    async def get_latest(self, *, workflow_name: str) -> WorkflowCheckpoint | None:
        """See `RunCheckpointStorage.get_latest`."""
        return await self._handle.get_latest(workflow_name=workflow_name)

    async def list_checkpoints(self, *, workflow_name: str) -> list[WorkflowCheckpoint]:
        """See `RunCheckpointStorage.list_checkpoints`."""
        return await self._handle.list_checkpoints(workflow_name=workflow_name)

    async def list_checkpoint_ids(self, *, workflow_name: str) -> list[str]:
        """See `RunCheckpointStorage.list_checkpoint_ids`."""
        return await self._handle.list_checkpoint_ids(workflow_name=workflow_name)

    async def delete(self, checkpoint_id: str) -> bool:
        """See `RunCheckpointStorage.delete`."""
        return await self._handle.delete(checkpoint_id)
