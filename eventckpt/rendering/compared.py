"""Which two checkpoints are compared, by the names that people give, and what is said of the comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ..audit import CheckpointAudit
from ..audit.diff import Difference, Kind
from ..audit.resolve import checkpoint_before, seq_of
from ..errors import AmbiguousNameError, CheckpointNotFoundError, RunNotFoundError
from ..events import CheckpointEvent, StreamId
from ..exit_codes import USAGE, Failure
from .fields import difference_fields, event_fields

__all__ = ["KINDS", "compared_lines", "compared_name", "counts_of", "stretch", "two_events"]

KINDS: Final[tuple[Kind, ...]] = ("added", "removed", "changed")


async def two_events(
    audit: CheckpointAudit, names: Sequence[str], seq: str | None, workflow: str | None, option: str = "--seq"
) -> tuple[CheckpointEvent, CheckpointEvent]:
    """The two whole events that are meant: one behind the one that it follows, or the last one of a run; two, each a
    checkpoint or the last one of a run; or two of one run.

    Args:
        audit: of the store.
        names: one or two names of checkpoints, or of runs.
        seq: the two of one run, as FIRST..LAST.
        workflow: the runs' workflow, where it is given.
        option: what `seq` was given as.

    Raises:
        Failure: as many names are not compared, or `seq` is not of its form.
        CheckpointNotFoundError, RunNotFoundError, AmbiguousNameError: a name means none, or several.
    """
    if seq is None:
        if len(names) == 1:
            return await _last_two(audit, names[0], workflow)
        if len(names) != 2:
            raise Failure(USAGE, "diff takes one or two checkpoints or runs, or one run with --seq FIRST..LAST.")
        first, last = names
        return await _one_of(audit, first, workflow), await _one_of(audit, last, workflow)
    stream, before, after = await stretch(audit, names, seq, workflow, option)
    return await audit.at(stream, seq=before), await audit.at(stream, seq=after)


async def stretch(
    audit: CheckpointAudit, names: Sequence[str], seq: str, workflow: str | None, option: str = "--seq"
) -> tuple[StreamId, int, int]:
    """The run, and the two seqs, of FIRST..LAST, given as `option`.

    Raises:
        Failure: it is not of that form, or there is not one name.
        RunNotFoundError, AmbiguousNameError: the name means no run, or several.
    """
    ends = seq.split("..")
    if len(names) != 1 or len(ends) != 2 or not all(end.isdecimal() for end in ends):
        raise Failure(USAGE, f"{option} takes FIRST..LAST, such as 3..7, with one run.", about=option)
    before, after = map(seq_of, ends)
    return await audit.run(names[0], workflow_name=workflow), before, after


def compared_lines(
    before: CheckpointEvent, after: CheckpointEvent, found: Sequence[Difference]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A comparison as JSON lines: each difference, and what was compared."""
    for difference in found:
        yield "difference", difference_fields(difference)
    yield "summary", {"before": event_fields(before), "after": event_fields(after), **counts_of(found)}


def counts_of(found: Sequence[Difference]) -> dict[Kind, int]:
    """How many differences there are of each kind."""
    return {kind: sum(difference.kind == kind for difference in found) for kind in KINDS}


def compared_name(event: CheckpointEvent) -> str:
    """What one of the two is called."""
    stream = "run" if event.type == "checkpoint" else "session"
    return f"seq {event.seq} of {stream} {event.run_id} ({event.checkpoint_id})"


async def _last_two(audit: CheckpointAudit, name: str, workflow: str | None) -> tuple[CheckpointEvent, CheckpointEvent]:
    """A checkpoint, or the last one of a run, behind the one that it follows."""
    try:
        after = await audit.at(await audit.run(name, workflow_name=workflow))
    except RunNotFoundError as no_run:
        try:
            after = await audit.event(name, workflow_name=workflow)
        except CheckpointNotFoundError as none:
            is_one = "@" in name or await audit.store.find(name) is not None  # and was removed with its run
            raise (none if is_one else no_run) from None
    return await checkpoint_before(audit.store, after, kind=audit.kind), after


async def _one_of(audit: CheckpointAudit, name: str, workflow: str | None) -> CheckpointEvent:
    """A checkpoint, or the last one of a run. A whole name wins over the beginning of another."""
    run = await _run(audit, name, workflow)
    if run is not None and run.run_id == name and await audit.store.find(name) is None:
        return await audit.at(run)
    try:
        return await audit.event(name, workflow_name=workflow)
    except CheckpointNotFoundError:
        if run is None:
            raise
        return await audit.at(run)


async def _run(audit: CheckpointAudit, name: str, workflow: str | None) -> StreamId | None:
    try:
        return await audit.run(name, workflow_name=workflow)
    except (RunNotFoundError, AmbiguousNameError):
        return None
