"""What a retention policy says: which runs go, and when; as objects, and as a file of TOML.

A mistake in it costs data, so that it is read strictly: what is not known, what would remove a run that has not ended
without saying so, and what two rules say differently is refused before anything is looked at.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Self, cast

from .. import settings
from ..errors import RetentionPolicyError
from ..events import RunInfo, RunStatus
from ..moments import span_of
from ..runs import ENDED
from ..text import described, safe

__all__ = ["EVERY_WORKFLOW", "RetentionPolicy", "RetentionRule"]

EVERY_WORKFLOW: Final = "*"
"""In place of a workflow's name: every run that no rule fits which names its workflow."""

_LONGEST_NAME: Final = 255  # characters
_UNFINISHED: Final[tuple[RunStatus, ...]] = ("running", "waiting", "open")
_STATUSES: Final = frozenset({*ENDED, *_UNFINISHED})
_LARGEST: Final = 1024 * 1024  # bytes of a file; a policy has a few hundred


@dataclass(frozen=True, kw_only=True)
class RetentionRule:
    """What becomes of some runs: the last `keep` checkpoints stay of each, and a run goes wholly when nothing was
    written to it for longer than `remove_after`.

    Raises:
        ValueError, TypeError: an argument is not of its form, or they do not go together; names the rule and the
            argument.
    """

    name: str
    """What it is called in reports, and in the record of what it removed."""
    workflow: str
    """Of these runs, or `EVERY_WORKFLOW`; of sessions the `source_id`."""
    keep: int | None = None
    """How many live checkpoints, or turns, stay of each; None: all."""
    remove_after: timedelta | None = None
    """None: no run goes wholly."""
    archive: Path | None = None
    """An existing directory that keeps what is removed; None: nothing is kept."""
    status: tuple[RunStatus, ...] = ()
    """How the runs stand; empty: they have ended, as `runs.ENDED` has it."""
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    """The runs have all of these, with these values."""
    turns: bool = False
    """Sessions and their turns are meant, not runs."""
    unfinished: bool = False
    """`status` may name runs that have not ended."""
    optional: bool = False
    """The store may have no such workflow."""

    def __post_init__(self) -> None:
        settings.text("name", self.name, longest=_LONGEST_NAME)
        try:
            self._check()
        except (TypeError, ValueError) as error:
            raise type(error)(f"rule {described(self.name)}: {safe(error)}") from None

    def _check(self) -> None:
        settings.text("workflow", self.workflow)
        for name in ("turns", "unfinished", "optional"):
            settings.flag(name, getattr(self, name))
        if self.keep is None and self.remove_after is None:
            raise ValueError("keep, remove_after or both say what is to go, and it has neither.")
        if self.keep is not None:
            settings.whole_number("keep", self.keep, least=1)
        if self.remove_after is not None:
            settings.instance("remove_after", self.remove_after, timedelta, what="a timedelta")
            if self.remove_after < timedelta():
                raise ValueError(f"remove_after is a span of time, and not negative: {described(self.remove_after)}.")
        settings.text_by_name("tags", self.tags)
        if self.archive is not None:
            settings.instance("archive", self.archive, Path, what="the Path of a directory")
            if "\0" in str(self.archive):
                raise ValueError(f"archive is the path of a directory, and {described(str(self.archive))} is none.")
        for status in settings.texts("status", self.status):
            settings.choice("status", status, *sorted(_STATUSES))
        if self.turns and (self.status or self.tags or self.unfinished):
            raise ValueError("status, tags and unfinished are of runs, and with turns = true it is of sessions.")
        self._check_unfinished()

    def _check_unfinished(self) -> None:
        named = [status for status in self.status if status in _UNFINISHED]
        if named and not self.unfinished:
            raise ValueError(
                f"status names {', '.join(named)}, and such runs have not ended: say unfinished = true if they are to "
                "go all the same."
            )
        if self.unfinished and not named:
            raise ValueError(f"unfinished is true, and status names none of {', '.join(_UNFINISHED)}.")
        if self.optional and self.workflow == EVERY_WORKFLOW:
            raise ValueError("optional is of a rule for one workflow, and it is for every one.")

    @property
    def statuses(self) -> tuple[RunStatus, ...]:
        """How the runs stand that are meant."""
        return self.status or ENDED

    @property
    def rank(self) -> tuple[bool, bool]:
        """Of the rules that fit a run, that of the highest rank rules it."""
        return self.workflow != EVERY_WORKFLOW, bool(self.tags)

    def is_of(self, workflow_name: str) -> bool:
        """Whether it is for runs of this workflow."""
        return self.workflow in (EVERY_WORKFLOW, workflow_name)

    def fits(self, info: RunInfo) -> bool:
        """Whether a run, or a session, is one of those that are meant."""
        return self.is_of(info.workflow_name) and (
            self.turns or (info.status in self.statuses and self.tags.items() <= info.tags.items())
        )

    def contradicts(self, other: RetentionRule) -> bool:
        """Whether there can be a run that both fit, and nothing tells which of them rules it."""
        return (
            (self.turns, self.workflow, self.rank) == (other.turns, other.workflow, other.rank)
            and (self.turns or not set(self.statuses).isdisjoint(other.statuses))
            and all(other.tags.get(name, value) == value for name, value in self.tags.items())
        )


class RetentionPolicy:
    """The rules by which runs go. Each run is ruled by one of those that fit it, or by none, and then it stays: a rule
    that names its workflow goes before one for every workflow, and of those one with tags before one without.

    Args:
        rules: at least one.

    Raises:
        RetentionPolicyError: there is none, two have one name, or two contradict each other.
    """

    def __init__(self, rules: Iterable[RetentionRule]) -> None:
        self.rules: tuple[RetentionRule, ...] = tuple(rules)
        if not self.rules:
            raise RetentionPolicyError("A retention policy has at least one rule, and this one has none.")
        for one, other in combinations(self.rules, 2):
            if one.name == other.name:
                raise RetentionPolicyError(f"Two rules are called {described(one.name)}: give one another name.")
            if one.contradicts(other):
                raise RetentionPolicyError(
                    f"Rules {described(one.name)} and {described(other.name)} contradict each other: both are for "
                    f"{'sessions of source' if one.turns else 'runs of workflow'} {described(one.workflow)}"
                    f"{'' if one.turns else ' that may stand alike'}, and nothing tells which of them goes first."
                )
        self._by_rank = sorted(self.rules, key=lambda rule: rule.rank, reverse=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The policy in a file of TOML; docs/retention.md has its form. A directory of archives that is no absolute
        path is one beside the file.

        Raises:
            RetentionPolicyError: it cannot be read, or is none; names the rule and the key.
        """
        try:
            return cls(_rules_in(Path(path)))
        except RecursionError:
            raise RetentionPolicyError(f"{safe(path)} is no retention policy: it is nested too deep.") from None
        except (OSError, TypeError, ValueError) as error:
            raise RetentionPolicyError(f"{safe(path)} is no retention policy: {safe(error)}") from error

    def rule_of(self, info: RunInfo, *, turns: bool = False) -> RetentionRule | None:
        """The rule of a run, or with `turns` of a session; None: it stays."""
        return next((rule for rule in self._by_rank if rule.turns == turns and rule.fits(info)), None)

    def finishing(self, workflow_name: str, *, turns: bool = False) -> RetentionRule | None:
        """The rule under which a removal of a run of this workflow that was cut off is finished."""
        fitting = (rule for rule in self._by_rank if rule.turns == turns and rule.is_of(workflow_name))
        return next((rule for rule in fitting if rule.remove_after is not None), None)


_KEYS: Final = frozenset(each.name for each in fields(RetentionRule)) - {"name"}
"""What a rule in a file may have: what the objects have."""


def _rules_in(path: Path) -> list[RetentionRule]:
    with path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"it has more than {_LARGEST:,} bytes.")
    found: dict[str, Any] = tomllib.loads(data.decode("utf-8-sig"))
    rules: object = found.pop("rules", None)
    if found:
        raise ValueError(f"the key {described(next(iter(found)))} is not known: a policy has [rules.NAME] alone.")
    if not isinstance(rules, dict):
        raise ValueError("it has no [rules.NAME].")
    return [_rule(name, table, path.parent) for name, table in cast("dict[str, object]", rules).items()]


def _rule(name: str, table: object, folder: Path) -> RetentionRule:
    """A rule as a file has it. What its values may be, the rule itself tells."""
    try:
        if not isinstance(table, dict):
            raise TypeError(f"it is a table, [rules.NAME], not {described(table)}.")
        written = cast("dict[str, Any]", table)
        if unknown := written.keys() - _KEYS:
            raise ValueError(f"the key {described(min(unknown))} is not known.")
        if "workflow" not in written:
            raise ValueError("workflow is missing.")
        read: dict[str, Callable[[object], Any]] = {
            "remove_after": _span,
            "status": _statuses,
            "archive": partial(_directory, folder),
        }
        values: dict[str, Any] = {key: read[key](value) if key in read else value for key, value in written.items()}
    except (TypeError, ValueError) as error:
        raise type(error)(f"rule {described(name)}: {safe(error)}") from None
    return RetentionRule(name=name, **values)


def _span(value: object) -> timedelta:
    span = span_of(value) if isinstance(value, str) else None
    if span is None:
        raise ValueError(f"remove_after takes a span such as 12h, 30d or 52w, not {described(value)}.")
    return span


def _statuses(value: object) -> tuple[str, ...]:
    statuses = (value,) if isinstance(value, str) else tuple(settings.texts("status", value))
    if not statuses:
        raise ValueError("status is empty: leave it out where runs that have ended are meant.")
    return statuses


def _directory(folder: Path, value: object) -> Path:
    return folder / settings.text("archive", value)
