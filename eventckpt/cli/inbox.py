"""The command that lists the questions which wait for an answer."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
import typer

from ..audit.inbox import Question
from ..moments import UNITS, moment_of
from .options import tags_in
from .output import Column, Listing
from .render import tag_texts, time_text
from .session import USAGE, Failure, Session, Workflow, command
from .times import TIME, moment

__all__ = ["commands", "inbox"]

commands: Final = typer.Typer()

_COLUMNS: Final = [Column("run"), Column("request"), Column("type"), Column("asked", right=True), Column("prompt")]
_WIDE_COLUMNS: Final = [
    *_COLUMNS,
    *map(Column, ("answer", "workflow", "executor", "status", "tags", "asked at", "checkpoint")),
]
_OF_RUNS: Final = "Only runs ask questions; sessions have turns."


@command(commands, "inbox", of_runs=_OF_RUNS)
async def inbox(
    session: Session,
    workflow: Workflow = None,
    older_than: Annotated[str | None, typer.Option(help=f"Only questions asked before {TIME}.")] = None,
    request_type: Annotated[
        str | None, typer.Option("--type", help="Only questions of this type, module:qualname.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Only of runs with this tag, name=value.")] = None,
    limit: Annotated[int, typer.Option(help="How many to list; 0 for all.", min=0)] = 50,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="wide: also what an answer must be, and of which run.")
    ] = None,
) -> None:
    """List the questions that wait for an answer, of any run: the run that waits longest first."""
    if output not in (None, "wide"):
        raise Failure(USAGE, f"--output is wide, not {output!r}.")
    tags = tags_in([tag] if tag is not None else None)
    before = moment(older_than, "--older-than")
    audit = await session.audit()
    span = None if before is None else max(timedelta(), datetime.now(UTC) - before)
    questions = audit.inbox(workflow=workflow, older_than=span, type=request_type, tag=next(iter(tags.items()), None))
    listing, now = Listing(session.out, "question", _WIDE_COLUMNS if output else _COLUMNS), datetime.now(UTC)
    async with aclosing(questions) as found:
        async for question in found:
            if limit and listing.count == limit:
                session.out.record("more", {})
                session.out.note("There are more: --limit 0 for all.")
                break
            listing.add(_fields(question), _row(question, now) + (_wide(question) if output else []))
    listing.flush()
    if not listing.count:
        session.out.note("No question waits for an answer." if older_than is None else "No question waits so long.")


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
    ]


def _wide(question: Question) -> list[str]:
    request = question.request
    return [
        request.response_type,
        question.stream.workflow_name,
        request.source_executor_id,
        question.status,
        ", ".join(tag_texts(question.tags)),
        time_text(question.asked_at),
        question.checkpoint_id,
    ]


def _age(asked_at: str, now: datetime) -> str:
    """How long ago that was, in the largest unit that it has two of."""
    asked = moment_of(asked_at)
    if asked is None:
        return "?"
    seconds = max(0, int((now - asked).total_seconds()))
    unit, size = next(((unit, size) for unit, size in UNITS.items() if seconds >= 2 * size), ("s", 1))
    return f"{seconds // size}{unit}"
