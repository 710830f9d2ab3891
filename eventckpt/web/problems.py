"""What went wrong, as a page: with the status that says whose fault it is, and what may have been meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..audit.resolve import shown
from ..errors import AmbiguousNameError, RunNotFoundError
from ..events import StreamId
from ..exit_codes import FOUND_WRONG, NO_SUCH_NAME, STATE, STORE, TAKEN, USAGE, exit_code
from .access import RefusedError
from .page import Page
from .query import Query

__all__ = ["AGAIN", "STATUS", "problem", "refusal"]

AGAIN: Final = 5
"""Seconds after which a page that could not be made is asked for again."""

STATUS: Final = {USAGE: 400, NO_SUCH_NAME: 404, STORE: 503, STATE: 422, TAKEN: 409, FOUND_WRONG: 409}
"""By the exit code that a command would end with, the status of the page."""
_TITLES: Final = {404: "Not found", 500: "Something went wrong", 503: "Not there now"}
_MOST: Final = 10  # names


def refusal(error: Exception, path: str, asked: Query) -> Page | None:
    """The page that says what went wrong, as a command would say it; None: it is a fault of the viewer."""
    if isinstance(error, RefusedError):
        return problem(error.status, str(error), retry_after=error.retry_after)
    code = exit_code(error)
    if code is None:
        return None
    meant: Sequence[StreamId | str] = ()
    if isinstance(error, AmbiguousNameError):
        meant = error.found
    elif isinstance(error, RunNotFoundError):
        meant = error.near
    return problem(STATUS[code], str(error), [_link(each, path, asked) for each in meant[:_MOST]])


def problem(status: int, said: str, names: Sequence[Mapping[str, Any]] = (), *, retry_after: int | None = None) -> Page:
    """A page that says that there is none.

    Args:
        status: of the answer.
        said: why, and what to do.
        names: what may have been meant: of each what it is called, and the path and the query of its page.
        retry_after: seconds after which to ask again, where it is known.
    """
    values = {"said": said, "names": names, "again": AGAIN if status == 503 else None}
    return Page("problem.html", _TITLES.get(status, "Refused"), values, status=status, retry_after=retry_after)


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
