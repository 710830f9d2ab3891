"""Which address is which page, what each takes, and what acts on each form."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple, TypeAlias

from ..audit.listed_from import ListedFrom
from .access import RefusedError
from .page import Page, SeeOther, Sent
from .pages import compare, conversations, event, inbox, operations, question, run, runs, sign_in, whole_run
from .query import COMPARED, OF_QUESTIONS, OF_RUNS, OF_SESSIONS, Query
from .viewer import Viewer

__all__ = ["FORMS", "NAMES", "PAGES", "REFUSED", "FormHandler", "Handler", "Shown"]

Handler: TypeAlias = Callable[[Viewer, Query], Awaitable[Page]]
FormHandler: TypeAlias = Callable[[Viewer, Sent], Awaitable[Page | SeeOther]]


class Shown(NamedTuple):
    """A page."""

    handler: Handler
    takes: tuple[str, ...] = ()
    """The names of what it is asked for. Any other is a slip, that would have it show something else than was meant."""
    listed: Callable[[Viewer], ListedFrom] | None = None
    """Where the runs, questions or sessions that it lists are listed from; None: it lists nothing of the kind."""
    is_small: bool = False
    """Whether it is a list of what each stored thing says of itself: such pages have places and threads that none of
    the others takes, which may read states or whole runs."""


def _of_runs(viewer: Viewer) -> ListedFrom:
    return viewer.audit.listed_from


def _of_sessions(viewer: Viewer) -> ListedFrom:
    return viewer.turns().listed_from


_RUN: Final = ("run", "workflow")
_RUNS: Final = (*OF_RUNS, "tag")
_QUESTIONS: Final = (*OF_QUESTIONS, "tag", "after", "limit", "live")
_SESSIONS: Final = (*OF_SESSIONS, "after", "limit")

PAGES: Final[Mapping[str, Shown]] = {
    "/compare": Shown(compare.compare, (*COMPARED, "run", "seq")),
    "/event": Shown(event.event, ("event", "seq", "path", "first", *_RUN)),
    "/runs": Shown(runs.runs, (*_RUNS, "after", "limit", "live"), _of_runs, is_small=True),
    "/run": Shown(run.run, (*_RUN, "live")),
    "/run/history": Shown(run.history, (*_RUN, "after", "last", "limit")),
    "/run/lineage": Shown(whole_run.lineage, (*_RUN, "forks")),
    "/run/verify": Shown(whole_run.verify, (*_RUN, "decode", "projection")),
    "/runs/counts": Shown(runs.counts, _RUNS, _of_runs),
    "/inbox": Shown(inbox.inbox, _QUESTIONS, _of_runs, is_small=True),
    "/inbox/question": Shown(question.question, (*_RUN, "request")),
    "/conversations": Shown(conversations.conversations, _SESSIONS, _of_sessions, is_small=True),
    "/conversation": Shown(conversations.conversation, ("session", "source", "seq", "time", "upto", "runs")),
    "/conversation/events": Shown(conversations.conversation_events, ("session", "source", "after", "limit")),
    "/turn": Shown(conversations.turn, ("session", "source", "seq")),
    "/operations": Shown(operations.operations, ("live",), is_small=True),
    "/operations/checks": Shown(operations.checks),
    "/operations/types": Shown(operations.types, ("runs",)),
    "/sign-in": Shown(sign_in.sign_in, ("back",), is_small=True),
}
"""By its path, each page."""
FORMS: Final[Mapping[str, FormHandler]] = {
    "/inbox/question": question.answered,
    "/sign-in": sign_in.signed_in,
    "/sign-out": sign_in.signed_out,
}
"""By its path, what acts on each form."""
REFUSED: Final[Mapping[str, Callable[[Viewer, Query, RefusedError], Awaitable[Page]]]] = {
    "/inbox/question": question.refused,
}
"""By its path, the page of a form that is refused, where what was typed is shown again."""
NAMES: Final = (
    ("Runs", "/runs", ("/run", "/event")),
    ("Inbox", "/inbox", ("/inbox/",)),
    ("Conversations", "/conversations", ("/conversation", "/turn")),
    ("Compare", "/compare", ()),
    ("Operations", "/operations", ("/operations/",)),
)
"""Each part of the navigation, where it leads, and how the paths of what else is of it begin."""
