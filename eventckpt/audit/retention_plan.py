"""Which rule of a policy rules a run, and what it does to it: from the run's headers, a page of runs at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime

from ..events import CheckpointEvent, RunInfo, StreamId
from ..moments import moment_of
from ..runs import counted, fold
from ..storage.claiming import Claims
from ..storage.damage import broken_in
from ..storage.removing import Refusal, parted, refusal_of, seen_in
from ..stores import AuditStore, RunStore
from ..stores.walks import runs_of
from .prune import plan_for
from .rests import Rests
from .retention_policy import EVERY_WORKFLOW, RetentionPolicy, RetentionRule
from .retention_report import RetentionPlan

__all__ = ["Planner"]


class Planner:
    """Plans a pass over the runs of a store, or over its sessions.

    Args:
        store: that of the runs, or of the sessions.
        policy: what it says.
        now: what ages are counted up to.
        claims: what has seen the claims on the runs; None: of sessions, which have none.
        documents: where candidates are looked for; None: every run of the log is one.
        looked_at: called for each run.
    """

    def __init__(
        self,
        store: AuditStore,
        policy: RetentionPolicy,
        now: datetime,
        *,
        claims: Claims | None,
        documents: RunStore | None,
        looked_at: Callable[[], None],
    ) -> None:
        self._store = store
        self._policy = policy
        self._now = now
        self._claims = claims
        self._turns = claims is None
        self._documents = documents
        self._looked_at = looked_at
        self._rests = Rests(store)

    async def plans(self) -> AsyncGenerator[RetentionPlan, None]:
        """A plan for each run that a rule rules."""
        async with (
            aclosing(self._candidates()) as candidates,
            aclosing(runs_of(self._store, candidates)) as runs,
        ):
            async for _, headers in runs:
                self._looked_at()
                if (plan := await self._planned(headers)) is not None:
                    yield plan

    async def _candidates(self) -> AsyncGenerator[StreamId, None]:
        """The runs that the policy may have something to say of, or a few more."""
        named = {rule.workflow for rule in self._policy.rules if rule.turns == self._turns}
        for workflow in [None] if EVERY_WORKFLOW in named else sorted(named):
            async with aclosing(self._of_workflow(workflow)) as streams:
                async for stream in streams:
                    yield stream

    async def _of_workflow(self, workflow_name: str | None) -> AsyncGenerator[StreamId, None]:
        if self._documents is None:
            async with aclosing(self._store.streams(workflow_name=workflow_name, emptied=False)) as streams:
                async for stream in streams:
                    yield stream
            return
        async with aclosing(self._documents.all(workflow_name)) as infos:
            async for info in infos:
                if self._may_go(info):
                    yield info.stream

    def _may_go(self, info: RunInfo) -> bool:
        """Whether a document is worth a look at the log, which alone decides: a document may be late, and then the run
        was written to since."""
        rule = self._policy.rule_of(info, turns=self._turns)
        if rule is None:
            return info.status == "idle"  # of 0.1.0, which does not tell
        return rule.keep is not None or info.removed > 0 or self._is_old(rule, info.recorded_at)

    async def _planned(self, headers: list[CheckpointEvent]) -> RetentionPlan | None:
        info = fold(headers)
        if info is None:
            return None  # it went since it was listed
        left, _ = parted(headers) if info.removed else ([], headers)
        if left and (plan := self._finished(headers, left)) is not None:
            return plan
        if info.is_emptied:
            return None
        rule = self._policy.rule_of(info, turns=self._turns)
        if rule is None:
            return None
        if self._is_old(rule, _last_written(headers)):
            return await self._removed(rule, info, headers)
        return _plan(rule, headers) if rule.keep is None else await self._pruned(rule, rule.keep, info, headers)

    def _finished(self, headers: list[CheckpointEvent], left: list[CheckpointEvent]) -> RetentionPlan | None:
        """What a removal that was cut off has left of a run. Where that was begun again, the next pass judges it."""
        rule = self._policy.finishing(headers[-1].workflow_name, turns=self._turns)
        if rule is None:
            return None
        size = seen_in(left).stored_size
        return _plan(rule, headers)._replace(does="remove", events=len(left), size=size, finishes=True)

    async def _removed(self, rule: RetentionRule, info: RunInfo, headers: list[CheckpointEvent]) -> RetentionPlan:
        plan = _plan(rule, headers)
        if (refusal := _refusal(headers, info)) is not None:
            return plan.refuse(refusal.kind, refusal.why)
        if await self._rest(info.stream):
            return plan.refuse("rested on", "is what branches or forks rest on; it goes when they are gone")
        if self._claims is not None and headers[-1].claim:
            holder = await self._claims.holder(info.stream)
            if holder is not None:
                return plan.refuse("claimed", f"is {holder.named()}")
        seen = seen_in(headers)
        return plan._replace(does="remove", events=len(seen.seqs), size=seen.stored_size, seen=seen)

    async def _pruned(
        self, rule: RetentionRule, keep: int, info: RunInfo, headers: list[CheckpointEvent]
    ) -> RetentionPlan:
        plan = _plan(rule, headers)
        if (refusal := _refusal(headers, info)) is not None:
            return plan.refuse(refusal.kind, refusal.why)
        prune = plan_for(headers, keep=keep, force=True, rests=await self._rest(info.stream))
        if not prune.stored_size:
            return plan  # what would go holds nothing, such as annotations that the record repeats
        return plan._replace(does="prune", events=len(prune.seqs), size=prune.stored_size, prune=prune)

    async def _rest(self, stream: StreamId) -> int:
        """The last seq of a session that others rest on."""
        return await self._rests.up_to(stream) if self._turns else 0

    def _is_old(self, rule: RetentionRule, written_at: str) -> bool:
        """Whether a run goes wholly that was last written to then. What is no time, or has yet to come, is young."""
        moment = moment_of(written_at)
        return rule.remove_after is not None and moment is not None and self._now - moment >= rule.remove_after


def _refusal(headers: list[CheckpointEvent], info: RunInfo) -> Refusal | None:
    """Why a run stays, whatever a rule says: it may not have ended, and damage is for people to look at."""
    if damage := broken_in(headers):
        return Refusal("damaged", damage)
    return refusal_of(headers, force=True, info=info)


def _last_written(headers: list[CheckpointEvent]) -> str:
    """When a run was last written to. The record of a removal makes it no younger: a rule that shortens runs day by day
    would keep them for good."""
    written = (header for header in reversed(counted(headers)) if not header.is_removal)
    return next(written, headers[-1]).recorded_at


def _plan(rule: RetentionRule, headers: list[CheckpointEvent]) -> RetentionPlan:
    head = headers[-1]
    return RetentionPlan(rule, head.stream, "keep", head_seq=head.seq, head_digest=head.digest)
