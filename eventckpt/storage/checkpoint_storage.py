"""The checkpoint storages: the framework's `CheckpointStorage` protocol over an event store.

`EventCheckpointStorage` works with any engine. It gives, by `for_run`, storages bound to one run: what a workflow that
runs more than once at a time should use.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Final, Literal, NamedTuple, Self, TypeAlias

from agent_framework import WorkflowCheckpoint

from .. import settings
from ..clock import SYSTEM_CLOCK, Clock
from ..closing import close_after
from ..codec import CheckpointCodec, OnDrift, Upcaster
from ..errors import ClaimLostError
from ..events import MAX_RUN_ID, Outcome, StreamId
from ..log import logger_of
from ..stores import EventStore
from ..text import is_name, safe
from . import telemetry, tracing
from .annotations import change_of
from .claiming import LONGEST_CLAIM, MOST_WATCHED, Claims
from .claims import RunClaim
from .load import Reader
from .memory import Bound, Memory
from .payloads import BaseCache, Payloads
from .recording import done, failed
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

OnSaveError: TypeAlias = Callable[[WorkflowCheckpoint, Exception], None]


class _Core(NamedTuple):
    """What a storage and its bound handles share."""

    memory: Memory
    writer: Writer
    reader: Reader
    claims: Claims
    on_save_error: OnSaveError | None


class _Checkpoints:
    """The `CheckpointStorage` protocol over one run, or, where `_bound` is None, over all runs."""

    workflow_name: str | None = None
    _bound: Bound | None = None
    _core: _Core

    async def save(self, checkpoint: WorkflowCheckpoint) -> str:
        """Append `checkpoint` to its run and return its id. When this returns, it is durable.

        Saving a checkpoint again with the same content changes nothing; with other content it supersedes.

        Raises:
            CheckpointTypeNotAllowedError, CheckpointEncodeError: see `CheckpointCodec.encode`; also where the
                checkpoint could be stored but not loaded again, and where its id is to name its run and is too long
                for that (255 characters).
            CheckpointConflictError: another writer has continued the run, or has the claim on it, and `on_conflict` is
                "raise".
            ClaimLostError: the claim that is held through this handle was lost.
            CheckpointStoreError: the engine failed; nothing half-written is left.
            TypeError: it is no `WorkflowCheckpoint`.
        """
        if not isinstance(checkpoint, WorkflowCheckpoint):  # pyright: ignore[reportUnnecessaryIsInstance] - what an application passes
            raise TypeError(f"save takes a WorkflowCheckpoint, not a {safe(type(checkpoint).__name__)}.")
        checkpoint_id, workflow_name = checkpoint.checkpoint_id, checkpoint.workflow_name
        started = time.perf_counter()
        outcome = "failed"
        try:
            with tracing.span("save", workflow_name, self._run_id, checkpoint_id) as span:
                saved = await self._core.writer.save(checkpoint, self._bound, traceparent=span.traceparent)
                span.saved(*saved)
            outcome = saved.outcome
        except Exception as error:
            if self._bound is not None:
                self._bound.refused = error
            self._report(checkpoint, error)
            if isinstance(error, ClaimLostError):
                # The body of the claim is being cancelled. Here it is to end, if this is its task: a graph workflow
                # goes on after an error of a save, and would begin another step.
                await asyncio.sleep(0)
            raise
        finally:
            telemetry.saves.add(1, {"outcome": outcome})
            telemetry.save_duration.record(time.perf_counter() - started, {"outcome": outcome})
        if self._bound is not None:
            self._bound.refused = None
        self._learn(workflow_name)
        return checkpoint_id

    def check(self, checkpoint: WorkflowCheckpoint) -> None:
        """Whether a checkpoint could be saved, as far as what it holds goes. Nothing is written.

        Raises:
            CheckpointTypeNotAllowedError, CheckpointEncodeError: see `CheckpointCodec.encode`.
        """
        self._core.writer.check(checkpoint)

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint:
        """The checkpoint with this id.

        Raises:
            CheckpointNotFoundError: no live checkpoint has this id.
            CheckpointTypeNotAllowedError, CheckpointDecodeError: see `CheckpointCodec.decode`.
            CheckpointStoreError: the engine failed.
        """
        return (await self.load_with_hash(checkpoint_id))[0]

    async def load_with_hash(self, checkpoint_id: str) -> tuple[WorkflowCheckpoint, str]:
        """What `load` gives and does, and the SHA-256, in hexadecimal, of the bytes that the checkpoint was encoded to.

        As long as nobody saves the checkpoint with other content, the hash is the same in every process. Foundry's host
        asks for it: of a storage that has none it hashes what it encodes anew, which differs where a state holds a set.
        """
        with tracing.span("load", self.workflow_name, self._run_id, checkpoint_id) as span:
            loaded = await self._core.reader.load(checkpoint_id, self._bound, self.workflow_name)
            span.loaded(loaded.event)
        return loaded.checkpoint, loaded.raw_sha256

    async def list_checkpoints(self, *, workflow_name: str) -> list[WorkflowCheckpoint]:
        """The live checkpoints, in the order of their commits; undecodable ones are left out, with a warning."""
        return await self._core.reader.checkpoints(self._learn(workflow_name), self._run_id)

    async def list_checkpoint_ids(self, *, workflow_name: str) -> list[str]:
        """The ids of the live checkpoints, in the order of their commits. Decodes nothing."""
        return await self._core.reader.live_ids(self._learn(workflow_name), self._run_id)

    async def get_latest(self, *, workflow_name: str) -> WorkflowCheckpoint | None:
        """The live checkpoint that was committed last; None if there is none.

        Raises:
            CheckpointTypeNotAllowedError, CheckpointDecodeError: the latest cannot be decoded. An older one is
                never given in its place.
            CheckpointStoreError: the engine failed.
        """
        with tracing.span("load", self._learn(workflow_name), self._run_id) as span:
            loaded = await self._core.reader.latest(workflow_name, self._bound)
            span.loaded(loaded.event if loaded is not None else None)
        return loaded.checkpoint if loaded is not None else None

    async def delete(self, checkpoint_id: str) -> bool:
        """Hide the checkpoint from load, lists and latest; True if there was one. The log keeps its event."""
        located = await self._core.reader.locate(checkpoint_id, self._bound, self.workflow_name)
        return await self._core.writer.delete(located, self._bound)

    async def close(self) -> None:
        """Let go of what this storage opened; what was passed in stays open. May be called more than once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await close_after(error, self.close)

    def _learn(self, workflow_name: str) -> str:
        if self._bound is not None and self.workflow_name is None and is_name(workflow_name):
            self.workflow_name = workflow_name
        return workflow_name

    @property
    def _run_id(self) -> str | None:
        return self._bound.run_id if self._bound is not None else None

    def _report(self, checkpoint: WorkflowCheckpoint, error: Exception) -> None:
        logger.error(
            "Checkpoint %s (iteration %s) of workflow %r, %s, was not saved: %s",
            checkpoint.checkpoint_id,
            checkpoint.iteration_count,
            checkpoint.workflow_name,
            "run by lineage" if self._run_id is None else f"run {self._run_id!r}",
            error,
        )
        if self._core.on_save_error is None:
            return
        try:
            self._core.on_save_error(checkpoint, error)
        except Exception:
            logger.exception("on_save_error failed; the error it was told of is raised all the same")


class RunCheckpointStorage(_Checkpoints):
    """One run of an `EventCheckpointStorage`, as its own `CheckpointStorage`. Made by `for_run`, for one execution.

    Saves go to this run; `get_latest` and the lists see this run only. `load` and `delete` look in this run first
    and then everywhere, since a run can begin from a checkpoint of another; those of a confined handle do not.

    What a handle has read or written sets where its next save continues, and no other handle knows of it: two that
    resume one checkpoint are two writers, in one process as in two. Its own saves take turns.
    """

    def __init__(
        self,
        core: _Core,
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
        name = self._known_workflow()
        if name is None:
            raise ValueError(
                f"Which workflow run {self.run_id!r} is of is not known yet, and nothing was said about it: "
                "give for_run its workflow_name."
            )
        return (await self._core.writer.annotate(change, self._own.execution(name), self._own)).seq

    @asynccontextmanager
    async def recording(self, *, messages: bool = False) -> AsyncGenerator[None]:
        """Around work on the run: how it ends is annotated. Where it raises an `Exception`, that is `failed`, with its
        type and the module, function and line that raised it; where it ends otherwise and the run waits for no
        answer, `done`.

        Nothing is said where others go on with the run: where this handle has lost a claim, or was refused its last
        save or claim for another's sake, also if the work went on after that, as graph workflows do; or where a
        `CheckpointConflictError` or `RunClaimedError` is raised, alone or among others. Nor where the work was
        cancelled, or ended well and its last checkpoint was not saved, so that nobody knows what it asks. Of a run
        without events there is nothing to say.

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
        name = self._known_workflow()
        if name is None:
            raise ValueError(
                f"Which workflow run {self.run_id!r} is of is not known yet, and nothing was claimed: "
                "give for_run its workflow_name."
            )
        actor = self._core.writer.actor_of(self._own)
        return RunClaim(
            self._core.claims,
            self._own,
            StreamId(name, self.run_id),
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


class EventCheckpointStorage(_Checkpoints):
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
        memory = Memory()
        payloads = Payloads(store, BaseCache(cache_bytes))
        codec = CheckpointCodec(
            allowed_checkpoint_types,
            storage_name=type(self).__name__,
            on_drift=on_drift,
            upcasters=upcasters,
        )
        claims = Claims(store, self.clock, watched=self.watched_claims)
        self._core = _Core(
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
