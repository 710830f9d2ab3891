"""The pages of one run: what it amounts to and what happened in it, and its events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from ...audit.glance import Glance, glance_at
from ...audit.part_of_run import PartOfRun
from ...audit.removed import Removed
from ...errors import RunNotFoundError
from ...events import CheckpointEvent, ForkPoint, PendingRequest, StreamId
from ...exit_codes import USAGE, Failure
from ...removals import Removals
from ...rendering.about_run import (
    lines_of_last,
    lines_of_run,
    said_of_run,
    standing_of_run,
    waits_for,
)
from ...rendering.cursor import history_place, token_after
from ...rendering.event_row import EventRow
from ...rendering.fields import event_fields
from ...rendering.times import ago, in_utc, took
from ...rendering.words import not_gone_yet, removed_text, status_of_run
from ...runs import ENDED
from ...stores.walks import removals_of
from ...text import cell
from ..page import Line, Page, command_of
from ..picture import picture_of
from ..query import Query
from ..room import first_of
from ..templates import address
from ..timeline import Column, Gap, Timeline
from ..viewer import Viewer

__all__ = ["asked_run", "history", "is_linked", "link_to", "run"]

_LAST: Final = 5  # events that `eventckpt info` says
_ROWS: Final = 100
_COLUMNS: Final = 100
_MOST: Final = 1_000  # events of a part that is asked for
_OF_ROWS, _OF_TIMELINE, _OF_QUESTIONS, _OF_FORKS = 300_000, 200_000, 150_000, 50_000  # bytes of a page
_COMMAND: Final = 1_000  # characters of a command that is to be copied
_GAPS: Final = 50


class Row(NamedTuple):
    """An event, or a gap, as the table has it."""

    seq: int
    at: str
    """When it was recorded, in UTC."""
    cells: EventRow
    follows: str
    """The checkpoint that it goes on from, where that is not the one in the row before."""
    mark: str
    """What is to be known of it beside."""
    gap: Gap | None
    """What is not there, between the row before and this one."""


async def asked_run(viewer: Viewer, asked: Query) -> StreamId:
    """The run that a page is asked for.

    Raises:
        RunNotFoundError, AmbiguousNameError, Failure: there is none of that name, or several, or no name.
    """
    return await viewer.audit.run(asked.needed("run"), workflow_name=asked.text("workflow"))


async def run(viewer: Viewer, asked: Query) -> Page:
    """A run: how it stands, what it waits for, what happened in it, its last events."""
    stream = await asked_run(viewer, asked)
    of = partial(address, run=stream.run_id, workflow=stream.workflow_name)
    most = max(2, min(_COLUMNS, _OF_TIMELINE // len(of("/run/history", after=token_after(stream, 1)))))
    timeline, last = Timeline(most), list[CheckpointEvent]()

    def seen(header: CheckpointEvent) -> None:
        timeline.add(header)
        last.append(header)
        if len(last) >= 2 * _ROWS:
            del last[: -_ROWS - 1]

    found = await glance_at(viewer.audit.store, stream, events=_LAST, seen=seen)
    if found is None:
        raise RunNotFoundError(f"Run {stream.run_id!r} of workflow {stream.workflow_name!r} was removed meanwhile.")
    gone = await viewer.audit.removed(stream) if found.info.removed else None
    timeline.mark_gaps()
    timeline.mark_forks(fork.origin.seq for fork in found.forks)

    gaps = [*timeline.gaps()]

    def lines() -> Iterator[Line]:
        yield from lines_of_run(found)
        yield from lines_of_last(gone, found.last)

    rows = _rows(last, timeline.removals, 0 if len(last) <= _ROWS else last[-_ROWS - 1].seq, newest=True)
    values = {
        **_about(viewer, found, gone),
        "took": took(timeline.columns[0].recorded_at, timeline.columns[-1].ended_at) if timeline.columns else "",
        "stream": stream,
        "picture": picture_of(timeline, partial(_link, stream, most)),
        "gaps": gaps[:_GAPS],
        "more_gaps": len(gaps) - _GAPS,
        "rows": rows,
        "is_all": len(rows) == len(last),
        "token": partial(token_after, stream),
        "live": asked.text("live"),
    }
    command = command_of("info", [stream.run_id], stream.workflow_name)
    return Page("run.html", f"Run {cell(stream.run_id)}", values, lines, command)


async def history(viewer: Viewer, asked: Query) -> Page:
    """The events of a run, a part at a time, as `eventckpt history` lists them."""
    stream = await asked_run(viewer, asked)
    place = history_place(asked.text("after"), stream, "after")
    newest = asked.number("last", 0, most=_MOST)
    if newest and (place is not None or asked.text("limit") is not None):
        raise Failure(USAGE, "Give last, or limit and after: the one begins at the end, the others lead to it.")
    limit = asked.number("limit", newest or _ROWS, most=_MOST)
    gt = 0 if place is None else place.seq
    part = PartOfRun(viewer.audit.store, stream, newest=newest, gt=gt, limit=limit)
    events = await part.read()
    gone = await viewer.audit.removed(stream) if part.is_closed else None
    has_gap = any(
        behind.seq > before + 1 for before, behind in zip([gt, *(e.seq for e in events)], events, strict=False)
    )
    removals = await removals_of(viewer.audit.store, stream) if has_gap else Removals(events)

    def lines() -> Iterator[Line]:
        yield from (("event", event_fields(event)) for event in events)
        if part.has_more:
            yield "more", {"after": token_after(stream, part.last_seq)}

    rows = _rows(events, removals, events[0].seq - 1 if newest and events else gt)
    shown = rows[-1].seq if rows else 0
    left = sum(event.seq > shown for event in events)
    values = {
        "stream": stream,
        "rows": rows,
        "more": token_after(stream, shown) if part.has_more or left else None,
        "left": left,
        "is_first": place is None and not newest,
        "notes": _notes(stream, gone, part.not_gone_yet, part.last_seq, viewer.now()),
        "limit": limit,
    }
    which = [*asked.options("after"), f"--last={newest}" if newest else f"--limit={limit}"]
    command = command_of("history", [stream.run_id], stream.workflow_name, *which)
    return Page("history.html", f"Events of {cell(stream.run_id)}", values, lines, command)


def _about(viewer: Viewer, found: Glance, gone: Removed | None) -> dict[str, Any]:
    """What the head of the page of a run says."""
    info, now = found.info, viewer.now()
    pending = waits_for(info)
    asked = [_question(viewer, found, request) for request in pending[:_ROWS]]
    shown = first_of(asked, _OF_QUESTIONS, partial(_texts_of_question, link_to(info.stream)))
    forks = first_of(found.forks[:_ROWS], _OF_FORKS, lambda fork: [cell(fork.stream.run_id), link_to(fork.stream)])
    return {
        "info": info,
        "status": status_of_run(info),
        "standing": standing_of_run(info),
        "facts": [*said_of_run(found, partial(_time, now))],
        "questions": shown,
        "more_questions": len(pending) - len(shown),
        "forks": forks,
        "more_forks": len(found.forks) - len(forks),
        "origin": info.forked_from if is_linked(info.forked_from) else None,
        "notes": _notes(info.stream, gone, 0, info.seq, now),
        "has_ended": info.is_emptied or status_of_run(info) in ENDED,
    }


def _question(viewer: Viewer, found: Glance, asked: PendingRequest) -> dict[str, Any]:
    command = viewer.how_to_answer(found.info.stream, asked)
    texts = (asked.request_id, asked.source_executor_id, asked.prompt or asked.request_type, asked.response_type)
    return {
        "texts": texts,
        "request": asked,
        "since": found.info.asked_at(asked),
        "command": command if len(command) <= _COMMAND else "",
        "is_linked": len(asked.request_id) <= _COMMAND,
        "request_link": quote(asked.request_id[:_COMMAND]),
    }


def is_linked(origin: ForkPoint | None) -> bool:
    """Whether a fork's origin has a name that an address can have."""
    return origin is not None and len(origin.run_id) + len(origin.workflow_name) <= _COMMAND


def _notes(stream: StreamId, gone: Removed | None, left: int, head_seq: int, now: datetime) -> list[str]:
    """What is to be known of a run of which something was removed."""
    if gone is not None:
        return [removed_text(gone, "run", head_seq=head_seq, time=partial(_time, now))]
    return [not_gone_yet(stream, left, "run")] if left else []


def _rows(events: Sequence[CheckpointEvent], removals: Removals, before: int, *, newest: bool = False) -> list[Row]:
    """The rows of some events that follow each other, as many as there is room for.

    Args:
        events: their headers; those behind `before` are shown.
        removals: what the run records as removed.
        before: the seq behind which they come.
        newest: whether the last ones are kept where there is no room for all; else the first.
    """
    rows: list[Row] = []
    previous = ""
    for event in events:
        if event.seq <= before:
            previous = event.checkpoint_id or previous
            continue
        at = rows[-1].seq if rows else before
        gap = Gap(at + 1, event.seq - 1, removals.covers(at + 1, event.seq - 1)) if event.seq > at + 1 else None
        parent = event.previous_checkpoint_id or ""
        mark = "not readable" if not event.recorded_at else "recorded as removed" if removals.covers(event.seq) else ""
        cells = EventRow(*map(cell, EventRow.of(event)))
        rows.append(
            Row(
                event.seq, cell(in_utc(event.recorded_at)), cells, cell(parent) if parent != previous else "", mark, gap
            )
        )
        previous = event.checkpoint_id or previous
    link = link_to(events[0].stream) if events else ""
    shown = first_of(rows[::-1] if newest else rows, _OF_ROWS, lambda row: [*row.cells, row.follows, link])
    return shown[::-1] if newest else shown


def _texts_of_question(link: str, each: Mapping[str, Any]) -> list[str]:
    return [*map(cell, each["texts"]), each["command"], link, each["request_link"]]


def link_to(stream: StreamId) -> str:
    """An address that names a run, and little else."""
    return address("/run/history", run=stream.run_id, workflow=stream.workflow_name)


def _link(stream: StreamId, most: int, column: Column) -> tuple[str, dict[str, object]] | None:
    """Where a column leads: to its event, or to the listing of those that it stands for."""
    if most * len(link_to(stream)) > _OF_TIMELINE:
        return None
    name = {"run": stream.run_id, "workflow": stream.workflow_name}
    if column.events == 1:
        return "/event", {**name, "seq": column.first}
    after = token_after(stream, column.first - 1)
    return "/run/history", {**name, "after": after, "limit": min(column.events, _ROWS)}


def _time(now: datetime, text: str) -> str:
    return f"{in_utc(text)} ({ago(text, now)})"
