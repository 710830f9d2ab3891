"""Retention: a policy carried out over a whole store, in one pass.

What goes is archived first, where the rule says so: a whole export, written and read back. Then it is recorded, then it
goes. A pass that is cut off at any moment has removed nothing that is not archived and recorded, and the next one
finishes what it began.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from .. import settings
from ..clock import SYSTEM_CLOCK, Clock
from ..errors import RetentionPolicyError, StoreNotFoundError
from ..moments import NEVER, moment_of
from ..storage import Latest
from ..storage.claiming import Claims
from ..stores import AuditStore, RunStore
from ..text import described
from ..threads import in_thread
from .retention_archive import Archive, refusal_of_directory
from .retention_plan import Planner
from .retention_policy import EVERY_WORKFLOW, RetentionPolicy
from .retention_report import RetentionPlan, RetentionReport, RuleReport
from .retention_work import Batches, RetentionWork

__all__ = ["Retention"]

_MUCH: Final = 0.25
"""Of a store's room: if as much is free, also a pass that removes nothing gives it back, as one before it may not have
come to."""


def _always() -> None:
    """Nobody else takes turns with a pass."""


class Retention:
    """A policy over a store.

    Args:
        store: the engine. It is not closed with this.
        policy: which runs go.
        actor: who does this, kept on what is written.
        latest: where runs are looked for that may go: in the "log", or in the "projection", which is quicker where most
            stay, unless that has no document at all. Each is looked at in the log before anything is removed. What an
            earlier pass left when it was cut off is found in the log alone.
        clock: the time that ages are counted up to.

    Raises:
        ValueError, TypeError: an argument is not of the form above.
    """

    def __init__(
        self,
        store: AuditStore,
        policy: RetentionPolicy,
        *,
        actor: str | None = None,
        latest: Latest = "log",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._store = settings.instance("store", store, AuditStore, what="an AuditStore")
        self.policy: RetentionPolicy = settings.instance("policy", policy, RetentionPolicy, what="a RetentionPolicy")
        settings.choice("latest", latest, "log", "projection")
        if actor is not None:
            settings.text("actor", actor)
        self._actor = actor
        self._latest = latest
        self._clock = clock
        self._claims = Claims(store, clock)

    async def check(self) -> None:
        """See whether the policy names what the store has; `plan` and `carry_out` begin with this.

        Raises:
            RetentionPolicyError: a rule that is not `optional` is for a workflow that the store does not have.
            CheckpointStoreError: the store failed, or keeps no sessions and a rule is for some.
        """
        for rule in self.policy.rules:
            if rule.optional or rule.workflow == EVERY_WORKFLOW:
                continue
            store, _ = self._of(rule.turns)
            async with aclosing(store.streams(workflow_name=rule.workflow)) as streams:
                if await anext(streams, None) is None:
                    what = "sessions of source" if rule.turns else "runs of workflow"
                    raise RetentionPolicyError(
                        f"Rule {described(rule.name)} is for {what} {described(rule.workflow)}, and the store has "
                        "none: see how it is written, or say optional = true. Nothing was removed."
                    )

    async def plan(self, *, report: RetentionReport | None = None) -> AsyncGenerator[RetentionPlan, None]:
        """What a pass would do to each run that a rule rules; nothing is changed. Runs first, then sessions.

        Args:
            report: where what was looked at is counted, and each plan as it is given.

        Raises:
            RetentionPolicyError, CheckpointStoreError: see `check`.
        """
        report = RetentionReport() if report is None else report
        began = self._clock.monotonic()
        report.rules = {rule.name: RuleReport() for rule in self.policy.rules}
        await self.check()
        archives = [(rule.name, rule.archive) for rule in self.policy.rules if rule.archive is not None]
        refused = {name: await in_thread(refusal_of_directory, archive) for name, archive in archives}
        for turns in self._kinds():
            async with aclosing(self._plans(turns, report)) as plans:
                async for each in plans:
                    why = refused.get(each.rule.name) if each.does in ("prune", "remove") else None
                    plan = each.refuse("archive", why) if why else each
                    report.add(plan)
                    yield plan
        report.seconds = self._clock.monotonic() - began

    async def carry_out(
        self,
        *,
        told: Callable[[RetentionPlan], None] | None = None,
        so_far: Callable[[RetentionReport], None] | None = None,
        still: Callable[[], None] = _always,
    ) -> RetentionReport:
        """One pass: archive, record and remove what the policy says; what was done.

        Args:
            told: called with what became of each run that a rule rules.
            so_far: called with what was done by then, now and then, and at the end, whatever ends the pass.
            still: called before a batch is archived, and again before anything of it is removed: what it raises ends
                the pass, for who takes turns with others.

        Raises:
            RetentionPolicyError: see `check`. Nothing was removed.
            CheckpointStoreError: the store failed. What `so_far` was told of is done; another pass goes on.
        """
        report, began = RetentionReport(), self._clock.monotonic()
        report.rules = {rule.name: RuleReport() for rule in self.policy.rules}

        def done(plan: RetentionPlan) -> None:
            report.add(plan)
            if told is not None:
                told(plan)

        def counted() -> None:
            report.seconds = self._clock.monotonic() - began
            if so_far is not None:
                so_far(report)

        try:
            await self.check()
            for turns in self._kinds():
                await self._carry_out(turns, report, done, counted, still)
            gives = report.total.events > 0 or await self._store.free_share() >= _MUCH
            if gives and (space := await self._store.give_back()) is not None:
                report.given_back, report.advice = max(0, space.before - space.after), space.advice
        finally:
            counted()
        return report

    async def _carry_out(
        self,
        turns: bool,
        report: RetentionReport,
        done: Callable[[RetentionPlan], None],
        counted: Callable[[], None],
        still: Callable[[], None],
    ) -> None:
        """A pass over the runs, or over the sessions."""

        def archived(archive: Archive) -> None:
            report.archives += 1
            report.archive_names.append(archive.name)

        store, claims = self._of(turns)
        work = RetentionWork(store, actor=self._actor, claims=claims, done=done, archived=archived, still=still)
        batches = Batches()
        async with aclosing(self._plans(turns, report)) as plans:
            async for plan in plans:
                if plan.does not in ("prune", "remove"):
                    done(plan)
                    continue
                for batch in batches.add(plan):
                    await work.carry_out(batch)
                    counted()
        for batch in batches.rest():
            await work.carry_out(batch)
            counted()

    async def _plans(self, turns: bool, report: RetentionReport) -> AsyncGenerator[RetentionPlan, None]:
        store, claims = self._of(turns)
        documents = await _documents(store) if self._latest == "projection" else None

        def looked_at() -> None:
            report.looked_at += 1

        now = moment_of(self._clock.timestamp()) or NEVER
        planner = Planner(store, self.policy, now, claims=claims, documents=documents, looked_at=looked_at)
        async with aclosing(planner.plans()) as plans:
            async for plan in plans:
                yield plan

    def _kinds(self) -> list[bool]:
        """False: the policy has rules for runs; True: it has rules for sessions."""
        return sorted({rule.turns for rule in self.policy.rules})

    def _of(self, turns: bool) -> tuple[AuditStore, Claims | None]:
        """The runs and what has seen the claims on them, or with `turns` the sessions, which have none."""
        return (self._store.sessions(), None) if turns else (self._store, self._claims)


async def _documents(store: AuditStore) -> RunStore | None:
    """Those of the projection in use; None: there are none, as where no projector ever ran."""
    documents = store.run_store()
    try:
        return None if await documents.is_empty() else documents
    except StoreNotFoundError:
        return None
