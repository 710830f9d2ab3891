"""The command that lists the questions which wait for an answer."""

from __future__ import annotations

import re
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
import typer

from ..audit.inbox import Question
from ..moments import moment_of
from .options import tags_in
from .output import Column, Listing
from .render import status_style, tag_texts
from .session import USAGE, Failure, Session, Workflow, command

__all__ = ["commands", "inbox"]

commands: Final = typer.Typer()

_COLUMNS: Final = [
    Column("run", holds="id"),
    Column("request", holds="id", rank=3),
    Column("type", holds="text", rank=2),
    Column("asked", right=True),
    Column("prompt", holds="text", rank=1),
    Column("answer", wide=True),
    Column("workflow", wide=True),
    Column("executor", wide=True),
    Column("status", wide=True, style=status_style),
    Column("tags", wide=True),
    Column("asked at", holds="time", wide=True),
    Column("checkpoint", wide=True),
]
_UNITS: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_LONGEST: Final = timedelta.max // timedelta(seconds=1)
_OF_RUNS: Final = "Only runs ask questions; sessions have turns."


@command(commands, "inbox", of_runs=_OF_RUNS)
async def inbox(
    session: Session,
    workflow: Workflow = None,
    older_than: Annotated[
        str | None, typer.Option(help="Only questions that wait for longer than this: 30m, 12h, 7d, 2w.")
    ] = None,
    request_type: Annotated[
        str | None, typer.Option("--type", help="Only questions of this type, module:qualname.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Only of runs with this tag, name=value.")] = None,
    limit: Annotated[int, typer.Option(help="How many to list; 0 for all.", min=0)] = 50,
) -> None:
    """List the questions that wait for an answer, of any run: the run that waits longest first."""
    tags = tags_in([tag] if tag is not None else None)
    span = _span(older_than)
    audit = await session.audit()
    questions = audit.inbox(workflow=workflow, older_than=span, type=request_type, tag=next(iter(tags.items()), None))
    listing, now = Listing(session.out, "question", _COLUMNS), session.out.now()
    async with aclosing(questions) as found:
        async for question in found:
            if limit and listing.count == limit:
                session.out.record("more", {})
                session.out.note("There are more: --limit 0 for all.")
                break
            listing.add(_fields(question), _row(question, now))
    listing.flush()
    if not listing.count:
        session.out.nothing("No question waits for an answer." if older_than is None else "No question waits so long.")


def _span(text: str | None) -> timedelta | None:
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9})([wdhms])", text)
    if found is None:
        raise Failure(USAGE, f"--older-than takes a span such as 30m, 12h, 7d or 2w, not {text!r}.")
    return timedelta(seconds=min(int(found[1]) * _UNITS[found[2]], _LONGEST))


def _fields(question: Question) -> dict[str, Any]:
    fields = question._asdict()
    return {**msgspec.structs.asdict(fields.pop("stream")), **fields}


def _row(question: Question, now: datetime) -> list[str]:
    request = question.request
    return [
        question.stream.run_id,
        request.request_id,
        request.request_type,
        _age(question.asked_at, now),
        request.prompt or "",
        request.response_type,
        question.stream.workflow_name,
        request.source_executor_id,
        question.status,
        ", ".join(tag_texts(question.tags)),
        question.asked_at,
        question.checkpoint_id,
    ]


def _age(asked_at: str, now: datetime) -> str:
    """How long ago that was, in the largest unit that it has two of."""
    moment = moment_of(asked_at)
    if moment is None:
        return "?"
    seconds = max(0, int((now - moment).total_seconds()))
    unit, size = next(((unit, size) for unit, size in _UNITS.items() if seconds >= 2 * size), ("s", 1))
    return f"{seconds // size}{unit}"
