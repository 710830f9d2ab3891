"""What the stores in `tests/golden` hold, and how the files of a version are made: `python -m tests.golden_files
VERSION`, run with that version, writes them. A file of a released version is never made anew.

Everything here is asked by names that 0.1.0 has, too.
"""

from __future__ import annotations

import asyncio
import gzip
import sys
from pathlib import Path

from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, SqliteCheckpointStorage
from tests import checkpoint_types as app
from tests.codec.values import VALUES

__all__ = ["FOLDER", "IN_STORES", "RECORDED", "STEPS", "step", "unpacked"]

FOLDER = Path(__file__).parent / "golden"

IN_STORES = (
    "dataclasses",
    "frozen_slotted_dataclasses",
    "inherited_dataclasses",
    "pydantic_models",
    "pydantic_models_with_extra_fields",
    "generic_pydantic_models",
    "enum_members",
    "str_enum_members",
    "flags",
    "named_tuples",
    "nested_classes",
)
"""Values of the stores, each in the run of its name: of every kind of class that has a shape."""

RECORDED = (
    *IN_STORES,
    "application_keys",
    "sets_of_objects",
    "frozen_dataclasses",
    "slotted_dataclasses",
    "dataclasses_in_dataclasses",
    "unvalidated_pydantic_models",
    "enum_members_by_name",
    "int_enum_members",
    "int_flags",
    "reducing_to_a_call",
    "types",
)
"""Values of the export since shapes are recorded: those that have some, of this package's own classes."""

STEPS = 6
"""Checkpoints of the run "steps", of which the third is deleted; the later ones are deltas."""


def step(number: int) -> WorkflowCheckpoint:
    """A checkpoint of the run "steps"."""
    return WorkflowCheckpoint(
        "workflow",
        "graph",
        checkpoint_id=f"step-{number}",
        previous_checkpoint_id=f"step-{number - 1}" if number else None,
        timestamp=f"2026-11-27T00:00:0{number}+00:00",
        iteration_count=number,
        state={"orders": [app.Place(n, y=app.Colour.RED, name=f"order {n * n}") for n in range(20 + number)]},
    )


def unpacked(file: Path, folder: Path) -> Path:
    """The store in a golden file, as a file of its own in a folder."""
    path = folder / file.name.removesuffix(".gz")
    path.write_bytes(gzip.decompress(file.read_bytes()))
    return path


async def _save_values(storage: SqliteCheckpointStorage, names: tuple[str, ...]) -> None:
    for name in names:
        make, run = VALUES[name], storage.for_run(name)
        alone = WorkflowCheckpoint("workflow", "graph", state={"value": make()})
        await run.save(alone)
        inside = [make(), (make(),), app.Holder(make())]
        previous = alone.checkpoint_id
        await run.save(
            WorkflowCheckpoint("workflow", "graph", previous_checkpoint_id=previous, state={"value": inside})
        )


async def _save_steps(storage: SqliteCheckpointStorage) -> None:
    run = storage.for_run("steps")
    for number in range(STEPS):
        await run.save(step(number))
    await storage.for_run("steps", workflow_name="workflow").delete("step-2")


async def _write(version: str, path: Path) -> None:
    async with SqliteCheckpointStorage(path / "store.db", allowed_checkpoint_types=app.ALLOWED) as storage:
        await _save_values(storage, IN_STORES)
        await _save_steps(storage)
    packed = gzip.compress((path / "store.db").read_bytes(), mtime=0)
    (FOLDER / f"{version}.db.gz").write_bytes(packed)
    if version.startswith("0.1.0"):  # whose export holds every value
        return
    async with SqliteCheckpointStorage(path / "values.db", allowed_checkpoint_types=app.ALLOWED) as storage:
        await _save_values(storage, RECORDED)
        lines = [line async for line in CheckpointAudit(storage.store).export()]
    (FOLDER / f"{version}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))


if __name__ == "__main__":
    import tempfile

    from tests.golden_sessions import write_sessions  # which 0.1.0 does not have

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_write(sys.argv[1], Path(folder)))
        asyncio.run(write_sessions(sys.argv[1], Path(folder)))
