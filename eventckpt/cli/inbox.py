"""The command that lists the questions which wait for an answer."""

from __future__ import annotations

from contextlib import aclosing
from datetime import timedelta
from typing import Annotated, Any, Final, Self

import msgspec
import typer

from ..audit.inbox import Question
from ..events import PendingRequest, StreamId
from .cursor import After, place_in, say_more, token_of
from .options import tags_in
from .output import Column, Listing
from .render import fields_of, status_style, tag_texts
from .session import Session, Workflow, command
from .times import TIME, moment

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
_NAME: Final = "eventckpt inbox"
_OF_RUNS: Final = "Only runs ask questions; sessions have turns."


class _Place(msgspec.Struct, frozen=True):
    """A question as it was when it was listed."""

    workflow_name: str
    run_id: str
    request_id: str
    asked_at: str
    waiting_since: str

    @classmethod
    def of(cls, question: Question) -> Self:
        stream, request_id = question.stream, question.request.request_id
        return cls(stream.workflow_name, stream.run_id, request_id, question.asked_at, question.waiting_since)

    def question(self) -> Question:
        """What the listing goes on behind: of the rest, nothing counts for that."""
        request = PendingRequest(request_id=self.request_id, source_executor_id="", request_type="")
        stream = StreamId(self.workflow_name, self.run_id)
        return Question(stream, request, "waiting", {}, 0, "", self.asked_at, self.waiting_since)


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
) -> None:
    """List the questions that wait for an answer, of any run: the run that waits longest first."""
    tags = tags_in([tag] if tag is not None else None)
    before = moment(older_than, "--older-than")
    audit = await session.audit()
    span = None if before is None else max(timedelta(), session.out.now() - before)
    place = place_in(after, _NAME, _Place)
    which: dict[str, Any] = {"workflow": workflow, "older_than": span, "type": request_type}
    which |= {"tag": next(iter(tags.items()), None), "after": None if place is None else place.question()}
    questions = audit.inbox(**which)
    listing, last = Listing(session.out, "question", _COLUMNS), ""
    async with aclosing(questions) as found:
        async for question in found:
            if limit and listing.count == limit:
                say_more(session.out, last)
                break
            last = token_of(_NAME, _Place.of(question))
            listing.add(_fields(question), _row(question))
    listing.flush()
    if not listing.count:
        more = " any more" if after is not None else ""
        session.out.nothing(
            f"No question waits for an answer{more}." if older_than is None else f"No question waits so long{more}."
        )


def _fields(question: Question) -> dict[str, Any]:
    fields = question._asdict() | {"request": fields_of(question.request)}
    return {**fields_of(fields.pop("stream")), **fields}


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
