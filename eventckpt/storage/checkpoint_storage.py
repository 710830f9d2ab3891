"""The checkpoint storages: the framework's `CheckpointStorage` protocol over an event store.

`EventCheckpointStorage` works with any engine. It gives, by `for_run`, storages bound to one run: what a workflow that
runs more than once at a time should use.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Final, Literal, TypeAlias

from .. import settings
from ..clock import SYSTEM_CLOCK, Clock
from ..codec import CheckpointCodec, OnDrift, Upcaster
from ..events import MAX_RUN_ID, Outcome, StreamId
from ..log import logger_of
from ..stores import EventStore
from .annotations import change_of
from .claiming import LONGEST_CLAIM, MOST_WATCHED, Claims
from .claims import RunClaim
from .load import Reader
from .memory import Bound, Head, Memory
from .payloads import BaseCache, Payloads
from .protocol import Checkpoints, Core, OnSaveError
from .recording import done, failed
from .removing import remove_run, run_called
from .routed import Resolver, RoutedCheckpointStorage
from .save import OnConflict, Writer
from .summary import MAX_NAME, check_answers

__all__ = [
    "EventCheckpointStorage",
    "Latest",
    "OnConflict",
    "OnSaveError",
    "RunCheckpointStorage",
]

logger: Final = logger_of("eventckpt")

Latest: TypeAlias = Literal["log", "projection"]

DEFAULT_CACHE_BYTES: Final = 64 * 1024 * 1024


class RunCheckpointStorage(Checkpoints):
    """One run of an `EventCheckpointStorage`, as its own `CheckpointStorage`. Made by `for_run`, for one execution.

    Saves go to this run; `get_latest` and the lists see this run only. `load` and `delete` look in this run first
    and then everywhere, since a run can begin from a checkpoint of another; those of a confined handle do not.

    What a handle has read or written sets where its next save continues, and no other handle knows of it: two that
    resume one checkpoint are two writers, in one process as in two. Its own saves take turns.
    """

    def __init__(
        self,
        core: Core,
        run_id: str,
        workflow_name: str | None,
        *,
        confined: bool = False,
        looks: bool = False,
        actor: str | None = None,
    ) -> None:
        self._core = core
        self._own = self._bound = Bound(run_id, confined=confined, looks=looks, actor=actor)
        self.run_id = run_id
        self.workflow_name = workflow_name

    @property
    def forked_to(self) -> str | None:
        """The run that this handle's saves go to since a conflict; None: they go to `run_id`.

        `get_latest` and the lists keep to `run_id`, and `for_run(forked_to)` reads the fork. The next `get_latest` or
        `load` through this handle ends the conflict: what is saved after that goes to `run_id` again.
        """
        return self._own.forked_to

    async def annotate(
        self,
        *,
        outcome: Outcome | None = None,
        reason: str | None = None,
        tags: Mapping[str, str | None] | None = None,
        hold: bool | None = None,
    ) -> int:
        """Say something about the run that this handle's saves go to; the seq of the event that says so.

        It follows whatever the head is, so that it conflicts with nobody, and whoever writes to the run goes on behind
        it. What is not given stays as it was.

        Args:
            outcome: how the run ended: "done", "failed" or "cancelled". It counts until the run's next checkpoint.
            reason: why, 1 to 1,000 characters; with an outcome only.
            tags: set those that are given, and take away those whose value is None; a run has at most 20, a name and a
                value 1 to 256 characters each, and a name no "=".
            hold: whether nothing of the run may be removed from here on.

        Raises:
            TypeError, ValueError: nothing is given, an argument is not of this form, or which workflow the run is of
                is not known. Nothing was written.
            RunNotFoundError: the run has no events. Nothing was written.
            CheckpointStoreError: the engine failed, or what is in force cannot be read.
        """
        change = change_of(outcome, reason, tags, hold)
        name = self._stream("said about it").workflow_name
        return (await self._core.writer.annotate(change, self._own.execution(name), self._own)).seq

    async def delete_run(self, *, force: bool = False) -> bool:
        """Remove the run of this handle, `run_id`, for good; see `EventCheckpointStorage.delete_run`, which raises the
        same. What is saved through this handle afterwards begins it again.

        Raises:
            ValueError: which workflow the run is of is not known. Nothing was removed.
        """
        stream = self._stream("removed of it")
        settings.flag("force", force)
        own = self._own
        epoch = own.epoch(stream)
        if own.claim is not None and epoch:
            own.claim.check()
        actor = self._core.writer.actor_of(own)
        claims = self._core.claims
        removal = await remove_run(self._core.store, stream, actor=actor, force=force, claims=claims, epoch=epoch)
        if removal.record is not None:
            execution = own.execution(stream.workflow_name)
            execution.saw(Head.of(removal.record), since=execution.version)
            own.was_read(execution)
        return removal.state == "removed"

    @asynccontextmanager
    async def recording(self, *, messages: bool = False) -> AsyncGenerator[None]:
        """Around work on the run: how it ends is annotated. Where it raises an `Exception`, that is `failed`, with its
        type and the module, function and line that raised it; where it ends otherwise and the run waits for no
        answer, `done`.

        Nothing is said where others go on with the run: where this handle has lost a claim, or was refused its last
        save or claim for another's sake, also if the work went on after that, as graph workflows do; or where a
        `CheckpointConflictError` or `RunClaimedError` is raised, alone or among others. Nor where an
        `AnswerMissingError` is, since the run waits for what it waited for; where the work was cancelled, or ended well
        and its last checkpoint was not saved, so that nobody knows what it asks. Of a run without events there is
        nothing to say.

        Args:
            messages: also keep what the exception says, which may be of anybody's data.

        Raises:
            CheckpointStoreError: how the work ended could not be annotated. What the work itself raises comes first:
                then that is only logged.
        """
        settings.flag("messages", messages)
        try:
            yield
        except Exception as error:
            await failed(self._core.writer, self._own, self._known_workflow(), error, message=messages)
            raise
        await done(self._core.writer, self._core.reader, self._own, self._known_workflow())

    def _known_workflow(self) -> str | None:
        return self.workflow_name or self._own.workflow_name

    def _stream(self, what: str) -> StreamId:
        """The run, for what is to be done now."""
        name = self._known_workflow()
        if name is None:
            raise ValueError(
                f"Which workflow run {self.run_id!r} is of is not known yet, and nothing was {what}: give for_run its "
                "workflow_name."
            )
        return StreamId(name, self.run_id)

    def claim(self, *, ttl: float = 60, wait: float = 0) -> RunClaim:
        """The right, for a time, to be the only one who resumes this run: `async with run.claim() as claim:`.

        While it is held, saves through other handles meet another writer, and fork or raise by `on_conflict`. Reads,
        deletions and annotations go on. It is renewed in the background, and given back at the end.

        To take it is no read: where the run has gone on since this handle has read it, `get_latest` after taking it.

        Args:
            ttl: seconds, up to a day, for which it lasts without being renewed: after so long, others may take over
                from a holder that died.
            wait: seconds, up to a day, to wait for a claim that somebody else has. From a holder that died a process
                takes over that has seen its claim unchanged for that claim's ttl: one that waits so long, or lives on
                and tries again.

        Raises, on entering:
            RunClaimedError: somebody else has it.
            RunNotFoundError: the run has no events; nothing was written.
            ValueError, TypeError: an argument is out of bounds; or it is not known which workflow's run this is.
            CheckpointStoreError: the engine keeps no documents, or failed.
        Raises, at the end:
            ClaimLostError: it did not last until then. The body was cancelled when that was found.
        """
        settings.number("ttl", ttl, most=LONGEST_CLAIM)
        settings.number("wait", wait, most=LONGEST_CLAIM, zero=True)
        stream = self._stream("claimed")
        actor = self._core.writer.actor_of(self._own)
        return RunClaim(
            self._core.claims,
            self._own,
            stream,
            owner=actor or f"{socket.gethostname()}:{os.getpid()}",
            actor=actor,
            ttl=ttl,
            wait=wait,
        )

    def answers(self, *request_ids: str) -> None:
        """Say which requests the next checkpoint that is saved through this handle answers: its event lists them in
        `summary.answered_requests`, once. Graph workflows' checkpoints tell it by themselves; those of functional ones
        do not.

        Raises:
            TypeError, ValueError: an id is no text, or too long; or there are too many.
        """
        for request_id in request_ids:
            settings.text("The id of a request", request_id, longest=MAX_NAME)
        answers = {**self._own.answers, **dict.fromkeys(request_ids)}
        check_answers(answers)
        self._own.answers = answers


class EventCheckpointStorage(Checkpoints):
    """Checkpoints of Agent Framework workflows as events in `store`.

    Implements `agent_framework.CheckpointStorage`. Used directly, each checkpoint joins the run of the checkpoint
    that it follows, and one that follows none begins a run; `get_latest` is then the newest over all runs of the
    workflow. `for_run` gives a storage that sees one run only.

    Args:
        store: the engine. It is not closed with the storage.
        allowed_checkpoint_types: application types that checkpoints may hold, as `"module:qualname"`; as for
            `FileCheckpointStorage`.
        on_conflict: what a save does when another writer has continued the same run: "fork" begins a new run from
            the checkpoint that this writer last saw, "raise" raises `CheckpointConflictError`.
        on_save_error: called with the checkpoint and the exception of every save that fails, before the exception
            is raised. Graph workflows swallow what a save raises, so this is where to hear of it.
        actor: who writes, kept on each event.
        cache_bytes: how many bytes of bases to keep in memory for writing deltas, over all runs: three quarters as they
            are stored, the rest decompressed.
            A run whose base is not among them costs one more read for each save.
        latest: where `get_latest` over all runs looks: in the "log", which is never late, or in the "projection", one
            query whatever the number of runs, which `eventckpt-projector` keeps up to date. A storage bound to a run
            always asks the log.
        on_drift: what a load does with a stored value that does not fit its class any more: "error" raises
            `CheckpointDecodeError`, which names the class and the field; "warn" goes on without it, with a warning
            and the counter `eventckpt.schema_drift`. docs/evolution.md says what is drift and what is none.
        upcasters: what stored values of older classes become (`Upcaster`), before those that were registered.

    Raises:
        ValueError, TypeError: an argument is not of the form above.
        CheckpointStoreError: `latest` is "projection", and the engine keeps none.
    """

    clock: Clock = SYSTEM_CLOCK
    """What claims are measured by; a test has another one."""
    watched_claims: int = MOST_WATCHED
    """Of how many claims of others, at most, it is remembered since when they are not renewed."""

    def __init__(
        self,
        store: EventStore,
        *,
        allowed_checkpoint_types: list[str] | None = None,
        on_conflict: OnConflict = "fork",
        on_save_error: OnSaveError | None = None,
        actor: str | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        latest: Latest = "log",
        on_drift: OnDrift = "error",
        upcasters: Iterable[Upcaster] = (),
    ) -> None:
        settings.instance("store", store, EventStore, what="an EventStore")
        settings.choice("on_conflict", on_conflict, "fork", "raise")
        settings.choice("latest", latest, "log", "projection")
        settings.whole_number("cache_bytes", cache_bytes, least=0)
        if on_save_error is not None:
            settings.plain_function("on_save_error", on_save_error)
        if actor is not None:
            settings.text("actor", actor)
        if allowed_checkpoint_types is not None:
            allowed_checkpoint_types = settings.texts("allowed_checkpoint_types", allowed_checkpoint_types)
        self._store = store
        self._allowed = tuple(allowed_checkpoint_types or ())
        memory = Memory()
        payloads = Payloads(store, BaseCache(cache_bytes))
        codec = CheckpointCodec(
            allowed_checkpoint_types,
            storage_name=type(self).__name__,
            on_drift=on_drift,
            upcasters=upcasters,
        )
        claims = Claims(store, self.clock, watched=self.watched_claims)
        self._core = Core(
            store=store,
            memory=memory,
            writer=Writer(store, codec, memory, payloads, claims, on_conflict=on_conflict, actor=actor),
            reader=Reader(store, codec, memory, payloads, store.run_store() if latest == "projection" else None),
            claims=claims,
            on_save_error=on_save_error,
        )

    async def close(self) -> None:
        """Let go of what this storage opened, once claims that are being given back were; what was passed in stays
        open. May be called more than once."""
        await self._core.claims.close()

    @property
    def store(self) -> EventStore:
        """The engine: what audits, processors and listings of runs go by."""
        return self._store

    @property
    def allowed_checkpoint_types(self) -> tuple[str, ...]:
        """The application types that checkpoints may hold, as they were given."""
        return self._allowed

    def for_run(
        self, run_id: str, *, workflow_name: str | None = None, confined: bool = False, actor: str | None = None
    ) -> RunCheckpointStorage:
        """A storage bound to the run `run_id`, itself a `CheckpointStorage`.

        Args:
            run_id: 1 to 255 characters, chosen by the application: an order number, a session id.
            workflow_name: the run's workflow; if left out, it is learnt from the first save, list or latest.
            confined: whether `load` and `delete` find only what is in this run, or in the forks that conflicts have
                made of it: for a host that takes checkpoint ids from its clients.
            actor: who writes through this handle, in place of the storage's actor.

        Raises:
            TypeError, ValueError: an argument is not of this kind; a text is blank, too long or not valid Unicode.
        """
        settings.text("The run id", run_id, longest=MAX_RUN_ID)
        if workflow_name is not None:
            settings.text("workflow_name", workflow_name)
        settings.flag("confined", confined)
        if actor is not None:
            settings.text("actor", actor)
        return RunCheckpointStorage(self._core, run_id, workflow_name, confined=confined, actor=actor)

    async def delete_run(self, run_id: str, *, workflow_name: str | None = None, force: bool = False) -> bool:
        """Remove a run as a whole, for good; whether there was anything to remove. docs/semantics.md says what stays.

        Whoever has seen the run meets a conflict at the next save. Who has not, or reads again, may use its id again.

        Args:
            run_id: its whole id.
            workflow_name: the run's workflow; None: the only one that has a run of this id.
            force: also remove a run that is running, waiting or open.

        Raises:
            RunNotRemovedError: it is on hold, has not ended, is damaged, or is written to all the time.
            RunClaimedError: somebody has the claim on it.
            AmbiguousNameError: several workflows have such a run.
            CheckpointStoreError: the engine failed, or cannot remove events. Do it again.
            TypeError, ValueError: an argument is not of this kind.
        """
        settings.text("The run id", run_id, longest=MAX_RUN_ID)
        if workflow_name is None:
            stream = await run_called(self._store, run_id)
        else:
            stream = StreamId(settings.text("workflow_name", workflow_name), run_id)
        handle = None if stream is None else self.for_run(run_id, workflow_name=stream.workflow_name)
        return handle is not None and await handle.delete_run(force=force)

    def for_each(self, resolver: Resolver) -> RoutedCheckpointStorage:
        """One storage for a host that takes one for all its threads: each call goes to the run that `resolver` names.

        Args:
            resolver: called in the context of each call, with nothing; gives the run id, or something to await for it:
                the `get` of a `ContextVar` that each request sets, as a rule.

        Raises:
            TypeError: `resolver` cannot be called.
        """
        settings.function("resolver", resolver)

        def bind(run_id: str, *, looks: bool) -> RunCheckpointStorage:
            settings.text("The run id", run_id, longest=MAX_RUN_ID)
            return RunCheckpointStorage(self._core, run_id, None, confined=True, looks=looks)

        return RoutedCheckpointStorage(bind, resolver, self._report)
