"""The command that lists the questions which wait for an answer."""

from __future__ import annotations

from contextlib import aclosing
from datetime import timedelta
from typing import Annotated, Any, Final

import typer

from ..audit.inbox import Question
from ..rendering.cursor import INBOX, QuestionPlace, place_in, token_of
from ..rendering.fields import question_fields
from ..rendering.filters import tags_in
from ..rendering.times import TIME, moment
from ..rendering.words import tag_texts
from .cursor import After, say_more
from .output import Column, Listing
from .render import status_style
from .session import Session, Workflow, command
from .sessions import Looked, latest_of, say_late

__all__ = ["commands", "inbox"]

commands: Final = typer.Typer()

_COLUMNS: Final = [
    Column("run", holds="id"),
    Column("request", holds="id", rank=3),
    Column("type", holds="text", rank=2),
    Column("asked", holds="time"),
    Column("prompt", holds="text", rank=1),
    Column("answer", wide=True),
    Column("workflow", wide=True),
    Column("executor", wide=True),
    Column("status", wide=True, style=status_style),
    Column("tags", wide=True),
    Column("checkpoint", wide=True),
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
    after: After = None,
    latest: Looked = "auto",
) -> None:
    """List the questions that wait for an answer, of any run: the run that waits longest first."""
    tags = tags_in([tag] if tag is not None else None)
    before = moment(older_than, "--older-than")
    audit = await session.audit(latest=latest_of(latest))
    span = None if before is None else max(timedelta(), session.out.now() - before)
    place = place_in(after, INBOX, QuestionPlace)
    which: dict[str, Any] = {"workflow": workflow, "older_than": span, "type": request_type}
    which |= {"tag": next(iter(tags.items()), None), "after": None if place is None else place.question()}
    questions = audit.inbox(**which, latest=audit.latest)
    listing, last = Listing(session.out, "question", _COLUMNS), ""
    async with aclosing(questions) as found:
        async for question in found:
            if limit and listing.count == limit:
                say_more(session.out, last)
                break
            last = token_of(INBOX, QuestionPlace.of(question))
            listing.add(question_fields(question), _row(question))
    listing.flush()
    say_late(session.out, audit)
    if not listing.count:
        more = " any more" if after is not None else ""
        session.out.nothing(
            f"No question waits for an answer{more}." if older_than is None else f"No question waits so long{more}."
        )


def _row(question: Question) -> list[str]:
    request = question.request
    return [
        question.stream.run_id,
        request.request_id,
        request.request_type,
        question.asked_at,
        request.prompt or "",
        request.response_type,
        question.stream.workflow_name,
        request.source_executor_id,
        question.status,
        ", ".join(tag_texts(question.tags)),
        question.checkpoint_id,
    ]
