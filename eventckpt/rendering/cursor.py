"""Where a listing goes on: a token for what was listed last, which says of which listing it is, and of which workflow.

What it holds is the place in the order of the listing, so that it leads on whatever is written meanwhile.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final, Self, TypeVar

import msgspec

from ..audit.inbox import Question
from ..audit.resolve import shown
from ..events import PendingRequest, StreamId
from ..exit_codes import USAGE, Failure
from ..storage import Latest

__all__ = [
    "HISTORY",
    "INBOX",
    "SESSIONS",
    "HistoryPlace",
    "QuestionPlace",
    "history_place",
    "is_token",
    "place_in",
    "runs_listing",
    "token_after",
    "token_of",
]

_T = TypeVar("_T", bound=msgspec.Struct)

HISTORY: Final = "eventckpt history"
INBOX: Final = "eventckpt inbox"
SESSIONS: Final = "eventckpt sessions"
"""Listings, by the names of their commands."""

_BEGINS: Final = "more."
_LONGEST: Final = 10_000  # characters; names in a token have 255 each


class HistoryPlace(msgspec.Struct, frozen=True):
    """How far a run was listed."""

    workflow_name: str
    run_id: str
    seq: int

    @property
    def stream(self) -> StreamId:
        """The run."""
        return StreamId(self.workflow_name, self.run_id)


class QuestionPlace(msgspec.Struct, frozen=True):
    """A question as it was when it was listed."""

    workflow_name: str
    run_id: str
    request_id: str
    asked_at: str
    waiting_since: str

    @classmethod
    def of(cls, question: Question) -> Self:
        """A question that is listed."""
        stream, request_id = question.stream, question.request.request_id
        return cls(stream.workflow_name, stream.run_id, request_id, question.asked_at, question.waiting_since)

    def question(self) -> Question:
        """What the listing goes on behind: of the rest, nothing counts for that."""
        request = PendingRequest(request_id=self.request_id, source_executor_id="", request_type="")
        stream = StreamId(self.workflow_name, self.run_id)
        return Question(stream, request, "waiting", {}, 0, "", self.asked_at, self.waiting_since)


def history_place(token: str | None, stream: StreamId, option: str = "--after") -> HistoryPlace | None:
    """The place that a token of the history of a run stands for; None for none. See `place_in`.

    Raises:
        Failure: it is no token, or that of another listing, or of another run.
    """
    place = place_in(token, HISTORY, HistoryPlace, option)
    if place is not None and place.stream != stream:
        said = f"that token is of the history of {shown(place.stream)}, not of {shown(stream)}"
        raise Failure(USAGE, f"{option}: {said}.", about=option)
    return place


def token_after(stream: StreamId, seq: int) -> str:
    """The token that leads to the events of a run behind one."""
    return token_of(HISTORY, HistoryPlace(stream.workflow_name, stream.run_id, seq))


def runs_listing(where: Latest) -> str:
    """The name of the listing of runs, by where it looks."""
    return "eventckpt runs" if where == "log" else f"eventckpt runs --latest {where}"


def token_of(listing: str, place: msgspec.Struct) -> str:
    """The token of a place in a listing."""
    content = msgspec.json.encode([listing, msgspec.to_builtins(place)])
    return _BEGINS + base64.urlsafe_b64encode(content).decode().rstrip("=")


def is_token(text: str) -> bool:
    """Whether a text is meant as a token."""
    return text.startswith(_BEGINS)


def place_in(token: str | None, listing: str, kind: type[_T], option: str = "--after") -> _T | None:
    """The place that a token stands for; None for none.

    Args:
        token: what was given.
        listing: the listing that is to go on.
        kind: what its places are.
        option: what the token was given as. By that of a command, listings are called what their commands are.

    Raises:
        Failure: it is no token, or that of another listing.
    """
    if token is None:
        return None
    found, place = _content(token)
    ours, other = (f"`{listing}`", f"`{found}`") if option.startswith("-") else ("this list", "another list")
    takes = f"{option} takes the token that {ours} gave, and this one"
    if found != listing:
        raise Failure(USAGE, f"{takes} is {f'of {other}' if found else 'none that a listing gave'}.", about=option)
    try:
        return msgspec.convert(place, kind)
    except msgspec.ValidationError:
        raise Failure(USAGE, f"{takes} was changed.", about=option) from None


def _content(token: str) -> tuple[str, Any]:
    """The listing that a token says that it is of, and its place; of what is no token, none."""
    try:
        text = token.removeprefix(_BEGINS)[:_LONGEST]
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found, place = msgspec.json.decode(content, type=tuple[str, Any])
    except (binascii.Error, ValueError, RecursionError, msgspec.DecodeError):
        return "", None
    return (found, place) if is_token(token) and found.isprintable() and len(found) < len(_BEGINS) * 10 else ("", None)
