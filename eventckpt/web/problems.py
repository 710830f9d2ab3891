"""What went wrong, as a page: with the status that says whose fault it is, and what may have been meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ..audit.resolve import shown
from ..errors import AmbiguousNameError, RunNotFoundError
from ..events import StreamId
from ..exit_codes import FOUND_WRONG, NO_SUCH_NAME, STATE, STORE, TAKEN, USAGE, Failure, exit_code
from ..rendering.fields import error_fields
from ..rendering.filters import STATUSES
from .access import RefusedError
from .page import Line, Page
from .query import COMPARED, OF_QUESTIONS, OF_RUNS, OF_SESSIONS, Query

__all__ = ["AGAIN", "STATUS", "problem", "refusal"]

AGAIN: Final = 5
"""Seconds after which a page that could not be made is asked for again."""

STATUS: Final = {USAGE: 400, NO_SUCH_NAME: 404, STORE: 503, STATE: 422, TAKEN: 409, FOUND_WRONG: 409}
"""By the exit code that a command would end with, the status of the page."""
_CODES: Final = {400: USAGE, 404: NO_SUCH_NAME, 503: STORE, 422: STATE}
_TITLES: Final = {404: "Not found", 500: "Something went wrong", 503: "Not there now"}
_MOST: Final = 10  # names, or tags
_LONGEST: Final = 1_000  # characters of what was given that stand in the form again


def refusal(error: Exception, path: str, asked: Query) -> Page | None:
    """The page that says what went wrong, as a command would say it; None: it is a fault of the viewer."""
    if isinstance(error, RefusedError):
        return problem(error.status, str(error))
    code = exit_code(error)
    if code is None:
        return None
    said, names = _meant(error, path, asked)
    if path in _FORMS and (code == USAGE or names) and asked.text("format") != "jsonl":
        return _form_again(_FORMS[path], STATUS[code], said, names, error, asked)
    return problem(STATUS[code], said, names, error=error)


def _meant(error: Exception, path: str, asked: Query) -> tuple[str, Sequence[Mapping[str, Any]]]:
    """What is said of an error, and what may have been meant, to which links lead in the place of words."""
    meant: Sequence[StreamId | str] = ()
    if isinstance(error, AmbiguousNameError):
        meant = error.found
    elif isinstance(error, RunNotFoundError):
        meant = error.near
    said = error.said if isinstance(error, (AmbiguousNameError, RunNotFoundError)) else str(error)
    return said, [_link(each, path, asked) for each in meant[:_MOST]]


class _Form(NamedTuple):
    """A page that is asked for by a form."""

    template: str
    title: str
    fields: Sequence[str]
    further: Mapping[str, Any] = {}


_FORMS: Final = {
    "/runs": _Form("runs.html", "Runs", OF_RUNS, {"all_statuses": STATUSES}),
    "/inbox": _Form("inbox.html", "Inbox", OF_QUESTIONS),
    "/conversations": _Form("conversations.html", "Conversations", OF_SESSIONS),
    "/compare": _Form("compare.html", "Compare", COMPARED),
}


def _form_again(
    form: _Form, status: int, said: str, names: Sequence[Mapping[str, Any]], error: Exception, asked: Query
) -> Page:
    """The form with what was given in it, and what is wrong."""
    parts = {name: [each for each in values if len(each) <= _LONGEST] for name, values in asked.parts.items()}
    given: dict[str, Any] = {name: next(iter(parts.get(name, [])[-1:]), None) for name in form.fields}
    values = {**form.further, **given, "form": dict(given), "live": "off" if "live" in parts else None}
    tags = parts.get("tag", [])[:_MOST]
    values["given"] = {**given, "tag": tags if form.template == "runs.html" else next(iter(tags), None)}
    values |= {"is_filtered": True, "problem": said, "names": names}
    values["wrong"] = error.about if isinstance(error, Failure) else None
    return Page(form.template, form.title, values, _lines_of(status, error), status=status)


def problem(
    status: int,
    said: str,
    names: Sequence[Mapping[str, Any]] = (),
    *,
    error: Exception | None = None,
    is_passing: bool = True,
) -> Page:
    """A page that says that there is none; its lines are what a command prints with `--json` when it ends so.

    Args:
        status: of the answer.
        said: why, and what to do.
        names: what may have been meant: of each what it is called, and the path and the query of its page.
        error: what a command would say; None: `said`.
        is_passing: whether what is in the way may pass by itself, so that the page is asked for again.
    """
    values = {"problem": said, "names": names, "every": AGAIN if status == 503 and is_passing else None}
    lines = _lines_of(status, error or Failure(_CODES.get(status, FOUND_WRONG), said))
    return Page("problem.html", _TITLES.get(status, "Refused"), values, lines, status=status)


def _lines_of(status: int, error: Exception) -> Callable[[], list[Line]]:
    lines: list[Line] = [("error", error_fields(exit_code(error) or _CODES.get(status, FOUND_WRONG), error))]
    return lambda: lines


def _link(meant: StreamId | str, path: str, asked: Query) -> Mapping[str, Any]:
    """What may have been meant, with the address of the page that was asked for, where that is about one run."""
    if isinstance(meant, str):
        return {"name": meant, "path": "/event", "query": {"event": meant}}
    run = {"run": meant.run_id, "workflow": meant.workflow_name}
    is_of_a_run = "run" in asked.parts
    return {
        "name": shown(meant),
        "path": path if is_of_a_run else "/run",
        "query": {**asked.parts, **run} if is_of_a_run else run,
    }
