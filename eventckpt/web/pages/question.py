"""The page of one question: what is asked, what became of it, and the answering of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_plus

from ...answers.requests import Became, Before, answered_before, became_of
from ...audit.glance import holder_of
from ...codec.tree import Tree, children
from ...errors import CheckpointDecodeError, CheckpointNotFoundError, RunClaimedError, RunNotFoundError
from ...events import CheckpointEvent, PendingRequest, RunInfo, StreamId
from ...exit_codes import NO_SUCH_NAME, STORE, USAGE, Failure, exit_code
from ...rendering.about_run import standing_of_run, waits_for
from ...rendering.times import in_utc
from ...rendering.trees import tree_lines
from ...text import described
from ...threads import in_thread
from ..access import RefusedError
from ..asking import Field, field_for, is_given, response_in
from ..page import Page, SeeOther, Sent
from ..places import weighed
from ..problems import STATUS
from ..query import Query
from ..templates import address
from ..viewer import Viewer

__all__ = ["answered", "question", "refused"]

_LINES: Final = 200  # of what is asked, and of an answer
_EARLIER: Final = 50  # answers of before
_TOLD: Final = 10  # of these, what was asked
_FEW: Final = 20  # lines of that
_OTHERS: Final = 20  # questions
_LINKED: Final = 1_000  # characters of an id in an address


async def question(viewer: Viewer, asked: Query) -> Page:
    """One question: what is asked, and how to answer it; or what became of it."""
    stream = await viewer.audit.run(asked.needed("run"), workflow_name=asked.text("workflow"))
    return await _question(viewer, asked, stream, asked.needed("request"))


async def answered(viewer: Viewer, sent: Sent) -> Page | SeeOther:
    """Give an answer. What goes wrong is said on the page of the question, with what was typed."""
    stream = StreamId(sent.asked.needed("workflow"), sent.asked.needed("run"))
    request_id = sent.asked.needed("request")
    answering, session = viewer.answering, sent.asked.session
    if answering is None or session is None:
        raise Failure(USAGE, "Nobody answers here who has not signed in. Nothing was done.")
    try:
        response, earlier = response_in(sent.fields), _earlier_in(sent.fields)
        await answering.give(stream, request_id, response, session=session, earlier=earlier)
    except Exception as error:
        if (code := exit_code(error)) is None:
            raise
        problem = _Problem(_said(error), sent.fields)
        if code == STORE:  # which is not waited for once more
            return _kept(sent.asked, problem, STATUS[code])
        return await _question(viewer, sent.asked, stream, request_id, problem=problem, status=STATUS[code])
    return SeeOther(_address(stream, request_id))


async def refused(viewer: Viewer, asked: Query, error: RefusedError) -> Page:
    """The page of a question whose answer was refused for whose it is, or how it came: with what was typed, and why."""
    problem = _Problem(str(error), error.fields)
    try:
        stream = StreamId(asked.needed("workflow"), asked.needed("run"))
        return await _question(viewer, asked, stream, asked.needed("request"), problem=problem, status=error.status)
    except Exception as other:
        if (code := exit_code(other)) is None:
            raise
        if code == STORE:
            return _kept(asked, problem, error.status)
        raise error from other  # there is no such question to show


def _kept(asked: Query, problem: _Problem, status: int) -> Page:
    """What was typed, for a question that cannot be shown now."""
    typed = [text for name, text in problem.sent.items() if name.startswith("response")]
    values = {"problem": problem.said, "fields": problem.sent, "typed": typed, "query": asked.parts}
    return Page("not_answered.html", "Not answered", values, status=status)


class _Problem(NamedTuple):
    """What went wrong with what somebody has just sent."""

    said: str
    sent: Mapping[str, str]


def _said(error: Exception) -> str:
    """What went wrong, for somebody at a page, who has no options and sees no documents."""
    if isinstance(error, RunClaimedError):
        until = f", until {in_utc(error.expires_at)} unless it goes on for longer" if error.expires_at else ""
        return f"{error.owner or 'Somebody'} has the run at this moment{until}. Nothing was done: try again later."
    return str(error)


def _earlier_in(sent: Mapping[str, str]) -> dict[str, object]:
    """The answers of before that were given again, by the request; those that were left as they stood are not."""
    found: dict[str, object] = {}
    for name, quoted in sent.items():
        place = name.removeprefix("request")
        if place != name and is_given(sent, place):
            request_id = unquote_plus(quoted)
            found[request_id] = response_in(sent, place, f"The answer to {described(request_id)}")
    return found


def _address(stream: StreamId, request_id: str) -> str:
    return address("/inbox/question", run=stream.run_id, workflow=stream.workflow_name, request=request_id)


async def _question(
    viewer: Viewer,
    asked: Query,
    stream: StreamId,
    request_id: str,
    *,
    problem: _Problem | None = None,
    status: int = 200,
) -> Page:
    info = await viewer.audit.info(stream)
    if info is None:
        raise RunNotFoundError(f"Workflow {stream.workflow_name!r} has no run {stream.run_id!r}.")
    attempt = viewer.answering.attempt(stream, request_id) if viewer.answering is not None else None
    values: dict[str, Any] = {"stream": stream, "request_id": request_id, "info": info}
    values |= {"standing": standing_of_run(info), "back": _address(stream, request_id)}
    sent = problem.sent if problem is not None else None
    values |= await _asked(viewer, info, request_id, sent, is_signed_in=asked.session is not None)
    values["problem"] = problem.said if problem is not None else None
    values["typed"] = problem.sent.get("response") if problem is not None and asked.session is None else None
    values["going_on"] = attempt.actor if attempt is not None and attempt.is_going_on else None
    became: Became | None = values["became"]
    answered_by = became.answered.actor if became is not None and became.answered is not None else None
    told = attempt.problem(asked.session, answered_by) if attempt is not None and problem is None else None
    values["failed"] = (told, attempt) if told is not None else None
    values["answers_only"] = viewer.answering.workflow_name if viewer.answering is not None else None
    values |= {"is_left": False, "holder": None, **_others(info, request_id)}
    if became is not None and became.answered is not None and info.status == "running" and values["going_on"] is None:
        holder = await holder_of(viewer.audit.store, stream)
        values |= {"is_left": holder is None, "holder": holder}
    return Page("question.html", f"Question {request_id} of run {stream.run_id}", values, status=status)


async def _asked(
    viewer: Viewer, info: RunInfo, request_id: str, sent: Mapping[str, str] | None, *, is_signed_in: bool
) -> dict[str, Any]:
    """What is asked, and what became of it."""
    waiting = next((each for each in info.pending_requests if each.request_id == request_id), None)
    if info.status == "cancelled":
        waiting = None
    if waiting is not None:
        return await _waiting(viewer, info, waiting, sent, is_signed_in=is_signed_in)
    became = await became_of(viewer.audit.store, info.stream, request_id)
    if became.state == "unknown":
        raise Failure(NO_SUCH_NAME, f"Run {info.run_id!r} of workflow {info.workflow_name!r} never asked this.")
    is_functional = became.answered is not None and not became.answered.summary.executor_ids
    asked = _request(became.asked_at, request_id)
    return {
        "asked": asked,
        "asked_at": None,
        "data": await _data(viewer, info.stream, _seq(became.asked_at), request_id),
        "earlier": [],
        "takes": field_for(asked, request_id, is_loaded=False).takes,
        "may_answer": False,
        "became": became,
        "is_functional": is_functional,
        "response": await _given(viewer, became, request_id),
    }


async def _waiting(
    viewer: Viewer, info: RunInfo, waiting: PendingRequest, sent: Mapping[str, str] | None, *, is_signed_in: bool
) -> dict[str, Any]:
    """How a question that waits is answered: by its field, and those of what was answered before."""
    may_answer, request_id = viewer.answers(info.workflow_name), waiting.request_id
    earlier = await _earlier(viewer, info)
    told = islice(earlier.items(), _TOLD if may_answer and is_signed_in else 0)
    data = {each: await _data(viewer, info.stream, _seq(before.asked_at), each, most=_FEW) for each, before in told}
    again = [
        _Again(
            field_for(_request(before.asked_at, each), each, is_loaded=may_answer, sent=sent, place=f"-{number}"),
            before,
            _request(before.asked_at, each),
            data.get(each),
        )
        for number, (each, before) in enumerate(earlier.items())
    ]
    own = field_for(waiting, request_id, is_loaded=may_answer, sent=sent)
    return {
        "asked": waiting,
        "asked_at": info.asked_at(waiting),
        "data": await _data(viewer, info.stream, info.checkpoint_seq, request_id),
        "earlier": again,
        "own": own,
        "takes": own.takes,
        "command": viewer.how_to_answer(info.stream, waiting, earlier=list(earlier)),
        "may_answer": may_answer,
        "became": None,
    }


class _Again(NamedTuple):
    """A field for an answer that was given before."""

    field: Field
    before: Before
    asked: PendingRequest | None
    data: list[str] | None
    """What was asked with, in lines; None: it is not told here."""


async def _earlier(viewer: Viewer, info: RunInfo) -> Mapping[str, Before]:
    """What was answered before and may be needed again: of a functional workflow, whose checkpoints list no executors
    and hold no answers."""
    if info.checkpoint_id is None:
        return {}
    latest = await viewer.audit.at(info.stream, seq=info.checkpoint_seq)
    if latest.summary.executor_ids:
        return {}
    before = await answered_before(viewer.audit.store, info.stream, info.checkpoint_id)
    waits = {each.request_id for each in info.pending_requests}
    return dict(islice(((key, each) for key, each in before.items() if key not in waits), _EARLIER))


def _others(info: RunInfo, request_id: str) -> dict[str, Any]:
    """The other questions that the run waits for, as many as are shown of them."""
    others = [each for each in waits_for(info) if each.request_id != request_id]
    shown = [each for each in others[:_OTHERS] if len(each.request_id) <= _LINKED]
    return {"others": shown, "more_others": len(others) - len(shown)}


def _request(asked_at: CheckpointEvent | None, request_id: str) -> PendingRequest | None:
    pending = asked_at.summary.pending_requests if asked_at is not None else ()
    return next((each for each in pending if each.request_id == request_id), None)


def _seq(event: CheckpointEvent | None) -> int | None:
    return event.seq if event is not None else None


async def _data(
    viewer: Viewer, stream: StreamId, seq: int | None, request_id: str, most: int = _LINES
) -> list[str] | None:
    """What a request asks with, in lines; None: it cannot be told."""

    def find(state: Mapping[str, Tree]) -> tuple[Tree] | None:
        asked = state.get("pending_request_info_events")
        return _part(asked[request_id], "data") if isinstance(asked, dict) and request_id in asked else None

    return await _lines_of(viewer, stream, seq, find, most)


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
    viewer: Viewer,
    stream: StreamId,
    seq: int | None,
    find: Callable[[Mapping[str, Tree]], tuple[Tree] | None],
    most: int = _LINES,
) -> list[str] | None:
    """A part of the state that an event holds, in lines; None: it is gone, or there is no such part. What became of a
    question is true, whether its state can be read or not."""
    if seq is None:
        return None
    try:
        event = await viewer.audit.at(stream, seq=seq)
        await weighed(event)
        state = await viewer.audit.tree(event)
    except CheckpointNotFoundError:
        return None
    except CheckpointDecodeError as error:
        return [f"It cannot be shown: {error}"]
    return await in_thread(_as_lines, state, find, most)


def _as_lines(
    state: Mapping[str, Tree], find: Callable[[Mapping[str, Tree]], tuple[Tree] | None], most: int
) -> list[str] | None:
    found = find(state)
    if found is None:
        return None
    lines = list(islice(tree_lines(*found), most + 1))
    return lines if len(lines) <= most else [*lines[:most], "… the rest is shown with the state of the run"]


def _part(tree: Tree, name: str) -> tuple[Tree] | None:
    """A field of an instance; None: it has none of this name."""
    return next(((part,) for step, part in children(tree) or () if step in (name, f".{name}")), None)
