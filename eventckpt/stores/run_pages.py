"""What a page of a listing of runs is: which runs are asked for, their order, and the place to read on from.

The last written to come first, by when their heads were recorded; of runs that wait for an answer, those that have
waited longest; of one moment by workflow and run. A place is a text that only a page gives: what it says is checked,
since it may have been through a browser.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Self, cast, get_args

import msgspec

from .. import settings
from ..errors import CheckpointStoreError
from ..events import RunInfo, RunStatus, StreamId
from ..moments import NEVER, order_of
from ..text import described, is_unicode

__all__ = [
    "MOST_RUNS",
    "ForeignPageError",
    "Place",
    "RunFilter",
    "RunPage",
    "aware",
    "check_limit",
    "cut",
    "mark_of",
    "microseconds",
    "moment_at",
    "place_in",
    "place_of",
    "text_at",
]

MOST_RUNS: Final = 1000
"""Runs of a page at most."""
_LONGEST: Final = 20_000  # characters of a text that may be a place
_STATUSES: Final[tuple[RunStatus, ...]] = get_args(RunStatus)
_SECONDS: Final = 86_400  # of a day

_NO_TAGS: Final[Mapping[str, str]] = {}
_WAITING: Final = "waiting"
"""What the places of one order begin with, so that none is taken for one of the other."""

_decoder: Final = msgspec.json.Decoder(list[str])


class ForeignPageError(CheckpointStoreError):
    """A text that was given as the place to read on from is none that a page of runs gave. Begin anew, without one."""


class _Fields(NamedTuple):
    workflow_name: str | None = None
    statuses: tuple[RunStatus, ...] = ()
    """Any of these; none: all."""
    prefix: str = ""
    """How the run's id begins."""
    since: datetime | None = None
    """Last written to at this time or later."""
    until: datetime | None = None
    """Last written to before this time."""
    tags: Mapping[str, str] = _NO_TAGS
    """With all of these."""
    waiting: bool = False
    """With a question, and not cancelled."""
    request_type: str | None = None
    """With a question of this type."""
    asked_before: datetime | None = None
    """Whose oldest question, of that type, was asked before this time."""


class RunFilter(_Fields):
    """Which runs are asked for; what is left out matches all. A run stands as its document says.

    With `waiting`, pages begin with what has waited longest.

    Args:
        workflow_name: of this workflow.
        statuses: any of these; none: all.
        prefix: how the run's id begins.
        since: last written to at this time or later.
        until: last written to before this time.
        tags: with all of these tags.
        waiting: that wait for an answer, whatever their status, and were not cancelled.
        request_type: one of their questions is of it, which is `"module:qualname"`.
        asked_before: their oldest question, of that type if there is one, was asked before this time.

    Raises:
        TypeError, ValueError: an argument is not of the form above.
    """

    __slots__ = ()

    def __new__(
        cls,
        workflow_name: str | None = None,
        statuses: Iterable[RunStatus] = (),
        prefix: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        tags: Mapping[str, str] = _NO_TAGS,
        waiting: bool = False,
        request_type: str | None = None,
        asked_before: datetime | None = None,
    ) -> Self:
        """See the class."""
        for name, value in (("workflow_name", workflow_name), ("prefix", prefix), ("request_type", request_type)):
            if value is not None or name == "prefix":
                settings.instance(name, value, str, what="text")
        found = settings.texts("statuses", statuses)
        for status in found:
            settings.choice("a status", status, *_STATUSES)
        for name, value in (("since", since), ("until", until), ("asked_before", asked_before)):
            if value is not None:
                settings.moment(name, value)
        settings.flag("waiting", waiting)
        tagged, stand = settings.text_by_name("tags", tags), tuple(cast("list[RunStatus]", found))
        return super().__new__(
            cls, workflow_name, stand, prefix, since, until, tagged, waiting, request_type, asked_before
        )

    @classmethod
    def of(cls, which: RunFilter | None) -> RunFilter:
        """What a listing was given; None: all runs.

        Raises:
            TypeError: it is no filter.
        """
        return cls() if which is None else settings.instance("which", which, cls, what="a RunFilter")

    def fits(self, info: RunInfo) -> bool:
        """Whether a run is one of those."""
        if self.workflow_name is not None and info.workflow_name != self.workflow_name:
            return False
        if self.statuses and info.status not in self.statuses:
            return False
        if not info.run_id.startswith(self.prefix) or not self.tags.items() <= info.tags.items():
            return False
        at = order_of(info.recorded_at)
        if (self.since is not None and at < aware(self.since)) or (self.until is not None and at >= aware(self.until)):
            return False
        return (not self.waiting or info.waiting_since != "") and self._asks(info)

    def _asks(self, info: RunInfo) -> bool:
        """Whether a run has such a question."""
        if self.request_type is None and self.asked_before is None:
            return True
        asked = [
            order_of(info.asked_at(request))
            for request in info.pending_requests
            if self.request_type in (None, request.request_type)
        ]
        return bool(asked) and (self.asked_before is None or min(asked) < aware(self.asked_before))

    @property
    def can_fit(self) -> bool:
        """Whether there can be such a run: of a name that is no Unicode there is none."""
        names = (self.workflow_name or "", self.prefix, self.request_type or "", *self.tags, *self.tags.values())
        return all(map(is_unicode, names))


class Place(NamedTuple):
    """Where a run stands in the order of pages."""

    at: str
    """When it was last written to, or since when it waits."""
    stream: StreamId
    waiting: bool = False
    """Whether the order is that of runs that wait."""

    @property
    def order(self) -> tuple[timedelta, StreamId]:
        """What to sort by."""
        since_never = order_of(self.at) - NEVER
        return since_never if self.waiting else -since_never, self.stream

    @property
    def token(self) -> str:
        """The text that stands for it."""
        parts = (self.at, self.stream.workflow_name, self.stream.run_id)
        content = msgspec.json.encode((_WAITING, *parts) if self.waiting else parts)
        return base64.urlsafe_b64encode(content).decode()


class RunPage(NamedTuple):
    """Some runs."""

    runs: list[RunInfo]
    """Up to as many as were asked for; fewer, or none, is no end."""
    after: str | None
    """The place to read on from; None: this was the last page."""


def aware(moment: datetime) -> datetime:
    """A time with its zone; without one, it is UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """A time as a whole number that is in the order of times."""
    since = aware(moment) - NEVER
    return (since.days * _SECONDS + since.seconds) * 1_000_000 + since.microseconds  # a division takes thrice as long


_LAST: Final = microseconds(datetime.max)


def moment_at(since: int) -> datetime:
    """The time that such a number stands for; of one that is out of range, the first or the last there is."""
    return NEVER + timedelta(microseconds=min(max(0, since), _LAST))


def text_at(moment: datetime) -> str:
    """A time as a text that is in the order of times."""
    return moment_at(microseconds(moment)).isoformat(timespec="microseconds")


def mark_of(of: str | tuple[str, str]) -> str:
    """The line of text by which an engine finds runs with a tag, or with a question of a type. No text is in two."""
    return msgspec.json.encode(of).decode()


def place_of(info: RunInfo, *, waiting: bool) -> Place:
    """Where a run stands; with `waiting`, among those that wait, by a text that is in the order of times."""
    at = text_at(order_of(info.waiting_since)) if waiting else info.recorded_at
    return Place(at, info.stream, waiting)


def place_in(token: str | None, *, waiting: bool) -> Place | None:
    """The place that a page of this order gave as its `after`; None for none.

    Raises:
        ForeignPageError: no such page gave this.
    """
    if token is None:
        return None
    try:
        if not isinstance(token, str) or len(token) > _LONGEST:  # pyright: ignore[reportUnnecessaryIsInstance] - what a page was sent
            raise ValueError("no place")
        parts = _decoder.decode(base64.b64decode(token.encode("ascii"), b"-_", validate=True))
        at, *names = parts[1:] if waiting else parts
        place = Place(at, StreamId(*names), waiting)
        if place.token != token:
            raise ValueError("another text than ours")
    except (msgspec.DecodeError, RecursionError, TypeError, ValueError) as error:
        order = "of waiting runs " if waiting else ""
        raise ForeignPageError(
            f"{described(token)} is no place that a page of runs {order}gave. Begin anew, without one."
        ) from error
    return place


def check_limit(limit: int) -> None:
    """How many runs a page may have: from 1 to `MOST_RUNS`.

    Raises:
        TypeError, ValueError: it is no such number.
    """
    settings.whole_number("limit", limit, least=1)
    if limit > MOST_RUNS:
        raise ValueError(f"limit is at most {MOST_RUNS:,}, not {limit:,}: read page by page.")


def cut(infos: Iterable[RunInfo], limit: int, *, waiting: bool) -> RunPage:
    """The page that begins with the first of these runs, in whatever order they are: all that come next, or more than
    `limit`."""
    found = sorted(infos, key=lambda info: place_of(info, waiting=waiting).order)
    after = place_of(found[limit - 1], waiting=waiting).token if len(found) > limit else None
    return RunPage(found[:limit], after)
