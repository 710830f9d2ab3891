"""The page of a comparison: what differs between two checkpoints, by path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from ...audit import CheckpointAudit
from ...audit.diff import Difference
from ...audit.resolve import checkpoint_before
from ...codec.tree import Tree
from ...errors import CheckpointNotFoundError
from ...events import MAX_SEQ, CheckpointEvent, StreamId
from ...rendering.compared import compared_lines, compared_name, counts_of, two_events
from ...rendering.trees import leaf_text
from ...text import cell, safe, shortened
from ...threads import in_thread
from ..page import Line, Page, command_of
from ..places import weighed
from ..query import COMPARED, Query
from ..trees import Node, outlined
from ..viewer import Viewer

__all__ = ["compare"]

_SHOWN: Final = 100  # differences on a page
_ROOM: Final = 2_500  # bytes of HTML that what was added or removed may take, each
_TEXT: Final = 500  # characters of a value: the name of a type may be very long


class _Shown(NamedTuple):
    """A difference as a page shows it."""

    kind: str
    path: str
    before: str
    """Of what changed."""
    after: str
    tree: Node | None
    """Of what was added or removed."""


async def compare(viewer: Viewer, asked: Query) -> Page:
    """What differs between two checkpoints or runs, `before` and `after`; between one and the one that it follows,
    given as either or by its run and seq; or between two events of a run, by their seqs as FIRST..LAST."""
    named = [name for name in (asked.text("before"), asked.text("after")) if name is not None]
    workflow, form = asked.text("workflow"), {name: asked.text(name) for name in COMPARED}
    if not named and asked.text("run") is None:
        return Page("compare.html", "Compare", {"form": form, "pair": None})
    before, after = await _two(viewer.audit, asked, named, workflow)
    await weighed(before, after)
    found = await viewer.audit.diff(before, after)

    def lines() -> Iterator[Line]:
        return compared_lines(before, after, found)

    pair = [(each, compared_name(each)) for each in (before, after)]
    form |= {} if named else {"before": _name(before), "after": _name(after)}
    values = {
        "form": form,
        "pair": pair,
        "counts": counts_of(found),
        "found": await in_thread(partial(_shown, found)),
        "left": max(0, len(found) - _SHOWN),
    }
    workflow_name = after.workflow_name if before.workflow_name == after.workflow_name else None
    command = command_of("diff", [*map(_name, (before, after))], workflow_name)
    return Page("compare.html", "Compare", values, lines, command)


async def _two(
    audit: CheckpointAudit, asked: Query, named: Sequence[str], workflow: str | None
) -> tuple[CheckpointEvent, CheckpointEvent]:
    run, seq = asked.text("run"), asked.text("seq")
    if named or run is None or workflow is None or seq is None or ".." in seq:
        return await two_events(audit, named or [asked.needed("run")], seq, workflow, "seq")
    stream, number = StreamId(workflow, run), asked.number("seq", 0, most=MAX_SEQ)
    events = await audit.store.read(stream, number)
    if not events:
        raise CheckpointNotFoundError(f"Run {run!r} of workflow {workflow!r} has no event at seq {number}.")
    return await checkpoint_before(audit.store, events[0], kind=audit.kind), events[0]


def _name(event: CheckpointEvent) -> str:
    return f"{event.run_id}@{event.seq}"


def _shown(found: Sequence[Difference]) -> list[_Shown]:
    return [_one(each) for each in found[:_SHOWN]]


def _one(difference: Difference) -> _Shown:
    kind, path, before, after = difference
    if kind == "changed":
        return _Shown(kind, cell(path), _text(difference.before), _text(difference.after), None)
    part = outlined(after if kind == "added" else before, path=None, room=_ROOM)
    return _Shown(kind, cell(path), "", "", Node("", "", None, count=1, parts=[part]))


def _text(tree: Tree) -> str:
    return shortened(safe(leaf_text(tree)), _TEXT)
