"""An answer is on record before it is acted on, or it is not acted on.

A graph workflow saves the responses in flight before it delivers them, and goes on where that save fails: it would act
on an answer that nobody hears of, and the run would still ask. So a first save that fails ends the run of the workflow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from agent_framework import WorkflowCheckpoint

from ..errors import AnswerMissingError
from ..storage import RunCheckpointStorage
from ..text import described

__all__ = ["OnRecord", "Reached"]


class _Through:
    """A `CheckpointStorage` that passes on to a handle what a workflow asks of it."""

    def __init__(self, handle: RunCheckpointStorage) -> None:
        self._handle = handle

    async def save(self, checkpoint: WorkflowCheckpoint) -> str:
        """See `RunCheckpointStorage.save`."""
        return await self._handle.save(checkpoint)

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


class OnRecord(_Through):
    """A `CheckpointStorage` whose first save has to succeed; around the run of a workflow that saves in the task that
    runs it: `async with OnRecord(handle) as storage:`. At the end it raises what the save raised.

    Args:
        handle: where it saves to.
    """

    def __init__(self, handle: RunCheckpointStorage) -> None:
        super().__init__(handle)
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
            checkpoint_id = await super().save(checkpoint)
        except Exception as error:
            if not self._is_on_record and self._failure is None and self._task is not None:
                self._failure = error
                self._task.cancel()
                await asyncio.sleep(0)  # here it ends: what is raised below, the workflow would go on after
            raise
        self._is_on_record = True
        return checkpoint_id


class Reached(_Through):
    """A `CheckpointStorage` that records answers only where they reached the function of a functional workflow.

    The function runs again from its start, and stops at the first question that it has no answer to. Where that is one
    of before, it never came to the new answers: then its save is refused, and the run stays as it was.

    Args:
        handle: where it saves to.
        answers: the ids of all requests whose responses the function was given.
        waits_for: the ids of those that the run waited for.
        answered_before: tells the ids of those that were answered on the way to there.
    """

    def __init__(
        self,
        handle: RunCheckpointStorage,
        answers: Collection[str],
        waits_for: Collection[str],
        answered_before: Callable[[], Awaitable[Collection[str]]],
    ) -> None:
        super().__init__(handle)
        self._answers = answers
        self._waits_for = waits_for
        self._answered_before = answered_before
        self._is_on_record = False

    async def save(self, checkpoint: WorkflowCheckpoint) -> str:
        """See `RunCheckpointStorage.save`.

        Raises:
            AnswerMissingError: the function asks again what was answered before.
        """
        asks = [each for each in checkpoint.pending_request_info_events if each not in self._waits_for]
        if asks:
            before = await self._answered_before()
            if again := tuple(each for each in asks if each in before):
                raise AnswerMissingError(
                    f"Run {self._handle.run_id!r} of workflow {checkpoint.workflow_name!r} asks again for "
                    f"{', '.join(map(described, again))}, which was answered before, and did not come to the new "
                    "answer: give the earlier answers, too. Nothing was recorded.",
                    request_ids=again,
                )
        if not self._is_on_record:
            self._handle.answers(*self._answers)
            self._is_on_record = True
        return await super().save(checkpoint)
