"""Carrying out the plans of a retention policy: a batch at a time, archived, recorded, and then removed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Final

from ..errors import CheckpointStoreError, StreamConflict
from ..removals import Removals
from ..side_by_side import side_by_side
from ..storage.claiming import Claims
from ..storage.removing import RunRemoval, ToRemove, remove_runs
from ..stores import AuditStore
from ..stores.walks import RUNS_AT_ONCE, headers_of
from ..threads import in_thread
from .kinds import RUNS, TURNS
from .prune import shorten
from .retention_archive import Archive, ArchiveError, archive_runs, refusal_of_directory
from .retention_report import RetentionPlan

__all__ = ["Batches", "RetentionWork"]

_WAITING: Final = 8 * RUNS_AT_ONCE  # plans that wait for their batch to fill, over all of them


class Batches:
    """Plans as they come, put together."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str, str], list[RetentionPlan]] = {}
        self._count = 0

    def add(self, plan: RetentionPlan) -> list[list[RetentionPlan]]:
        """Take in a plan that removes something; the batches that are to be carried out now, each of one rule and one
        workflow."""
        key = (plan.rule.name, plan.stream.workflow_name, plan.does)
        batch = self._waiting.setdefault(key, [])
        batch.append(plan)
        self._count += 1
        if len(batch) == RUNS_AT_ONCE:
            self._count -= len(batch)
            return [self._waiting.pop(key)]
        return self.rest() if self._count == _WAITING else []

    def rest(self) -> list[list[RetentionPlan]]:
        """All that wait."""
        batches = list(self._waiting.values())
        self._waiting, self._count = {}, 0
        return batches


class RetentionWork:
    """Carries out the batches of a pass over a store.

    Args:
        store: that of the runs, or of the sessions.
        actor: who does it.
        claims: what has seen the claims on the runs; None: of sessions, which have none.
        done: called with what became of each run.
        archived: called with each archive that is kept.
        still: called before each step of a batch; what it raises ends the pass.
    """

    def __init__(
        self,
        store: AuditStore,
        *,
        actor: str | None,
        claims: Claims | None,
        done: Callable[[RetentionPlan], None],
        archived: Callable[[Archive], None],
        still: Callable[[], None],
    ) -> None:
        self._store = store
        self._actor = actor
        self._claims = claims
        self._done = done
        self._archived = archived
        self._still = still
        self._refusing: dict[Path, str] = {}
        """Directories that an archive could not be written to, and why: they are not tried again in this pass."""

    async def carry_out(self, plans: Sequence[RetentionPlan]) -> None:
        """Carry out a batch.

        Raises:
            CheckpointStoreError: the store failed. Nothing is removed that is not archived and recorded.
        """
        self._still()
        directory = plans[0].rule.archive
        if directory is None:
            await self._go(plans, None)
            return
        try:
            archive = await self._archive(plans, directory)
        except ArchiveError as error:
            self._refusing[directory] = str(error)
            for plan in plans:
                self._done(plan.refuse("archive", str(error)))
            return
        await self._go_from(archive, self._in(archive, plans), directory)

    async def _go_from(self, archive: Archive, plans: Sequence[RetentionPlan], directory: Path) -> None:
        """What is in an archive goes, or the archive does, if nothing of it did. Where that cannot be told, as when
        this is cancelled, it is kept."""
        went = 1
        try:
            self._still()
            went = await self._go(plans, archive)
        except Exception:
            with suppress(CheckpointStoreError):  # the failure before it is what is told
                went = 0 if await self._are_as_seen(plans) else 1
            raise
        finally:
            if went and archive.is_kept:
                self._archived(archive)
            elif archive.is_kept:
                with suppress(OSError):  # it is whole, and in nobody's way
                    await in_thread((directory / archive.name).unlink)

    async def _are_as_seen(self, plans: Sequence[RetentionPlan]) -> bool:
        """Whether each of the runs was to get a record before anything of it is removed, or told to be, and none did.
        Of what a removal or a prune before was cut off at, the record was there already."""
        for plan in plans:
            headers = await headers_of(self._store, plan.stream)
            if not headers or headers[-1].digest != plan.head_digest:
                return False
            seqs = plan.prune.seqs if plan.prune is not None else plan.seen.seqs if plan.seen is not None else ()
            if all(map(Removals(headers).covers, seqs)):
                return False
        return True

    async def _go(self, plans: Sequence[RetentionPlan], archive: Archive | None) -> int:
        """Remove, or shorten, what plans say; of how many runs something went."""
        if not plans:
            return 0
        return await (self._remove if plans[0].does == "remove" else self._prune)(plans, archive)

    async def _archive(self, plans: Sequence[RetentionPlan], directory: Path) -> Archive:
        if why := self._refusing.get(directory) or await in_thread(refusal_of_directory, directory):
            raise ArchiveError(why)
        kind = TURNS if plans[0].rule.turns else RUNS
        streams = [plan.stream for plan in plans]
        return await archive_runs(self._store, streams, directory, label=plans[0].stream.workflow_name, kind=kind)

    def _in(self, archive: Archive, plans: Sequence[RetentionPlan]) -> list[RetentionPlan]:
        """Those of the plans whose runs are in an archive, whole, as they were when they were planned."""
        there: list[RetentionPlan] = []
        for plan in plans:
            if archive.heads.get(plan.stream) != plan.head_digest:
                self._done(plan.refuse("moved", "was written to since it was looked at"))
            elif damage := archive.damaged.get(plan.stream):
                self._done(plan.refuse("damaged", damage))
            else:
                there.append(plan)
        return there

    async def _remove(self, plans: Sequence[RetentionPlan], archive: Archive | None) -> int:
        went, by_stream = 0, {plan.stream: plan for plan in plans}

        async def wanted() -> AsyncGenerator[ToRemove, None]:
            for plan in plans:
                yield ToRemove(plan.stream, plan.head_digest, plan.seen, only_left=plan.finishes)

        removing = remove_runs(
            self._store,
            wanted(),
            actor=self._actor,
            reason=f"retention: {plans[0].rule.name}",
            archive=archive.name if archive else None,
            archive_sha256=archive.sha256 if archive else None,
            force=True,
            claims=self._claims,
        )
        async with aclosing(removing) as removals:
            async for removal in removals:
                went += removal.state == "removed"
                self._done(_removed(by_stream[removal.stream], removal, archive))
        return went

    async def _prune(self, plans: Sequence[RetentionPlan], archive: Archive | None) -> int:
        shortened = await side_by_side(self._shortened, plans)
        for plan in shortened:
            self._done(plan._replace(archive=archive.name if archive and plan.does == "prune" else None))
        await self._store.remove_orphaned_parts()
        return sum(plan.does == "prune" for plan in shortened)

    async def _shortened(self, plan: RetentionPlan) -> RetentionPlan:
        if plan.prune is None:
            return plan
        try:
            return plan._replace(events=await shorten(self._store, plan.prune, actor=self._actor))
        except StreamConflict:
            return plan.refuse("moved", "was written to since it was looked at")


def _removed(plan: RetentionPlan, removal: RunRemoval, archive: Archive | None) -> RetentionPlan:
    """What became of a run that was to go."""
    if removal.refusal is not None:
        return plan.refuse(removal.refusal.kind, removal.refusal.why)
    if removal.state != "removed":
        return plan.refuse("moved", "was removed by somebody else meanwhile")
    return plan._replace(
        events=removal.events, size=removal.stored_size, archive=archive.name if archive is not None else None
    )
