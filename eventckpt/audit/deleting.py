"""What removes from a store, for `CheckpointAudit`: of runs their old events, and whole runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from datetime import datetime
from typing import Any

from ..errors import CheckpointConflictError, StreamConflict
from ..events import REMOVALS, CheckpointEvent, StreamId
from ..history.branches import streams_of
from ..moments import moment_of
from ..removals import Removals
from ..storage.removing import RunRemoval, ToRemove, closing_of, parted, remove_runs
from ..stores import AuditStore, head_of
from ..stores.walks import headers_of, runs_of
from .deletion import Deletion, deletion_of
from .kinds import TURNS, LogKind
from .prune import Plan, carry_out, plan_for
from .removed import RecordedRemovals, Removed
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
        headers = await headers_of(self.store, stream)
        if (closing := closing_of(headers)) is None:
            return None
        left, _ = parted(headers)
        return await RecordedRemovals(self.store).of(closing, len(left))

    async def plan_delete(
        self, streams: Iterable[StreamId] | None = None, *, before: datetime | None = None, force: bool = False
    ) -> AsyncGenerator[Deletion, None]:
        """What a removal of these runs as a whole, or of all, would remove. A session goes with its branches.

        Args:
            streams: the runs; None: all.
            before: pass over runs that were last written to at this time or later.
            force: also remove a run that has not ended, and a session that forks rest on.
        """
        async with aclosing(self._each(streams)) as each:
            chosen = None if streams is None else [stream async for stream in each]
        if chosen is not None and self.kind is TURNS:
            chosen = [each for one in chosen for each in await streams_of(self.store, one)]
        chosen = None if chosen is None else list(dict.fromkeys(chosen))
        others, recorded, going = Rests(self.store), RecordedRemovals(self.store), frozenset(chosen or ())
        async with aclosing(self._each(chosen)) as each, aclosing(runs_of(self.store, each)) as runs:
            async for stream, headers in runs:
                if not headers or not _is_older(headers[-1], before):
                    continue
                plan = await deletion_of(self.store, headers, recorded, force=force or self.kind is TURNS)
                if self.kind is TURNS and chosen is not None and not force and not plan.refused:
                    plan = plan._replace(refused=_rested_on([*await others.upon(stream) - going]))
                yield plan

    async def delete(
        self,
        plans: Iterable[Deletion],
        *,
        reason: str | None = None,
        archive: str | None = None,
        archive_sha256: str | None = None,
    ) -> AsyncGenerator[RunRemoval, None]:
        """Remove what plans say; what became of each run, in their order, of those that no plan refuses. A run that was
        written to since its plan is left alone. What an earlier removal has left goes in any case. Go through all of
        it: what is not asked for is not removed.

        Args:
            plans: what `plan_delete` gave; those of one workflow next to each other are recorded by one event.
            reason: why, 1 to 1,000 characters, kept on the record.
            archive: the name of the file that has what is removed, kept on the record.
            archive_sha256: of that file, hexadecimal.

        Raises:
            TypeError, ValueError: an argument is not of this form.
            CheckpointStoreError: the engine failed. Nothing is removed that is not recorded; do it again.
        """

        async def wanted() -> AsyncGenerator[ToRemove, None]:
            for plan in plans:
                if plan.goes_on or not plan.refused:
                    yield ToRemove(plan.stream, plan.head_digest, only_left=plan.goes_on)

        # Forced, since the plan has said what it says of the run with this very head.
        removals = remove_runs(
            self.store,
            wanted(),
            actor=self._actor,
            reason=reason,
            archive=archive,
            archive_sha256=archive_sha256,
            force=True,
        )
        async with aclosing(removals):
            async for removal in removals:
                yield removal

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


def _is_older(head: CheckpointEvent, before: datetime | None) -> bool:
    """Whether a run was last written to before a time; one of which that cannot be told was not."""
    moment = moment_of(head.recorded_at)
    return before is None or (moment is not None and moment < before)


def _rested_on(others: list[StreamId]) -> str:
    """Why a session is left alone on which others rest; empty: none does."""
    if not others:
        return ""
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return f"is what {min(others).run_id!r}{more} went off from; force removes it all the same"
