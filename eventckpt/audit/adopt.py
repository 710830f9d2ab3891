"""Checkpoints out of another storage into runs of this one.

Whoever asks brings the storage, and its own loader runs: for the framework's stores, which keep pickles, that may mean
code of whoever could write to them. `eventckpt.audit.import_storage` has sources that read those stores under our own
list. What comes out is saved like any other checkpoint, so that the lineage decides which run it belongs to.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import aclosing
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from agent_framework import WorkflowCheckpoint

from ..errors import CheckpointDecodeError, CheckpointTypeNotAllowedError
from ..storage import EventCheckpointStorage
from ..stores import AuditStore
from ..text import described, safe

__all__ = ["Adopted", "LeftOut", "Outline", "OutlineSource", "Source", "adopt"]


class Outline(NamedTuple):
    """What is needed of a checkpoint before it is loaded: where in its lineage it belongs."""

    name: str
    """What the source loads it by."""
    checkpoint_id: str
    previous_checkpoint_id: str | None
    timestamp: str


class Source(Protocol):
    """What is needed of another storage. Each checkpoint is loaded twice, unless it is an `OutlineSource`."""

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint: ...


@runtime_checkable
class OutlineSource(Protocol):
    """A source that can tell where a checkpoint belongs without loading it."""

    async def outline(self, checkpoint_id: str) -> Outline: ...


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
    checkpoint_ids: Iterable[str | Outline] | AsyncIterable[str | Outline],
    *,
    allowed_types: Sequence[str],
    actor: str | None = None,
) -> Adopted:
    """Take these checkpoints over. Doing so again changes nothing.

    They are looked at twice: for the order, in which none comes before the one that it follows, and then one by one. So
    one is held at a time, and of the others a few texts.

    Args:
        store: where to.
        source: where from.
        checkpoint_ids: which, or their outlines, where those are known.
        allowed_types: application types that they may hold.
        actor: kept on what is written.
    """
    left_out: list[LeftOut] = []
    outlines, found = await _outlines(source, checkpoint_ids, left_out)
    target = EventCheckpointStorage(store, allowed_checkpoint_types=list(allowed_types), actor=actor)
    runs: dict[str, None] = {}
    saved = 0
    for outline in _parents_first(outlines):
        try:
            checkpoint = _with_texts(await source.load(outline.name))
            _check_unchanged(outline, checkpoint)
            await target.save(checkpoint)
        except Exception as error:
            left_out.append(_left_out(outline.name, error))
            continue
        saved += 1
        located = await store.find_in(checkpoint.workflow_name, checkpoint.checkpoint_id)
        if located is not None:
            runs[located.event.run_id] = None
    return Adopted(found, saved, tuple(runs), tuple(left_out))


async def _outlines(
    source: Source, wanted: Iterable[str | Outline] | AsyncIterable[str | Outline], left_out: list[LeftOut]
) -> tuple[list[Outline], int]:
    """Where the checkpoints belong, each id once; and how many were asked for."""
    outlines: dict[str, Outline] = {}
    found = 0
    async with aclosing(_each(wanted)) as each:
        async for one in each:
            found += 1
            try:
                outline = _with_texts(one if isinstance(one, Outline) else await _outline(source, one))
            except Exception as error:
                left_out.append(_left_out(one.name if isinstance(one, Outline) else one, error))
                continue
            if outlines.setdefault(outline.checkpoint_id, outline) is not outline:
                why = f"another checkpoint before it has the same id, {outline.checkpoint_id!r}"
                left_out.append(LeftOut(outline.name, why))
    return list(outlines.values()), found


async def _each(wanted: Iterable[str | Outline] | AsyncIterable[str | Outline]) -> AsyncGenerator[str | Outline, None]:
    if isinstance(wanted, AsyncIterable):
        async for one in wanted:
            yield one
    else:
        for one in wanted:
            yield one


async def _outline(source: Source, name: str) -> Outline:
    if isinstance(source, OutlineSource):
        return await source.outline(name)
    checkpoint = _with_texts(await source.load(name))
    return Outline(name, checkpoint.checkpoint_id, checkpoint.previous_checkpoint_id, checkpoint.timestamp)


_Named = TypeVar("_Named", WorkflowCheckpoint, Outline)


def _with_texts(one: _Named) -> _Named:
    """A checkpoint whose names and times are what they should be: those of another store may be anything."""
    for name in ("checkpoint_id", "workflow_name", "timestamp", "previous_checkpoint_id"):
        value: object = getattr(one, name, "")
        if type(value) is not str and not (value is None and name == "previous_checkpoint_id"):
            raise CheckpointDecodeError(f"its {name} is {described(value)}, which is no text")
    return one


def _check_unchanged(outline: Outline, checkpoint: WorkflowCheckpoint) -> None:
    if (checkpoint.checkpoint_id, checkpoint.previous_checkpoint_id) != outline[1:3]:
        raise CheckpointDecodeError("it was changed while it was read; import it again")


def _parents_first(outlines: Iterable[Outline]) -> list[Outline]:
    """By time, but nothing before what it follows: clocks may disagree, lineages do not."""
    waiting = {outline.checkpoint_id: outline for outline in sorted(outlines, key=lambda outline: outline.timestamp)}
    ordered: list[Outline] = []
    while waiting:
        name: str | None = next(iter(waiting))
        chain: dict[str, None] = {}
        while name is not None and name in waiting and name not in chain:
            chain[name] = None
            name = waiting[name].previous_checkpoint_id
        ordered += [waiting.pop(name) for name in reversed(chain)]
    return ordered


def _left_out(checkpoint_id: str, error: Exception) -> LeftOut:
    refused = error.type_key if isinstance(error, CheckpointTypeNotAllowedError) else ""
    return LeftOut(checkpoint_id, _why(error), refused)


def _why(error: BaseException) -> str:
    """The reason at the bottom of an error, which names the type that was refused."""
    said = [safe(error)]
    while (error := error.__cause__ or error.__context__) is not None:  # pyright: ignore[reportAssignmentType] - ends at None
        said.append(safe(error))
    return said[0] if len(said) == 1 else f"{said[0]} ({said[-1]})"
