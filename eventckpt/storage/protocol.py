"""The framework's `CheckpointStorage` protocol, over one run or over all: what every storage of this package is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Self, TypeAlias

from agent_framework import WorkflowCheckpoint

from ..closing import close_after
from ..errors import ClaimLostError
from ..log import logger_of
from ..stores import EventStore
from ..text import is_name, safe
from . import telemetry, tracing
from .claiming import Claims
from .load import Reader
from .memory import Bound, Memory
from .save import Writer

__all__ = ["Checkpoints", "Core", "OnSaveError"]

logger: Final = logger_of("eventckpt")

OnSaveError: TypeAlias = Callable[[WorkflowCheckpoint, Exception], None]


class Core(NamedTuple):
    """What a storage and its bound handles share."""

    store: EventStore
    memory: Memory
    writer: Writer
    reader: Reader
    claims: Claims
    on_save_error: OnSaveError | None


class Checkpoints:
    """The `CheckpointStorage` protocol over one run, or, where `_bound` is None, over all runs."""

    workflow_name: str | None = None
    _bound: Bound | None = None
    _core: Core

    async def save(self, checkpoint: WorkflowCheckpoint) -> str:
        """Append `checkpoint` to its run and return its id. When this returns, it is durable.

        Saving a checkpoint again with the same content changes nothing; with other content it supersedes.

        Raises:
            CheckpointTypeNotAllowedError, CheckpointEncodeError: see `CheckpointCodec.encode`; also where the
                checkpoint could be stored but not loaded again, and where its id is to name its run and is too long
                for that (255 characters).
            CheckpointConflictError: another writer has continued the run, or has the claim on it, and `on_conflict` is
                "raise".
            ClaimLostError: the claim that is held through this handle was lost.
            CheckpointStoreError: the engine failed; nothing half-written is left.
            TypeError: it is no `WorkflowCheckpoint`.
        """
        if not isinstance(checkpoint, WorkflowCheckpoint):  # pyright: ignore[reportUnnecessaryIsInstance] - what an application passes
            raise TypeError(f"save takes a WorkflowCheckpoint, not a {safe(type(checkpoint).__name__)}.")
        checkpoint_id, workflow_name = checkpoint.checkpoint_id, checkpoint.workflow_name
        started = time.perf_counter()
        outcome = "failed"
        try:
            with tracing.span("save", workflow_name, self._run_id, checkpoint_id) as span:
                saved = await self._core.writer.save(checkpoint, self._bound, traceparent=span.traceparent)
                span.saved(*saved)
            outcome = saved.outcome
        except Exception as error:
            if self._bound is not None:
                self._bound.refused = error
            self._report(checkpoint, error)
            if isinstance(error, ClaimLostError):
                # The body of the claim is being cancelled. Here it is to end, if this is its task: a graph workflow
                # goes on after an error of a save, and would begin another step.
                await asyncio.sleep(0)
            raise
        finally:
            telemetry.saves.add(1, {"outcome": outcome})
            telemetry.save_duration.record(time.perf_counter() - started, {"outcome": outcome})
        if self._bound is not None:
            self._bound.refused = None
        self._learn(workflow_name)
        return checkpoint_id

    def check(self, checkpoint: WorkflowCheckpoint) -> None:
        """Whether a checkpoint could be saved, as far as what it holds goes. Nothing is written.

        Raises:
            CheckpointTypeNotAllowedError, CheckpointEncodeError: see `CheckpointCodec.encode`.
        """
        self._core.writer.check(checkpoint)

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint:
        """The checkpoint with this id.

        Raises:
            CheckpointNotFoundError: no live checkpoint has this id.
            CheckpointTypeNotAllowedError, CheckpointDecodeError: see `CheckpointCodec.decode`.
            CheckpointStoreError: the engine failed.
        """
        return (await self.load_with_hash(checkpoint_id))[0]

    async def load_with_hash(self, checkpoint_id: str) -> tuple[WorkflowCheckpoint, str]:
        """What `load` gives and does, and the SHA-256, in hexadecimal, of the bytes that the checkpoint was encoded to.

        As long as nobody saves the checkpoint with other content, the hash is the same in every process. Foundry's host
        asks for it: of a storage that has none it hashes what it encodes anew, which differs where a state holds a set.
        """
        with tracing.span("load", self.workflow_name, self._run_id, checkpoint_id) as span:
            loaded = await self._core.reader.load(checkpoint_id, self._bound, self.workflow_name)
            span.loaded(loaded.event)
        return loaded.checkpoint, loaded.raw_sha256

    async def list_checkpoints(self, *, workflow_name: str) -> list[WorkflowCheckpoint]:
        """The live checkpoints, in the order of their commits; undecodable ones are left out, with a warning."""
        return await self._core.reader.checkpoints(self._learn(workflow_name), self._run_id)

    async def list_checkpoint_ids(self, *, workflow_name: str) -> list[str]:
        """The ids of the live checkpoints, in the order of their commits. Decodes nothing."""
        return await self._core.reader.live_ids(self._learn(workflow_name), self._run_id)

    async def get_latest(self, *, workflow_name: str) -> WorkflowCheckpoint | None:
        """The live checkpoint that was committed last; None if there is none.

        Raises:
            CheckpointTypeNotAllowedError, CheckpointDecodeError: the latest cannot be decoded. An older one is
                never given in its place.
            CheckpointStoreError: the engine failed.
        """
        with tracing.span("load", self._learn(workflow_name), self._run_id) as span:
            loaded = await self._core.reader.latest(workflow_name, self._bound)
            span.loaded(loaded.event if loaded is not None else None)
        return loaded.checkpoint if loaded is not None else None

    async def delete(self, checkpoint_id: str) -> bool:
        """Hide the checkpoint from load, lists and latest; True if there was one. The log keeps its event."""
        located = await self._core.reader.locate(checkpoint_id, self._bound, self.workflow_name)
        return await self._core.writer.delete(located, self._bound)

    async def close(self) -> None:
        """Let go of what this storage opened; what was passed in stays open. May be called more than once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await close_after(error, self.close)

    def _learn(self, workflow_name: str) -> str:
        if self._bound is not None and self.workflow_name is None and is_name(workflow_name):
            self.workflow_name = workflow_name
        return workflow_name

    @property
    def _run_id(self) -> str | None:
        return self._bound.run_id if self._bound is not None else None

    def _report(self, checkpoint: WorkflowCheckpoint, error: Exception) -> None:
        logger.error(
            "Checkpoint %s (iteration %s) of workflow %r, %s, was not saved: %s",
            checkpoint.checkpoint_id,
            checkpoint.iteration_count,
            checkpoint.workflow_name,
            "run by lineage" if self._run_id is None else f"run {self._run_id!r}",
            error,
        )
        if self._core.on_save_error is None:
            return
        try:
            self._core.on_save_error(checkpoint, error)
        except Exception:
            logger.exception("on_save_error failed; the error it was told of is raised all the same")
