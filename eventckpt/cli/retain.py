"""The command that carries out a retention policy."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from ..audit import Latest, Retention, RetentionPlan, RetentionPolicy, RetentionReport
from ..errors import CheckpointStoreError
from .options import Actor
from .output import Column, Output
from .session import FOUND_WRONG, Session, command

__all__ = ["commands", "retain"]

commands: Final = typer.Typer()

_COLUMNS: Final = [
    Column("rule", holds="id"),
    Column("of", holds="id", rank=1),
    *(
        Column(head, right=True, rank=rank)
        for head, rank in (("looked at", 2), ("stay", 2), ("shortened", 0), ("removed", 0), ("left alone", 0))
    ),
    *(Column(head, right=True, rank=3) for head in ("events", "bytes")),
]


@command(commands, "retain", of_runs="a rule of the policy is about sessions where it says turns = true.")
async def retain(
    session: Session,
    policy: Annotated[Path, typer.Option("--policy", help="The file that says which runs go, and when.")],
    execute: Annotated[bool, typer.Option("--execute", help="Do it; without it, only say what would be done.")] = False,
    projection: Annotated[
        bool, typer.Option("--projection", help="Look for runs in the latest documents: quicker where most stay.")
    ] = False,
    actor: Actor = None,
) -> int:
    """Archive, shorten and remove runs as a policy says, each by one of its rules. Without --execute, only say what
    would be done. What is left alone though a rule would have it go is named, and why.

    Exits with 1 where a run is damaged, or could not be archived: it stays.
    """
    rules = RetentionPolicy.load(policy)
    audit = await session.audit(writes=execute)
    latest: Latest = "projection" if projection else "log"
    retention = Retention(audit.store, rules, actor=actor, latest=latest)
    report, told = RetentionReport(), _Told(session.out)
    if execute:
        report = await _carried_out(session.out, retention, told)
    else:
        async with aclosing(retention.plan(report=report)) as plans:
            async for plan in plans:
                told(plan)
        told.rest()
        _report(session.out, rules, report, "Would remove")
    return FOUND_WRONG if report.fell_short else 0


async def _carried_out(out: Output, retention: Retention, told: _Told) -> RetentionReport:
    """A pass; what was done is told, whatever ends it."""
    latest = RetentionReport()

    def so_far(report: RetentionReport) -> None:
        nonlocal latest
        latest = report
        done(report.total.events)

    try:
        with out.progress("events removed") as done:
            report = await retention.carry_out(told=told, so_far=so_far)
    except (CheckpointStoreError, asyncio.CancelledError):
        told.rest()
        if latest.looked_at:
            _report(out, retention.policy, latest, "It STOPPED before the end; another pass goes on. Removed")
        raise
    told.rest()
    _report(out, retention.policy, report, "Removed")
    return report


class _Told:
    """Says what becomes of runs, as it comes; of those that cannot be archived, in the end how many they are."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._unarchived = Counter[tuple[str, str]]()

    def __call__(self, plan: RetentionPlan) -> None:
        _tell(self._out, plan)
        if plan.refused == "archive":
            self._unarchived[plan.rule.name, plan.why] += 1

    def rest(self) -> None:
        for (rule, why), count in self._unarchived.items():
            self._out.line(f"rule {rule}: {count:,} left alone: {why}")


def _tell(out: Output, plan: RetentionPlan) -> None:
    """A run that does not just stay."""
    if plan.does == "keep":
        return
    out.record(
        "retention",
        {
            "workflow_name": plan.stream.workflow_name,
            "run_id": plan.stream.run_id,
            "turns": plan.rule.turns,
            "rule": plan.rule.name,
            "does": plan.does,
            "events": plan.events,
            "bytes": plan.size,
            "head_seq": plan.head_seq,
            "refused": plan.refused,
            "why": plan.why or None,
            "archive": plan.archive,
        },
    )
    if plan.does == "refuse" and plan.refused != "archive":  # those are told of together
        what = "session" if plan.rule.turns else "run"
        out.line(f"{what} {plan.stream.run_id} of {plan.stream.workflow_name}: left alone: {plan.why}")


def _report(out: Output, policy: RetentionPolicy, report: RetentionReport, done: str) -> None:
    rows: list[list[str]] = []
    for rule in policy.rules:
        told = report.rules[rule.name]
        out.record("rule", {"rule": rule.name, "workflow_name": rule.workflow, **_fields(told)})
        counts = (told.runs, told.kept, told.pruned, told.removed, sum(told.refused.values()), told.events, told.bytes)
        rows.append([rule.name, rule.workflow, *(f"{count:,}" for count in counts)])
    if not out.as_json:
        out.table(_COLUMNS, rows)
    for name in report.archive_names:
        out.line(f"Archive: {name}")
    total, executed = report.total, done != "Would remove"
    out.record(
        "summary",
        {
            "executed": executed,
            "looked_at": report.looked_at,
            **_fields(total),
            "archives": report.archives,
            "given_back": report.given_back,
            "advice": report.advice,
            "seconds": round(report.seconds, 3),
        },
    )
    text = f"{total.removed:,} of {report.looked_at:,} and shorten {total.pruned:,}"
    text = text if not executed else text.replace(" and shorten ", ", and shortened ")
    end = f" {report.given_back:,} bytes are free on the disk again." if report.given_back else ""
    hint = "" if executed or not total.events else " Add --execute to do it."
    out.line(f"{done} {text}: {total.events:,} events, {total.bytes:,} bytes of payload.{hint}{end}")
    if report.advice:
        out.line(report.advice)


def _fields(told: Any) -> dict[str, Any]:
    return msgspec.to_builtins(told)
