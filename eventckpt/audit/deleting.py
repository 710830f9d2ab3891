"""What removes from a store, for `CheckpointAudit`: of runs their old events, and whole runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from datetime import datetime
from typing import Any

from ..errors import CheckpointConflictError, StreamConflict
from ..events import REMOVALS, StreamId
from ..removals import Removals
from ..stores import AuditStore, head_of
from ..stores.walks import headers_of, runs_of
from .kinds import TURNS, LogKind
from .prune import Plan, carry_out, plan_for
from .removed import RecordedRemovals, Removed, closing_of
from .rests import Rests

__all__ = ["Deleting"]


class Deleting:
    """The part of `CheckpointAudit` that removes.

    Args:
        store: of runs, or of sessions.
        kind: which of them.
        actor: who removes, kept on the events that this writes.
    """

    def __init__(self, store: AuditStore, kind: LogKind, actor: str | None) -> None:
        self.store: AuditStore = store
        self.kind: LogKind = kind
        self._actor = actor

    async def plan_prune(
        self,
        streams: Iterable[StreamId] | None = None,
        *,
        keep: int,
        before: datetime | None = None,
        only_finished: bool = False,
        force: bool = False,
    ) -> AsyncGenerator[Plan, None]:
        """What a prune of these runs, or of all, would remove; see `eventckpt.audit.prune`."""
        limits: dict[str, Any] = {"keep": keep, "before": before, "only_finished": only_finished, "force": force}
        others = Rests(self.store)
        async with aclosing(self._each(streams)) as each, aclosing(runs_of(self.store, each)) as runs:
            async for stream, headers in runs:
                if headers:
                    plan = plan_for(headers, **limits, rests=await others.up_to(stream) if self.kind is TURNS else 0)
                    unmarked = [] if plan.refused else await self.store.unmarked(stream, Removals(headers))
                    yield plan._replace(unmarked=tuple(unmarked))

    async def prune(self, plan: Plan) -> int:
        """Record and remove what a plan says; how many events were removed.

        Raises:
            CheckpointConflictError: the run was written to since. Nothing was removed.
        """
        try:
            return await carry_out(self.store, plan, actor=self._actor)
        except StreamConflict as conflict:
            stays = conflict.head is not None and conflict.head.seq == plan.head_seq
            raise CheckpointConflictError(
                f"Run {plan.stream.run_id!r} of workflow {plan.stream.workflow_name!r} "
                + (
                    f"takes no event at seq {plan.head_seq + 1}, and none is seen there; nothing of it was removed. "
                    "Plan again in a moment. If that does not help, its import was cut off, or its newest events are "
                    "gone: import it again."
                    if stays
                    else "was written to meanwhile; nothing of it was removed. Plan again."
                ),
                stream=plan.stream,
                expected_seq=plan.head_seq + 1,
                head=conflict.head,
            ) from conflict

    async def removed(self, stream: StreamId) -> Removed | None:
        """Who removed a run as a whole, when and why, the last time that somebody did; None: nobody has. It may have
        been begun again since, which `info` tells."""
        closing = closing_of(await headers_of(self.store, stream))
        return None if closing is None else await RecordedRemovals(self.store).of(closing)

    async def _each(self, streams: Iterable[StreamId] | None) -> AsyncGenerator[StreamId, None]:
        if streams is not None:
            for stream in streams:
                yield stream
            return
        async with aclosing(self.store.streams()) as found:
            async for stream in found:
                yield stream

    async def _logs(self, workflow_name: str | None = None) -> AsyncGenerator[StreamId, None]:
        """Every log that there is, or every log of a workflow: first what tells of removals, so that what it tells of
        was closed before it was read, then the runs."""
        if workflow_name is not None:
            removals = StreamId(workflow_name, REMOVALS)
            if await head_of(self.store, removals) is not None:
                yield removals
        else:
            async with aclosing(self.store.removal_streams()) as found:
                async for stream in found:
                    yield stream
        async with aclosing(self.store.streams(workflow_name=workflow_name)) as found:
            async for stream in found:
                yield stream
