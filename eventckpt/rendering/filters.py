"""Which runs are asked for, as people write it: as the options of a command, or in the address of a page."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from ..audit import Filter
from ..audit.preflight import UNFINISHED
from ..events import RunStatus
from ..exit_codes import USAGE, Failure
from ..runs import ENDED
from ..text import described
from .times import moment

__all__ = ["STATUSES", "filter_of", "statuses_in", "tags_in"]

STATUSES: Final[tuple[RunStatus, ...]] = (*UNFINISHED, *ENDED, "idle")
"""What a run may be asked to stand like; `idle`: done or open."""


def filter_of(
    *,
    workflow: str | None,
    status: str | None,
    tags: Iterable[str],
    since: str | None,
    until: str | None,
    pending: bool,
    request: str | None,
    actor: str | None,
    option: str = "--",
) -> Filter:
    """The filter that these stand for; each as the option of `eventckpt runs` of its name, None where it was not given.

    Args:
        workflow, actor, request: names, or how one begins; see `Filter`.
        status: one or several, with commas between them.
        tags: each as name=value.
        since, until: times, see `moment`.
        pending: waits for any answer.
        option: what stands before the name of an option in an error.

    Raises:
        Failure: one is not of its form, which is named.
    """
    return Filter(
        workflow_name=workflow,
        status=statuses_in(status, STATUSES, f"{option}status") if status is not None else None,
        since=moment(since, f"{option}since"),
        until=moment(until, f"{option}until"),
        request=request if request is not None else ("" if pending else None),
        actor=actor,
        tags=tags_in(tags, f"{option}tag"),
    )


def statuses_in(words: str, known: Collection[RunStatus], option: str = "--status") -> tuple[RunStatus, ...]:
    """Those of the statuses that are named, with commas between them.

    Raises:
        Failure: a word is none of them.
    """
    named: dict[str, RunStatus] = {status: status for status in known}
    found: list[RunStatus] = []
    for word in words.split(","):
        if (status := named.get(word.strip())) is None:
            raise Failure(
                USAGE,
                f"{option} is {', '.join(known)}, or several of them with commas, not {described(word)}.",
                about=option,
            )
        found.append(status)
    return tuple(found)


def tags_in(given: Iterable[str] | None, option: str = "--tag") -> dict[str, str]:
    """Tags, each as name=value; the first = ends the name.

    Raises:
        Failure: one has no name, or no value, or a name is given twice.
    """
    tags: dict[str, str] = {}
    for text in given or ():
        name, _, value = text.partition("=")
        if not name or not value:
            raise Failure(USAGE, f"{option} takes name=value, not {described(text)}.", about=option)
        if name in tags:
            raise Failure(USAGE, f"{option} gives {described(name)} twice: a run has one value of it.", about=option)
        tags[name] = value
    return tags
