"""What a retention policy would do to a run, or did, and the counts of a whole pass."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import msgspec

from ..events import StreamId
from ..storage.removing import Seen, Why
from .prune import Plan
from .retention_policy import RetentionRule

__all__ = ["Does", "Left", "RetentionPlan", "RetentionReport", "RuleReport"]

Does: TypeAlias = Literal["keep", "prune", "remove", "refuse"]
Left: TypeAlias = Why | Literal["rested on", "archive"]
"""Why a run is left alone that a rule would have shortened or removed: as a removal has it; or, rested on: branches or
forks of a session rest on it; archive: what was to go could not be archived."""


class RetentionPlan(NamedTuple):
    """What a rule would do to a run or a session; of one that was carried out, what it did."""

    rule: RetentionRule
    stream: StreamId
    does: Does
    events: int = 0
    """To remove, or removed."""
    size: int = 0
    """Bytes of their payloads."""
    head_seq: int = 0
    """The run's head when it was looked at; anything behind it, and the run is left alone."""
    head_digest: str = ""
    refused: Left | None = None
    why: str = ""
    """In words, where it is refused."""
    archive: str | None = None
    """The name of the file that has what was removed."""
    prune: Plan | None = None
    """How a part of it goes."""
    seen: Seen | None = None
    """How all of it goes; None: what closes it is there already."""
    finishes: bool = False
    """Whether it is what an earlier removal has left that goes."""

    def refuse(self, refused: Left, why: str) -> RetentionPlan:
        """The same run, left alone."""
        return self._replace(does="refuse", events=0, size=0, refused=refused, why=why, archive=None)


class RuleReport(msgspec.Struct, kw_only=True):
    """What a rule did in a pass, or would do."""

    runs: int = 0
    """That it rules; as many as the four that follow say together."""
    kept: int = 0
    pruned: int = 0
    removed: int = 0
    refused: dict[Left, int] = {}
    """Left alone, by the reason."""
    events: int = 0
    """That went."""
    bytes: int = 0
    """Of the payloads that went."""

    def include(self, other: RuleReport) -> None:
        """Count what another one counted, too."""
        for name in ("runs", "kept", "pruned", "removed", "events", "bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, count in other.refused.items():
            self.refused[reason] = self.refused.get(reason, 0) + count


class RetentionReport(msgspec.Struct, kw_only=True):
    """A pass of a policy, as far as it came; or, of plans alone, what it would do."""

    looked_at: int = 0
    """Runs and sessions, also those that no rule is for."""
    rules: dict[str, RuleReport] = {}
    """By name, each rule of the policy."""
    archives: int = 0
    """Files that were written and kept."""
    archive_names: list[str] = []
    """What they are called; of a pass alone, and not of several together."""
    given_back: int = 0
    """Bytes that the disk has again."""
    advice: str = ""
    """Why room stays taken, and what to do, as sentences; empty where nothing does."""
    seconds: float = 0.0

    @property
    def total(self) -> RuleReport:
        """All rules together."""
        whole = RuleReport()
        for rule in self.rules.values():
            whole.include(rule)
        return whole

    @property
    def fell_short(self) -> bool:
        """Whether something stays that was to go, and nobody meant it to: of a run that is on hold, is claimed or was
        written to meanwhile, or that others rest on, it is as it should be."""
        return any(rule.refused.get("damaged") or rule.refused.get("archive") for rule in self.rules.values())

    def include(self, other: RetentionReport) -> None:
        """Count what another pass did, too."""
        for name, rule in other.rules.items():
            self.rules.setdefault(name, RuleReport()).include(rule)
        for name in ("looked_at", "archives", "given_back", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.advice = other.advice

    def add(self, plan: RetentionPlan) -> None:
        """Count what a plan would do, or what became of it."""
        rule = self.rules.setdefault(plan.rule.name, RuleReport())
        rule.runs += 1
        rule.events += plan.events
        rule.bytes += plan.size
        match plan.does:
            case "keep":
                rule.kept += 1
            case "prune":
                rule.pruned += 1
            case "remove":
                rule.removed += 1
            case "refuse":
                reason = plan.refused or "moved"
                rule.refused[reason] = rule.refused.get(reason, 0) + 1
