"""Checkpoints out of another storage into runs of this one.

Whoever asks brings the storage, and its own loader runs. What comes out is saved like any other checkpoint, so that the
lineage decides which run it belongs to.

The framework's own stores keep JSON with pickles in it, and a pickle is a program. The framework's loaders run it under
an allow-list that admits whatever its packages import, so a folder that somebody else can write to runs code of theirs.
In `Folder` and `Documents` the JSON is walked by a loop of our own, and each pickle is read under our own list
(`eventckpt.allowlist.unpickled`): nothing that is called is chosen by the bytes beyond the classes of records. That
narrows what a pickle can do; it does not make a source safe that is not trusted, which is why the commands ask.
"""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar, cast, runtime_checkable

from agent_framework import WorkflowCheckpoint, WorkflowCheckpointException

from ..allowlist import TypeGate, type_key, unpickled
from ..codec import MAX_DEPTH, MAX_RAW_SIZE
from ..errors import CheckpointDecodeError, CheckpointNotFoundError, CheckpointTypeNotAllowedError
from ..storage import EventCheckpointStorage
from ..stores import AuditStore
from ..text import described, safe
from ..threads import in_thread

__all__ = [
    "Adopted",
    "Documents",
    "Folder",
    "LeftOut",
    "Outline",
    "OutlineSource",
    "Query",
    "Source",
    "decoded",
    "import_checkpoints",
    "outline_of",
]

_PICKLE: Final = "__pickled__"
_TYPE: Final = "__type__"
_OF_COSMOS: Final = frozenset({"id", "_rid", "_self", "_etag", "_attachments", "_ts"})
"""Properties of a document that are none of the checkpoint's."""

Query: TypeAlias = Callable[[str, list[dict[str, object]]], AsyncIterable[dict[str, Any]]]
"""Runs a query with its parameters over the container of the old store."""


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


async def import_checkpoints(
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


# The framework's own stores


class Folder:
    """The checkpoints of a `FileCheckpointStorage`, for `CheckpointAudit.adopt`.

    Args:
        folder: where its files are.
        allowed_types: application types that checkpoints may hold, as `"module:qualname"`.
    """

    def __init__(self, folder: Path, allowed_types: Iterable[str] = ()) -> None:
        self._folder = folder
        self._gate = TypeGate(allowed_types, storage_name="eventckpt import-from")

    async def ids(self) -> list[str]:
        """The ids of the checkpoints that are there, decodable or not."""
        return await in_thread(lambda: sorted(path.stem for path in self._folder.glob("*.json")))

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint:
        """One of them.

        Raises:
            CheckpointDecodeError, CheckpointTypeNotAllowedError: it is damaged, or holds a type that is not allowed.
            CheckpointNotFoundError: it is not there.
        """
        return await in_thread(self._load, self._folder / f"{checkpoint_id}.json")

    async def outline(self, checkpoint_id: str) -> Outline:
        """Where one of them belongs; no pickle of it is read. Raises as `load` does."""
        return await in_thread(self._outline, self._folder / f"{checkpoint_id}.json")

    def _outline(self, path: Path) -> Outline:
        document = self._read(path)
        if not isinstance(document, dict):
            raise CheckpointDecodeError("The document is JSON, but not a checkpoint.")
        return outline_of(path.stem, cast("dict[str, Any]", document))

    def _load(self, path: Path) -> WorkflowCheckpoint:
        return decoded(self._read(path), self._gate)

    def _read(self, path: Path) -> object:
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):  # a pipe or a device, which reading might never end
                raise CheckpointDecodeError(f"{safe(path.name)} is not a regular file.")
            if found.st_size > MAX_RAW_SIZE:
                raise CheckpointDecodeError(f"{safe(path.name)} is larger than {MAX_RAW_SIZE:,} bytes.")
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise CheckpointNotFoundError(f"There is no {safe(path.name)}.") from error
        except (OSError, ValueError, RecursionError) as error:  # among them what is no JSON or no UTF-8
            raise CheckpointDecodeError(
                f"{safe(path.name)} is not valid JSON, or cannot be read: {safe(error)}"
            ) from error


class Documents:
    """The checkpoints in the container of upstream's Cosmos storage, for `CheckpointAudit.adopt`.

    Args:
        query: runs a query there.
        allowed_types: application types that checkpoints may hold, as `"module:qualname"`.
    """

    def __init__(self, query: Query, allowed_types: Iterable[str] = ()) -> None:
        self._query = query
        self._gate = TypeGate(allowed_types, storage_name="eventckpt import-from")

    async def outlines(self, workflow_name: str) -> AsyncGenerator[Outline, None]:
        """Where the checkpoints of a workflow belong, as the pages of the query come; no state is transferred."""
        text = "SELECT c.checkpoint_id, c.previous_checkpoint_id, c.timestamp FROM c WHERE c.workflow_name = @workflow"
        async for each in self._query(text, [{"name": "@workflow", "value": workflow_name}]):
            if isinstance(name := each.get("checkpoint_id"), str):
                yield outline_of(name, each)

    async def ids(self, workflow_name: str) -> list[str]:
        """The ids of a workflow's checkpoints."""
        return [outline.name async for outline in self.outlines(workflow_name)]

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint:
        """One of them; raises as `Folder.load` does."""
        text = "SELECT * FROM c WHERE c.checkpoint_id = @id"
        found = [each async for each in self._query(text, [{"name": "@id", "value": checkpoint_id}])]
        if not found:
            raise CheckpointNotFoundError(f"No checkpoint {checkpoint_id!r} is in the container.")
        if len(found) > 1:
            raise CheckpointDecodeError(f"Several workflows have a checkpoint {checkpoint_id!r}.")
        fields = {name: value for name, value in found[0].items() if name not in _OF_COSMOS}
        return await in_thread(decoded, fields, self._gate)


def outline_of(name: str, document: Mapping[str, Any]) -> Outline:
    """Where the checkpoint in a document belongs, as it claims: its fields may be of any type yet."""
    return Outline(
        name, document.get("checkpoint_id", name), document.get("previous_checkpoint_id"), document.get("timestamp", "")
    )


def decoded(document: object, gate: TypeGate) -> WorkflowCheckpoint:
    """The checkpoint in a document of the framework's stores.

    Raises:
        CheckpointDecodeError, CheckpointTypeNotAllowedError: it is damaged, or holds a type that is not admitted.
    """
    fields = _value(document, gate, 0)
    if not isinstance(fields, dict):
        raise CheckpointDecodeError("The document is JSON, but not a checkpoint.")
    return WorkflowCheckpoint.from_dict(cast("Mapping[str, Any]", fields))


def _value(node: Any, gate: TypeGate, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise CheckpointDecodeError(f"Stored values nest deeper than {MAX_DEPTH} levels.")
    if isinstance(node, dict):
        node = cast("dict[str, Any]", node)
        if _PICKLE in node and _TYPE in node:
            return _unpickled(node[_PICKLE], node[_TYPE], gate)
        for key, item in node.items():
            node[key] = _value(item, gate, depth + 1)
    elif isinstance(node, list):
        node = cast("list[Any]", node)
        for index, item in enumerate(node):
            node[index] = _value(item, gate, depth + 1)
    return node


def _unpickled(text: object, key: object, gate: TypeGate) -> Any:
    try:
        value: object = unpickled(base64.b64decode(str(text), validate=True), gate)
    except WorkflowCheckpointException:
        raise
    except Exception as error:  # whatever a damaged pickle, or a class that has changed, comes to
        raise CheckpointDecodeError(
            f"A stored {key!r} cannot be read: {safe(type(error).__name__)}: {safe(error)}"
        ) from error
    if type_key(type(value)) != key:
        raise CheckpointDecodeError(f"A stored {key!r} comes back as {type_key(type(value))!r}.")
    return value
