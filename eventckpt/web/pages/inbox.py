"""The pages of questions: those that wait, one of them with what became of it, and the answering of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from datetime import timedelta
from itertools import chain, islice
from typing import Any, Final, cast

from ...answers.programs import json_in
from ...answers.requests import Became, became_of
from ...audit.inbox import Question
from ...codec.tree import Tree, children
from ...errors import CheckpointDecodeError, CheckpointNotFoundError, RunNotFoundError
from ...events import CheckpointEvent, PendingRequest, RunInfo, StreamId
from ...exit_codes import NO_SUCH_NAME, USAGE, Failure, exit_code
from ...rendering.about_run import how_to_answer, standing_of_run
from ...rendering.cursor import INBOX, QuestionPlace, token_of
from ...rendering.fields import question_fields
from ...rendering.filters import tags_in
from ...rendering.trees import tree_lines
from ...rendering.words import tag_texts
from ...threads import in_thread
from ..page import Line, Page, SeeOther, Sent
from ..problems import STATUS
from ..query import Query
from ..templates import address
from ..viewer import Viewer

__all__ = ["answered", "inbox", "question"]

_PAGE: Final = 50
_FILTERS: Final = ("workflow", "older-than", "type", "tag")
_LINES: Final = 200  # of what is asked, and of an answer
_DEEPEST: Final = 64  # of JSON
_KINDS: Final = {"builtins:bool": "bool", "builtins:str": "text", "builtins:int": "number", "builtins:float": "number"}
"""How an answer of a type is given; of any other type, as JSON."""


async def inbox(viewer: Viewer, asked: Query) -> Page:
    """The questions that wait for an answer, the run that waits longest first."""
    given = {name: asked.text(name) for name in _FILTERS}
    tags = tags_in([given["tag"]] if given["tag"] else None, "tag")
    before = asked.moment("older-than")
    span = None if before is None else max(timedelta(), viewer.now() - before)
    limit, place = asked.number("limit", _PAGE, most=_PAGE), asked.place(INBOX, QuestionPlace)
    which: dict[str, Any] = {"workflow": given["workflow"], "older_than": span, "type": given["type"]}
    which |= {"tag": next(iter(tags.items()), None), "after": None if place is None else place.question()}
    found: list[Question] = []
    more: str | None = None
    async with aclosing(viewer.audit.inbox(**which)) as questions:
        async for each in questions:
            if len(found) == limit:
                more = token_of(INBOX, QuestionPlace.of(found[-1]))
                break
            found.append(each)

    def lines() -> Iterator[Line]:
        yield from (("question", question_fields(each)) for each in found)
        if more is not None:
            yield "more", {"after": more}

    shown = {"after": asked.text("after"), "limit": asked.text("limit"), "live": asked.text("live")}
    rows = [(each, ", ".join(tag_texts(each.tags))) for each in found]
    is_filtered = any(value is not None for value in given.values())
    values = {"rows": rows, "more": more, "given": given, "is_filtered": is_filtered, **shown}
    return Page("inbox.html", "Inbox", values, lines)


async def question(viewer: Viewer, asked: Query) -> Page:
    """One question: what is asked, and how to answer it; or what became of it."""
    stream = await viewer.audit.run(asked.needed("run"), workflow_name=asked.text("workflow"))
    return await _question(viewer, asked, stream, asked.needed("request"))


async def answered(viewer: Viewer, sent: Sent) -> Page | SeeOther:
    """Give an answer. What goes wrong is said on the page of the question, with what was typed."""
    stream = StreamId(sent.asked.needed("workflow"), sent.asked.needed("run"))
    request_id, typed = sent.asked.needed("request"), sent.fields.get("response", "")
    answering, session = viewer.answering, sent.asked.session
    if answering is None or session is None:
        raise Failure(USAGE, "Nobody answers here who has not signed in. Nothing was done.")
    try:
        response = _response(typed, is_text=sent.fields.get("as") == "text")
        await answering.give(stream, request_id, response, session=session)
    except Exception as error:
        if (code := exit_code(error)) is None:
            raise
        return await _question(
            viewer, sent.asked, stream, request_id, problem=str(error), typed=typed, status=STATUS[code]
        )
    return SeeOther(_address(stream, request_id))


def _address(stream: StreamId, request_id: str) -> str:
    return address("/inbox/question", run=stream.run_id, workflow=stream.workflow_name, request=request_id)


def _response(typed: str, *, is_text: bool) -> object:
    """What somebody typed, as a value of JSON.

    Raises:
        Failure: it is none, or nests deep.
    """
    if is_text:
        return typed.replace("\r\n", "\n")  # as browsers send every end of a line
    value: object = json_in(typed, "The answer")
    level = [value]
    for _ in range(_DEEPEST):
        level = list(chain.from_iterable(map(_parts, level)))
        if not level:
            return value
    raise Failure(USAGE, f"The answer nests more than {_DEEPEST} deep. Nothing was done.")


def _parts(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast("dict[str, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else []


async def _question(
    viewer: Viewer,
    asked: Query,
    stream: StreamId,
    request_id: str,
    *,
    problem: str | None = None,
    typed: str = "",
    status: int = 200,
) -> Page:
    info = await viewer.audit.info(stream)
    if info is None:
        raise RunNotFoundError(f"Workflow {stream.workflow_name!r} has no run {stream.run_id!r}.")
    attempt = viewer.answering.attempt(stream, request_id) if viewer.answering is not None else None
    values: dict[str, Any] = {"stream": stream, "request_id": request_id, "info": info, "typed": typed}
    values |= {"standing": standing_of_run(info), "back": _address(stream, request_id), "problem": problem}
    values |= {"going_on": attempt.actor if attempt is not None and attempt.is_going_on else None}
    if problem is None and attempt is not None and asked.session is not None:
        values["problem"] = attempt.problem
    values |= await _asked(viewer, info, request_id)
    return Page("question.html", "Question", values, status=status)


async def _asked(viewer: Viewer, info: RunInfo, request_id: str) -> dict[str, Any]:
    """What is asked, and what became of it."""
    waiting = next((each for each in info.pending_requests if each.request_id == request_id), None)
    if info.status == "cancelled":
        waiting = None
    if waiting is not None:
        return {
            "asked": waiting,
            "asked_at": info.asked_at(waiting),
            "data": await _data(viewer, info.stream, info.checkpoint_seq, request_id),
            "kind": _KINDS.get(waiting.response_type, "json"),
            "command": how_to_answer(info.stream, waiting),
            "may_answer": _may_answer(viewer, info),
            "became": None,
        }
    became = await became_of(viewer.audit.store, info.stream, request_id)
    if became.state == "unknown":
        raise Failure(NO_SUCH_NAME, f"Run {info.run_id!r} of workflow {info.workflow_name!r} never asked this.")
    return {
        "asked": _request(became.asked_at, request_id),
        "asked_at": None,
        "data": await _data(viewer, info.stream, became.asked_at.seq if became.asked_at else None, request_id),
        "kind": None,
        "may_answer": False,
        "became": became,
        "response": await _given(viewer, became, request_id),
    }


def _may_answer(viewer: Viewer, info: RunInfo) -> bool:
    return viewer.answering is not None and viewer.answering.workflow_name == info.workflow_name


def _request(asked_at: CheckpointEvent | None, request_id: str) -> PendingRequest | None:
    pending = asked_at.summary.pending_requests if asked_at is not None else ()
    return next((each for each in pending if each.request_id == request_id), None)


async def _data(viewer: Viewer, stream: StreamId, seq: int | None, request_id: str) -> list[str] | None:
    """What a request asks with, in lines; None: it cannot be told."""

    def find(state: Mapping[str, Tree]) -> tuple[Tree] | None:
        asked = state.get("pending_request_info_events")
        return _part(asked[request_id], "data") if isinstance(asked, dict) and request_id in asked else None

    return await _lines_of(viewer, stream, seq, find)


async def _given(viewer: Viewer, became: Became, request_id: str) -> list[str] | None:
    """An answer, in lines; None: the log does not have it any more, or never had."""

    def find(state: Mapping[str, Tree]) -> tuple[Tree] | None:
        messages = state.get("messages")
        for sent in messages.values() if isinstance(messages, dict) else ():
            for message in sent if isinstance(sent, list) else ():
                asked = _part(message, "original_request_info_event")
                if asked is not None and _part(asked[0], "_request_id") == (request_id,):
                    return _part(message, "data")
        return None

    event = became.answered
    return await _lines_of(viewer, event.stream, event.seq, find) if event is not None else None


async def _lines_of(
    viewer: Viewer, stream: StreamId, seq: int | None, find: Callable[[Mapping[str, Tree]], tuple[Tree] | None]
) -> list[str] | None:
    """A part of the state that an event holds, in lines; None: it is gone, or there is no such part. What became of a
    question is true, whether its state can be read or not."""
    if seq is None:
        return None
    try:
        state = await viewer.audit.tree(await viewer.audit.at(stream, seq=seq))
    except CheckpointNotFoundError:
        return None
    except CheckpointDecodeError as error:
        return [f"It cannot be shown: {error}"]
    return await in_thread(_as_lines, state, find)


def _as_lines(state: Mapping[str, Tree], find: Callable[[Mapping[str, Tree]], tuple[Tree] | None]) -> list[str] | None:
    found = find(state)
    if found is None:
        return None
    lines = list(islice(tree_lines(*found), _LINES + 1))
    return lines if len(lines) <= _LINES else [*lines[:_LINES], "… the rest is shown with the state of the run"]


def _part(tree: Tree, name: str) -> tuple[Tree] | None:
    """A field of an instance; None: it has none of this name."""
    return next(((part,) for step, part in children(tree) or () if step in (name, f".{name}")), None)
