"""The page of the questions that wait for an answer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from ...audit.inbox import Question
from ...rendering.cursor import INBOX, QuestionPlace, token_of
from ...rendering.fields import question_fields
from ...rendering.filters import tags_in
from ...rendering.words import tag_texts
from ..answering import Attempt
from ..page import Line, Page
from ..query import OF_QUESTIONS, Query
from ..room import page_of
from ..viewer import Viewer

__all__ = ["inbox"]

_PAGE: Final = 50


async def inbox(viewer: Viewer, asked: Query) -> Page:
    """The questions that wait for an answer, the run that waits longest first."""
    given = {name: asked.text(name) for name in (*OF_QUESTIONS, "tag")}
    tags = tags_in([given["tag"]] if given["tag"] else None, "tag")
    before = asked.moment("older-than")
    span = None if before is None else max(timedelta(), viewer.now() - before)
    limit, place = asked.number("limit", _PAGE, most=_PAGE), asked.place(INBOX, QuestionPlace)
    which: dict[str, Any] = {"workflow": given["workflow"], "older_than": span, "type": given["type"]}
    which |= {"tag": next(iter(tags.items()), None), "after": None if place is None else place.question()}
    found, has_more = await page_of(viewer.audit.inbox(**which, latest=viewer.audit.latest), limit)
    more = token_of(INBOX, QuestionPlace.of(found[-1])) if has_more else None

    def lines() -> Iterator[Line]:
        yield from (("question", question_fields(each)) for each in found)
        if more is not None:
            yield "more", {"after": more}

    shown = {"after": asked.text("after"), "limit": asked.text("limit"), "live": asked.text("live")}
    rows = [(each, ", ".join(tag_texts(each.tags)), _answering(viewer, each)) for each in found]
    is_filtered = any(value is not None for value in given.values())
    values: dict[str, Any] = {"rows": rows, "more": more, "given": given, "is_filtered": is_filtered, **shown}
    values["late"] = await viewer.lateness()
    return Page("inbox.html", "Inbox", values, lines)


def _answering(viewer: Viewer, question: Question) -> Attempt | None:
    """The answer that was given to it here, which the list does not know of: it is acted on, or the projection is late.
    What others answered elsewhere, only the page of the question tells, by the log."""
    answering = viewer.answering
    attempt = answering.attempt(question.stream, question.request.request_id) if answering is not None else None
    if attempt is None or attempt.has_failed:
        return None
    return attempt if attempt.is_going_on or viewer.audit.latest == "projection" else None
