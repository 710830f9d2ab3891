"""What a page of a listing of runs is: which runs are asked for, their order, and the place to read on from.

The last written to come first, by when their heads were recorded; of one moment by workflow and run. A place is a text
that only a page gives: what it says is checked, since it may have been through a browser.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
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
    "microseconds",
    "place_in",
    "place_of",
]

MOST_RUNS: Final = 1000
"""Runs of a page at most."""
_LONGEST: Final = 20_000  # characters of a text that may be a place
_STATUSES: Final[tuple[RunStatus, ...]] = get_args(RunStatus)
_SECONDS: Final = 86_400  # of a day

_decoder: Final = msgspec.json.Decoder(tuple[str, str, str])


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


class RunFilter(_Fields):
    """Which runs are asked for; what is left out matches all. A run stands as its document says.

    Args:
        workflow_name: of this workflow.
        statuses: any of these; none: all.
        prefix: how the run's id begins.
        since: last written to at this time or later.
        until: last written to before this time.

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
    ) -> Self:
        """See the class."""
        for name, value in (("workflow_name", "" if workflow_name is None else workflow_name), ("prefix", prefix)):
            settings.instance(name, value, str, what="text")
        found = settings.texts("statuses", statuses)
        for status in found:
            settings.choice("a status", status, *_STATUSES)
        for name, value in (("since", since), ("until", until)):
            if value is not None:
                settings.moment(name, value)
        return super().__new__(cls, workflow_name, tuple(cast("list[RunStatus]", found)), prefix, since, until)

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
        if not info.run_id.startswith(self.prefix):
            return False
        at = order_of(info.recorded_at)
        return (self.since is None or at >= aware(self.since)) and (self.until is None or at < aware(self.until))

    @property
    def can_fit(self) -> bool:
        """Whether there can be such a run: of a name that is no Unicode there is none."""
        return is_unicode(self.workflow_name or "") and is_unicode(self.prefix)


class Place(NamedTuple):
    """Where a run stands in the order of pages."""

    recorded_at: str
    stream: StreamId

    @property
    def order(self) -> tuple[timedelta, StreamId]:
        """What to sort by: the last written to first."""
        return NEVER - order_of(self.recorded_at), self.stream

    @property
    def token(self) -> str:
        """The text that stands for it."""
        content = msgspec.json.encode((self.recorded_at, self.stream.workflow_name, self.stream.run_id))
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


def place_of(info: RunInfo) -> Place:
    """Where a run stands."""
    return Place(info.recorded_at, info.stream)


def place_in(token: str | None) -> Place | None:
    """The place that a page gave as its `after`; None for none.

    Raises:
        ForeignPageError: no page gave this.
    """
    if token is None:
        return None
    try:
        if not isinstance(token, str) or len(token) > _LONGEST:  # pyright: ignore[reportUnnecessaryIsInstance] - what a page was sent
            raise ValueError("no place")
        recorded_at, *names = _decoder.decode(base64.b64decode(token.encode("ascii"), b"-_", validate=True))
        place = Place(recorded_at, StreamId(*names))
        if place.token != token:
            raise ValueError("another text than ours")
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise ForeignPageError(
            f"{described(token)} is no place that a page of runs gave. Begin anew, without one."
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


def cut(infos: Iterable[RunInfo], limit: int) -> RunPage:
    """The page that begins with the first of these runs, in whatever order they are: all that come next, or more than
    `limit`."""
    found = sorted(infos, key=lambda info: place_of(info).order)
    return RunPage(found[:limit], place_of(found[limit - 1]).token if len(found) > limit else None)
