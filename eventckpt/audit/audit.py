"""The log as something people can ask: which runs there are, what happened in them, what they knew, and whether it is
still what was written.

Everything but the states themselves is answered from headers: nothing is decoded, and no payload is read. States
are shown as trees (`eventckpt.codec.tree`), without making anything stored alive; only `checkpoint` and `states`
decode, under the allow-list.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Literal

from agent_framework import Message, WorkflowCheckpoint

from .. import settings
from ..codec import OnDrift, Upcaster
from ..codec.tree import Tree
from ..errors import CheckpointConflictError, StreamConflict
from ..events import CheckpointEvent, Outcome, RunInfo, RunStatus, StreamId
from ..runs import fold
from ..storage import Latest
from ..storage.annotations import annotate, change_of
from ..stores import AuditStore, Check
from ..stores.walks import headers_of
from ..threads import off_the_loop
from . import migrate
from .archive import Exported, export_lines
from .conversation import Point, conversation_at, differences_of_turns, whole
from .deleting import Deleting
from .diff import Difference, compared
from .draft import Draft
from .fork import fork_event
from .import_archive import import_archive
from .import_report import Imported
from .import_storage import Adopted, Outline, Source, import_checkpoints
from .inbox import Question, inbox_of, runs_asking
from .kinds import RUNS, TURNS
from .lineage import Node, lineage_of
from .listed_from import WHERE, ListedFrom, Where
from .migrate import MigrationPlan
from .preflight import UNFINISHED, Application, Preflight, preflight_runs
from .projection import LatestDocuments
from .replay import Replayed, replay_run
from .resolve import checkpoint_at, checkpoint_named, run_named
from .runs import Counts, Filter, Listed, count_runs, list_runs
from .states import ANY_TYPE, Change, States
from .turn_runs import TurnRuns, runs_of_turns
from .types import TypeUse, types_used
from .verify import Verdict, verify_run, verify_runs

__all__ = ["CheckpointAudit"]


class CheckpointAudit(Deleting):
    """Asks a store, and takes care of it.

    Args:
        store: the engine, SQLite or Cosmos DB. It is not closed with the audit.
        allowed_checkpoint_types: application types, as `"module:qualname"`, that `checkpoint` and `states` may decode
            and that trees show with what is in them; `ANY_TYPE` shows all, and decodes none of them.
        actor: who annotates, forks, migrates and prunes, kept on the events that this writes.
        latest: what `runs` lists from: the "log", which is never late, or the "projection", which reads one small
            document per run and no event, and which `eventckpt-projector` keeps up to date; "auto": what
            `listed_from.look()` found last. Everything else but `inbox` asks the log.
        on_drift: what decoding does with a stored value that does not fit its class any more: "error" raises, "warn"
            says so and goes on without it. As the storages of the application have it.
        upcasters: what stored values of older classes become when they are decoded, before those that were registered.
        turns: ask for sessions and their turns, `store.sessions()`, in the place of runs and their checkpoints. A run
            id is a session's then, and the name of a workflow the `source_id` of a history provider.

    Raises:
        ValueError, TypeError: an argument is not of the form above.
        CheckpointStoreError: `latest` is "projection", and the engine keeps none; or `turns`, and it keeps no sessions.
    """

    def __init__(
        self,
        store: AuditStore,
        *,
        allowed_checkpoint_types: Sequence[str] = (),
        actor: str | None = None,
        latest: Where = "log",
        on_drift: OnDrift = "error",
        upcasters: Iterable[Upcaster] = (),
        turns: bool = False,
    ) -> None:
        settings.instance("store", store, AuditStore, what="an AuditStore")
        settings.choice("latest", latest, *WHERE)
        if actor is not None:
            settings.text("actor", actor)
        allowed_checkpoint_types = settings.texts("allowed_checkpoint_types", allowed_checkpoint_types)
        settings.flag("turns", turns)
        super().__init__(store.sessions() if turns else store, TURNS if turns else RUNS, actor)
        self._listed = ListedFrom(self.store, latest)
        self._allowed = tuple(allowed_checkpoint_types)
        self._on_drift: OnDrift = on_drift
        self._states = States(self.store, allowed_checkpoint_types, on_drift=on_drift, upcasters=upcasters)

    @property
    def latest(self) -> Latest:
        """What `runs` lists from now."""
        return self._listed.latest

    @property
    def listed_from(self) -> ListedFrom:
        """What decides that, where `latest` is "auto"."""
        return self._listed

    def of_sessions(self) -> CheckpointAudit:
        """The same of the sessions in the store: what this may show of values, and where it lists from, holds there.

        Raises:
            CheckpointStoreError: the engine keeps no sessions, or no projection of them.
        """
        return CheckpointAudit(
            self.store,
            allowed_checkpoint_types=self._allowed,
            actor=self._actor,
            latest=self._listed.asked,
            on_drift=self._on_drift,
            upcasters=self._states.upcasters,
            turns=True,
        )

    # Names

    async def run(self, name: str, *, workflow_name: str | None = None) -> StreamId:
        """The run whose id is `name`, or the only one whose id begins with it.

        Raises:
            RunNotFoundError, AmbiguousNameError: none, or several.
        """
        return await run_named(self.store, name, workflow_name, kind=self.kind)

    async def event(self, name: str, *, workflow_name: str | None = None) -> CheckpointEvent:
        """The whole event that a checkpoint's id, the beginning of one, or `RUN@SEQ` means.

        Raises:
            CheckpointNotFoundError, RunNotFoundError, AmbiguousNameError: none, or several.
        """
        return await checkpoint_named(self.store, name, workflow_name, kind=self.kind)

    # Headers

    def runs(
        self, which: Filter | None = None, *, after: StreamId | Listed | None = None
    ) -> AsyncGenerator[RunInfo, None]:
        """The runs that fit, the last written to first; with `after`, those behind that run: where it stands now, or as
        it was when it was `Listed`.

        From the projection, "last written to" is by when events were recorded, and then by name. Of a run that its
        document calls `idle`, the newest live header is asked for, as of the seq that the document is at; where
        the log does not tell, it stays `idle`.

        Raises:
            CheckpointStoreError: the projection is empty, and the log is not.
            RunNotFoundError: the projection does not have `after`.
        """
        return list_runs(self.store, self._listed.projection, which or Filter(), after)

    async def counts(
        self, which: Filter | None = None, *, after: StreamId | Listed | None = None, most: int | None = None
    ) -> Counts:
        """How many of the runs that `runs` gives stand how. From the projection, the engine counts, unless actors or
        how a request begins are asked for, which it does not know; else each run is looked at.

        Args:
            which: those that are meant.
            after: only those behind this run.
            most: where no index counts, how many runs are looked at, the last written to; None: all that fit.

        Raises:
            CheckpointStoreError, RunNotFoundError: as from `runs`.
        """
        return await count_runs(self.store, self._listed.projection, which or Filter(), after, most)

    def inbox(
        self,
        *,
        workflow: str | None = None,
        older_than: timedelta | None = None,
        type: str | None = None,  # noqa: A002
        tag: tuple[str, str] | str | None = None,
        after: Question | None = None,
        latest: Where = "auto",
    ) -> AsyncGenerator[Question, None]:
        """The questions that wait for an answer, run by run, the run that waits longest first: of every run that is not
        cancelled, or of those of a workflow, or with a `tag`; asked longer ago than `older_than`; with data of a
        `type`, `"module:qualname"`; behind the question `after`. Each comes once, whatever is answered meanwhile. They
        are listed from the "projection", a page of documents at a time, which may be late; from the "log", which reads
        the headers of all runs; or, "auto", from the projection where something fills one.

        Raises:
            TypeError, ValueError: an argument is not of its form.
            CheckpointStoreError: the projection is asked for and empty, and the log is not.
        """
        settings.choice("latest", latest, *WHERE)
        return inbox_of(self.store, latest, runs_asking(workflow, older_than, type, tag), after)

    async def info(self, stream: StreamId) -> RunInfo | None:
        """What a run amounts to, folded from its headers; None if there is no such run."""
        return fold(await headers_of(self.store, stream))

    def history(self, stream: StreamId, *, desc: bool = False) -> AsyncGenerator[CheckpointEvent, None]:
        """The headers of a run's events in the order of their commits, or the reverse: of all that are there, also of
        those that are recorded as removed and not gone yet."""
        return self.store.headers(stream, desc=desc)

    async def lineage(self, stream: StreamId, *, forks: bool = True) -> list[Node]:
        """The trees of a run's checkpoints, with the runs that forked from them."""
        return await lineage_of(self.store, stream, forks=forks)

    # States

    async def at(
        self,
        stream: StreamId,
        *,
        seq: int | None = None,
        time: datetime | None = None,
        iteration: int | None = None,
    ) -> CheckpointEvent:
        """The whole event that held the run's state at a point: the last checkpoint committed up to `seq`, or
        recorded up to `time`, or of superstep `iteration` or an earlier one; without any of them, the last.

        Deletions count up to that point: a checkpoint that was deleted by then is passed over.

        Raises:
            CheckpointNotFoundError: the run had no checkpoint by then.
        """
        return await checkpoint_at(self.store, stream, seq, time, iteration, kind=self.kind)

    async def tree(self, event: CheckpointEvent, *, upcast: bool = False) -> dict[str, Tree]:
        """The state in a whole event, as a tree; nothing is decoded.

        Args:
            event: the event.
            upcast: show what the upcasters make of it: their classes under the names that they end at, by the names of
                their fields. Of an upcaster without `to`, the class is imported, to see whether it has changed.

        Raises:
            CheckpointDecodeError: it cannot be read, or an upcaster fails.
        """
        return await self._states.tree(event, upcast=upcast)

    async def checkpoint(self, event: CheckpointEvent) -> WorkflowCheckpoint:
        """The checkpoint in a whole event, decoded under the allow-list."""
        return await self._states.checkpoint(event)

    async def messages(self, event: CheckpointEvent) -> list[Message]:
        """The messages in a whole turn, decoded under the allow-list.

        Raises:
            CheckpointTypeNotAllowedError, CheckpointDecodeError: they cannot be read.
        """
        return await self._states.messages(event)

    async def conversation(
        self, stream: StreamId, *, seq: int | None = None, time: datetime | None = None
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """The turns that a session, or a branch of one, held at a point, whole and in their order, with those that it
        rests on, and without what was cleared by then: up to the event `seq`, or recorded up to `time`; without
        either, now."""
        turns = await conversation_at(self.store, stream, seq=seq, time=time)
        async with aclosing(whole(self.store, turns)) as events:
            async for event in events:
                yield event

    def diff_turns(self, before: Point, after: Point) -> AsyncGenerator[Difference, None]:
        """The messages that a session held at one point and not at another, first those that are gone. Turns that it
        held at both are not read."""
        return differences_of_turns(self.store, self._states, before, after)

    def states(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None
    ) -> AsyncGenerator[tuple[CheckpointEvent, WorkflowCheckpoint], None]:
        """Every checkpoint of a run in the order of their commits, decoded, with its header. One event and one
        snapshot are in memory at a time."""
        return self._states.checkpoints(stream, gt=gt, lte=lte)

    def changes(self, stream: StreamId, path: str, *, upcast: bool = False) -> AsyncGenerator[Change, None]:
        """The events at which the value at a path, such as `state.total`, became another one; with `upcast`, of the
        states as `tree` shows them."""
        return self._states.changes(stream, path, upcast=upcast)

    async def diff(
        self, before: CheckpointEvent, after: CheckpointEvent, *, upcast: bool | Literal["after"] = False
    ) -> list[Difference]:
        """Where the state in one whole event differs from that in another, by path; ids and times are left out.

        Args:
            before, after: the events.
            upcast: compare the states as the upcasters make them; "after": only that of `after`, so that an event
                compared with itself shows what they change.
        """
        ours, theirs = await self._states.trees_to_compare(before, after, upcast=upcast)
        sizes = sum(event.payload.raw_size for event in (before, after) if event.payload)
        return await off_the_loop(sizes, compared, ours, theirs)

    def replay(self, stream: StreamId, *, until: int | None = None) -> AsyncGenerator[Replayed, None]:
        """Fold a run from its first event, rebuild each state, and compare it with what the header says of it."""
        return replay_run(self.store, self._states, stream, until)

    # Whether it is all there

    async def verify(self, stream: StreamId, *, decode: bool = False, projection: bool = False) -> Verdict:
        """Check a run's digests, their chain and its gaps; with `decode`, also that every state can be read and is the
        one that its header describes; with `projection`, also that it has a "latest" document, which may lag, and says
        what the log said."""
        verdict = await verify_run(self.store, stream, self._states.readable if decode else None, kind=self.kind)
        return await _with_documents(verdict, LatestDocuments(self.store) if projection else None)

    async def verify_all(
        self, *, workflow_name: str | None = None, decode: bool = False, projection: bool = False
    ) -> AsyncGenerator[Verdict, None]:
        """`verify` for every run, first for what tells of those that were removed, then the last written to first; with
        `projection`, then for each run that has a "latest" document and no events. Where no run has a document, the
        first verdict says so, and the others do not."""
        documents = LatestDocuments(self.store) if projection else None
        seen: set[StreamId] = set()
        async with (
            aclosing(self._logs(workflow_name)) as streams,
            aclosing(
                verify_runs(self.store, streams, self._states.readable if decode else None, kind=self.kind)
            ) as verdicts,
        ):
            async for verdict in verdicts:
                if documents is not None:
                    seen.add(verdict.stream)
                yield await _with_documents(verdict, documents if verdict.stream.is_run else None)
        if documents is not None:
            async with aclosing(documents.of_no_run(seen, workflow_name)) as verdicts:
                async for verdict in verdicts:
                    yield verdict

    async def checks(self, *, write: bool = True) -> list[Check]:
        """What the engine finds of its settings, rights and layout; with `write`, also whether a store that was opened
        for it can be written."""
        return await self.store.checks(write=write)

    async def types(self, *, runs: int | None = None) -> list[TypeUse]:
        """The types in the latest checkpoint of each run, or of the `runs` last written to; refused ones first."""
        return await types_used(self.store, self._states, runs)

    async def runs_of_turns(self, session: StreamId, turns: Sequence[CheckpointEvent], *, runs: int = 100) -> TurnRuns:
        """Which checkpoints of the `runs` last written to have seen turns of a session first, by the session's state in
        them. An audit of runs is asked this; the turns are those of its `of_sessions`."""
        return await runs_of_turns(self.store, self._states, session, turns, runs=runs)

    def preflight(
        self, workflow: object, *, workflow_name: str | None = None, statuses: Collection[RunStatus] = UNFINISHED
    ) -> AsyncGenerator[Preflight, None]:
        """For each unfinished run, the last written to first, whether it would go on under the application as it is:
        its latest checkpoint is decoded under the application's types, and its graph compared with the workflow's.

        Runs of code of the application what loading a checkpoint runs, and nothing of the workflow. A run without a
        live checkpoint has nothing to go on from, and is left out.

        Args:
            workflow: the workflow as it is now, built; see `eventckpt.audit.preflight.Application`.
            workflow_name: of the runs that it would go on with; None: its own name.
            statuses: how they stand.

        Raises:
            TypeError: `workflow` is none.
        """
        application = Application(workflow, self._states)
        which = Filter(workflow_name=application.workflow_name if workflow_name is None else workflow_name)
        return preflight_runs(self.store, application, self.runs(which), statuses)

    # What changes the store

    async def fork(self, origin: CheckpointEvent, run_id: str) -> CheckpointEvent:
        """Begin run `run_id` with a copy of the checkpoint in a whole event; the new run's first event.

        Raises:
            CheckpointConflictError: there is a run of that name already.
        """
        raw = await self._states.raw(origin)
        event = await off_the_loop(len(raw), fork_event, origin, raw, run_id, actor=self._actor)
        try:
            await self.store.append(event)
        except StreamConflict as conflict:
            raise CheckpointConflictError(
                f"There is a run {run_id!r} of workflow {origin.workflow_name!r} already. Choose another name.",
                stream=event.stream,
                expected_seq=1,
                head=conflict.head,
            ) from conflict
        return event

    async def annotate(
        self,
        stream: StreamId,
        *,
        outcome: Outcome | None = None,
        reason: str | None = None,
        tags: Mapping[str, str | None] | None = None,
        hold: bool | None = None,
    ) -> CheckpointEvent:
        """Say something about a run, as `RunCheckpointStorage.annotate` does, which has the arguments; the event that
        says so, with the tags and the hold that are in force now.

        Raises:
            TypeError, ValueError: nothing is given, or an argument is not of its form; or this audit is of sessions, of
                which nothing is said. Nothing was written.
            RunNotFoundError: there is no such run. Nothing was written.
        """
        if self.kind is not RUNS:
            raise ValueError("Runs are annotated, sessions are not.")
        change = change_of(outcome, reason, tags, hold)
        return await annotate(self.store, stream, change, actor=self._actor)

    async def plan_migration(
        self,
        stream: StreamId,
        function: Callable[[Draft], object],
        *,
        name: str | None = None,
        run_id: str | None = None,
    ) -> MigrationPlan:
        """What a migration of a run would write: the run's last live checkpoint as `function` leaves it. Nothing is
        written.

        Args:
            stream: the run.
            function: edits a `Draft` in place, in a thread where the checkpoint is large, and returns nothing.
            name: what the migration is called, 1 to 255 characters, and recorded as; None: the function's module and
                name, `module:function`. A run whose lineage has it already is left as it is.
            run_id: the id of a new run to begin with the result, which forks from this one; None: the result goes on in
                this run.

        Raises:
            RunNotFoundError: there is no such run. All else that stands against it is told by the plan (`refused`).
            TypeError, ValueError: an argument is not of the form above.
        """
        called = migrate.name_of(function, name)
        return await migrate.plan_for(
            self.store, self._states, stream, function, name=called, run_id=run_id, actor=self._actor
        )

    async def migrate(self, plan: MigrationPlan) -> CheckpointEvent:
        """Write what a plan says; the header of the new event. Again changes nothing.

        Raises:
            ValueError: the plan says that there is nothing to write, or that the run is left alone.
            CheckpointConflictError: the run was written to since, or the new run is there by now. Nothing was written.
        """
        return await migrate.carry_out(self.store, plan)

    def export(
        self, streams: Iterable[StreamId] | None = None, *, told: Callable[[Exported], None] | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The lines of an export of these runs, or of all, without their ends.

        Args:
            streams: the runs; None: all, and what tells of those that were removed.
            told: called with what became of each run. A damaged one is exported as it is, and told of.
        """
        logs = self._logs() if streams is None else self._each(streams)
        return export_lines(self.store, logs, told=told, kind=self.kind)

    async def import_lines(
        self,
        lines: Iterable[bytes] | AsyncIterable[bytes],
        *,
        so_far: Callable[[Imported], None] | None = None,
    ) -> Imported:
        """Keep the events of an export; again changes nothing. What is damaged or in conflict is left out.

        Args:
            lines: those of the file, with or without their ends. What is no sequence is read in a thread.
            so_far: called with what was done by then, again and again, and at the end, whatever ends the import.

        Raises:
            CheckpointStoreError: the store failed. What `so_far` was told of is kept; importing again goes on.
        """
        return await import_archive(self.store, lines, so_far=so_far, kind=self.kind)

    async def adopt(
        self, source: Source, checkpoint_ids: Iterable[str | Outline] | AsyncIterable[str | Outline]
    ) -> Adopted:
        """Take checkpoints over from another storage of the framework, into runs by lineage. One is held at a time.

        Args:
            source: the other storage.
            checkpoint_ids: which; their outlines, where it can list those, save a read of each.
        """
        allowed = [name for name in self._allowed if name != ANY_TYPE]
        return await import_checkpoints(self.store, source, checkpoint_ids, allowed_types=allowed, actor=self._actor)


async def _with_documents(verdict: Verdict, documents: LatestDocuments | None) -> Verdict:
    problem = await documents.problem(verdict.stream) if documents is not None else None
    return verdict if problem is None else verdict._replace(problems=(*verdict.problems, problem))
