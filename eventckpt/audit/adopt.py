"""Checkpoints out of another storage into runs of this one.

Whoever asks brings the storage, and its own loader runs: for the framework's stores, which keep pickles, that may mean
code of whoever could write to them. `eventckpt.audit.import_storage` has sources that read those stores under our own
list. What comes out is saved like any other checkpoint, so that the lineage decides which run it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from agent_framework import WorkflowCheckpoint

from ..errors import CheckpointDecodeError, CheckpointTypeNotAllowedError
from ..storage import EventCheckpointStorage
from ..stores import AuditStore
from ..text import described, safe

__all__ = ["Adopted", "LeftOut", "Source", "adopt"]


class Source(Protocol):
    """What is needed of another storage."""

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint: ...


class LeftOut(NamedTuple):
    """A checkpoint that could not be taken over."""

    checkpoint_id: str
    why: str
    type_key: str = ""
    """The type that was not allowed, where that is why."""


class Adopted(NamedTuple):
    """What became of an import from another store."""

    found: int
    saved: int
    runs: tuple[str, ...]
    """The runs that the checkpoints are in now."""
    left_out: tuple[LeftOut, ...]


async def adopt(
    store: AuditStore,
    source: Source,
    checkpoint_ids: Sequence[str],
    *,
    allowed_types: Sequence[str],
    actor: str | None = None,
) -> Adopted:
    """Take these checkpoints over. Doing so again changes nothing."""
    checkpoints: dict[str, WorkflowCheckpoint] = {}
    left_out: list[LeftOut] = []
    for checkpoint_id in checkpoint_ids:
        try:
            checkpoint = _with_texts(await source.load(checkpoint_id))
        except Exception as error:
            left_out.append(_left_out(checkpoint_id, error))
            continue
        if checkpoints.setdefault(checkpoint.checkpoint_id, checkpoint) is not checkpoint:
            why = f"another checkpoint before it has the same id, {checkpoint.checkpoint_id!r}"
            left_out.append(LeftOut(checkpoint_id, why))
    target = EventCheckpointStorage(store, allowed_checkpoint_types=list(allowed_types), actor=actor)
    runs: dict[str, None] = {}
    saved = 0
    for checkpoint in _parents_first(checkpoints.values()):
        try:
            await target.save(checkpoint)
        except Exception as error:
            left_out.append(_left_out(checkpoint.checkpoint_id, error))
            continue
        saved += 1
        located = await store.find_in(checkpoint.workflow_name, checkpoint.checkpoint_id)
        if located is not None:
            runs[located.event.run_id] = None
    return Adopted(len(checkpoint_ids), saved, tuple(runs), tuple(left_out))


def _with_texts(checkpoint: WorkflowCheckpoint) -> WorkflowCheckpoint:
    """A checkpoint whose names and times are what they should be: those of another store may be anything."""
    for name in ("checkpoint_id", "workflow_name", "timestamp", "previous_checkpoint_id"):
        value: object = getattr(checkpoint, name)
        if type(value) is not str and not (value is None and name == "previous_checkpoint_id"):
            raise CheckpointDecodeError(f"its {name} is {described(value)}, which is no text")
    return checkpoint


def _parents_first(checkpoints: Iterable[WorkflowCheckpoint]) -> list[WorkflowCheckpoint]:
    """By time, but nothing before what it follows: clocks may disagree, lineages do not."""
    waiting = {checkpoint.checkpoint_id: checkpoint for checkpoint in sorted(checkpoints, key=_time)}
    ordered: list[WorkflowCheckpoint] = []
    while waiting:
        name: str | None = next(iter(waiting))
        chain: dict[str, None] = {}
        while name is not None and name in waiting and name not in chain:
            chain[name] = None
            name = waiting[name].previous_checkpoint_id
        ordered += [waiting.pop(name) for name in reversed(chain)]
    return ordered


def _time(checkpoint: WorkflowCheckpoint) -> str:
    return checkpoint.timestamp


def _left_out(checkpoint_id: str, error: Exception) -> LeftOut:
    refused = error.type_key if isinstance(error, CheckpointTypeNotAllowedError) else ""
    return LeftOut(checkpoint_id, _why(error), refused)


def _why(error: BaseException) -> str:
    """The reason at the bottom of an error, which names the type that was refused."""
    said = [safe(error)]
    while (error := error.__cause__ or error.__context__) is not None:  # pyright: ignore[reportAssignmentType] - ends at None
        said.append(safe(error))
    return said[0] if len(said) == 1 else f"{said[0]} ({said[-1]})"
