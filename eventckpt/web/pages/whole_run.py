"""The pages that look at the whole of a run: the tree of its checkpoints, and whether it is what was written."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from ...audit.glance import glance_at
from ...audit.lineage import walk
from ...events import StreamId
from ...exit_codes import USAGE, Failure
from ...rendering.fields import node_fields, summary_fields, verdict_fields
from ...rendering.times import in_utc
from ...rendering.words import is_only_newer, not_gone_yet, removed_text
from ...text import cell, described
from ...threads import in_thread
from ..branches import drawing_of
from ..page import Line, Page, as_shown, command_of
from ..places import OF_NODE, weighed
from ..query import Query
from ..room import first_of
from ..viewer import Viewer
from .run import asked_run, is_linked, link_to

__all__ = ["lineage", "verify"]

_MOST: Final = 100_000  # events of a run whose lineage is drawn: all of their headers are in memory then
_ROWS: Final = 200
_PROBLEMS: Final = 100
_ROOM: Final = 500_000  # bytes of a page


async def lineage(viewer: Viewer, asked: Query) -> Page:
    """The tree of a run's checkpoints, and the runs that went off from it; `forks=no`: without those."""
    stream = await asked_run(viewer, asked)
    audit = viewer.audit
    found = await glance_at(audit.store, stream, events=1)
    info = found.info if found is not None else None
    await _weigh(stream, info.seq - info.removed if info is not None else 0)
    forks = _is_asked(asked, "forks", otherwise=True)
    roots = await audit.lineage(stream, forks=forks)
    origin = info.forked_from if info is not None else None
    gone = await audit.removed(StreamId(origin.workflow_name, origin.run_id)) if origin is not None else None
    closed = await audit.removed(stream) if not roots else None

    def lines() -> Iterator[Line]:
        yield from (("node", node_fields(*each)) for each in walk(roots))

    most = max(1, min(_ROWS, _ROOM // (len(link_to(stream)) + 2_000)))
    values = {
        "stream": stream,
        "drawing": await in_thread(partial(drawing_of, roots, stream, audit.kind, most=most)),
        "origin": origin,
        "is_origin_linked": is_linked(origin),
        "origin_gone": gone is not None and origin is not None and gone.seq > origin.seq,
        "notes": [] if closed is None else [removed_text(closed, "run", head_seq=closed.seq, time=in_utc)],
    }
    command = command_of("lineage", [stream.run_id], stream.workflow_name, *([] if forks else ["--no-forks"]))
    return Page("lineage.html", f"Lineage of {cell(stream.run_id)}", values, lines, command)


async def verify(viewer: Viewer, asked: Query) -> Page:
    """Whether a run is what was written; with `decode=yes` whether its states can be read, with `projection=yes`
    whether its latest document says the same."""
    stream = await asked_run(viewer, asked)
    decode, projection = (_is_asked(asked, name) for name in ("decode", "projection"))
    verdict = await viewer.audit.verify(stream, decode=decode, projection=projection)

    def lines() -> Iterator[Line]:
        yield "verdict", verdict_fields(verdict)
        yield "summary", summary_fields(1, verdict.events, int(not verdict.ok))

    link = link_to(stream)
    problems = first_of(verdict.problems[:_PROBLEMS], _ROOM, lambda each: [cell(each.detail), link])
    told = partial(removed_text, what="run", head_seq=verdict.head_seq, time=in_utc)
    values = {
        "stream": stream,
        "verdict": verdict,
        "is_only_newer": is_only_newer(verdict),
        "problems": problems,
        "more_problems": len(verdict.problems) - len(problems),
        "decode": decode,
        "projection": projection,
        "removed": told(verdict.removed) if verdict.removed is not None else "",
        "not_gone_yet": not_gone_yet(stream, verdict.not_gone_yet, "run"),
    }
    which = [*(["--decode"] if decode else []), *(["--projection"] if projection else [])]
    command = command_of("verify", [stream.run_id], stream.workflow_name, *which)
    return Page("verify.html", f"Verification of {cell(stream.run_id)}", values, lines, command)


async def _weigh(stream: StreamId, events: int) -> None:
    """Waits until there is room for the lineage of a run.

    Raises:
        Failure: there never is, or others take too much for too long.
    """
    if events > _MOST:
        said = f"Run {described(stream.run_id)} of workflow {described(stream.workflow_name)} has {events:,} events:"
        ask = as_shown(command_of("lineage", [stream.run_id], stream.workflow_name)[:-1])
        raise Failure(USAGE, f"{said} a lineage is drawn here of up to {_MOST:,}. Ask `{ask}`.")
    await weighed(OF_NODE * events)


def _is_asked(asked: Query, name: str, *, otherwise: bool = False) -> bool:
    value = asked.text(name)
    if value not in (None, "yes", "no"):
        raise Failure(USAGE, f"{name} takes yes or no, not {described(value)}.")
    return otherwise if value is None else value == "yes"
