"""The service's runs: begun once, gone on with by one server at a time, answered once.

What decides is the log, never what this process believes: whether a run was begun, which questions it waits with, who
answered. Which runs there are, and which of them wait, comes from the projection, which may be a moment late.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from agent_framework import WorkflowCheckpointException

from eventckpt import CheckpointAudit, EventCheckpointStorage, RunCheckpointStorage, RunInfo, StreamId
from eventckpt.answers import answer_from_json
from eventckpt.errors import CheckpointConflictError, CheckpointStoreError, RunClaimedError, StoreUnavailableError
from eventckpt.location import ENVIRONMENT, open_store
from eventckpt.stores import AuditStore, RunFilter, RunPage
from projections import ChangeFeedProcessor, LatestProjection, ProcessorOptions, open_engine

from .workflows import ALLOWED, NAME, Pay, Refund, build, pay_on_paper

__all__ = ["BusyError", "IdTakenError", "Runs", "Settings", "open_runs"]

logger: Final = logging.getLogger("web_service")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an author may want to change. Times are in seconds."""

    store: str | None = None
    """Path or endpoint; None: as the environment says, or web-service.db."""
    pay: Pay = pay_on_paper
    ttl: float = 30.0
    """After how long without a sign of life another server goes on with a run, or keeps the projection."""
    poll: float = 1.0
    """How late the inbox may be, and how often to look for runs that nobody goes on with."""
    patience: float = 5.0
    """How long an answer waits for whoever has the run, and a client for what becomes of its answer."""
    most: int = 100
    """Runs that go on at once in this process, answered ones among them."""
    grace: float = 10.0
    """How long runs may go on when the service is told to stop."""


class IdTakenError(Exception):
    """The id is that of another refund."""


class BusyError(Exception):
    """As many runs go on in this process as may. Nothing was done."""


def tags_of(refund: Refund) -> dict[str, str]:
    """What the run is tagged with: by whom to look for it, and what was asked for."""
    return {"customer": refund.customer, "euros": str(refund.euros)}


@asynccontextmanager
async def open_runs(settings: Settings) -> AsyncGenerator[Runs, None]:
    """The runs of a store, with all that goes on in the background, until the block ends."""
    where = settings.store or (None if any(map(os.environ.get, ENVIRONMENT)) else "web-service.db")
    options = ProcessorOptions(
        poll_interval=settings.poll,
        acquire_interval=settings.ttl / 4,
        renew_interval=settings.ttl / 2,
        expiry=settings.ttl,
        fence_margin=settings.ttl / 6,
    )
    async with open_store(where) as store:
        engine, projection = open_engine(store), LatestProjection(store)
        async with ChangeFeedProcessor(engine.feed, engine.leases(NAME), projection.apply, options) as processor:
            runs = Runs(store, processor, settings)
            try:
                yield runs
            finally:
                await runs.close()


class Runs:
    """See the module. Made by `open_runs`."""

    def __init__(self, store: AuditStore, processor: ChangeFeedProcessor, settings: Settings) -> None:
        self._settings = settings
        self._processor = processor
        self._audit = CheckpointAudit(store)
        self._documents = store.run_store()
        self._storage = EventCheckpointStorage(
            store,
            allowed_checkpoint_types=ALLOWED,
            on_conflict="raise",  # of two that begin a run at once, the second one must not begin another
            actor=f"server {socket.gethostname()}-{os.getpid()}",
        )
        self._going_on: dict[str, asyncio.Task[None]] = {}
        self._answering: dict[asyncio.Task[None], str] = {}
        self._watching = asyncio.create_task(self._watch())

    @property
    def is_well(self) -> bool:
        """Whether everything that has to go on in the background does, and the store answers."""
        return not self._watching.done() and self._processor.is_running and not self._processor.troubles

    # What clients ask

    async def start(self, refund: Refund, *, user: str) -> tuple[RunInfo, bool]:
        """The run of this refund, and whether it was begun by this call.

        Raises:
            IdTakenError: there is a run of this id for another refund.
            CheckpointStoreError: the store failed. Whether there is a run now is not known: ask again by the same id.
        """
        known = await self.info(refund.id)
        begins = known is None and await self._begin(refund, user)
        if known is None or not known.tags:
            known = await self._tagged(refund.id)
        if known.tags != tags_of(refund):
            raise IdTakenError(refund.id)
        self._go_on(refund.id)
        return known, begins

    async def info(self, run_id: str) -> RunInfo | None:
        """How a run stands by the log; None: there is none."""
        return await self._audit.info(StreamId(NAME, run_id))

    async def result(self, run_id: str) -> str | None:
        """What came of it; None: nothing yet."""
        latest = await self._run(run_id).get_latest(workflow_name=NAME)
        return latest.state.get("result") if latest is not None else None

    async def waiting(self, *, customer: str | None, after: str | None, limit: int) -> RunPage:
        """Runs that wait with a question, the one that has waited longest first."""
        tags = {} if customer is None else {"customer": customer}
        return await self._documents.page(RunFilter(NAME, tags=tags, waiting=True), after=after, limit=limit)

    async def answer(self, run_id: str, request_id: str, response: object, *, user: str) -> bool:
        """Answer a question, and go on; whether that has come to its end, or to the next question, already. Otherwise
        `is_answered` tells whether the answer is on record by now.

        Raises:
            BusyError: see there.
            WorkflowCheckpointException: see `eventckpt.answer`.
        """
        if self._is_full:
            raise BusyError
        # In a task of its own: what was answered goes on, also where the client does not wait.
        task = asyncio.create_task(self._answer(run_id, request_id, response, user))
        self._answering[task] = run_id
        task.add_done_callback(self._answering.pop)
        try:
            done, _ = await asyncio.wait({task}, timeout=2 * self._settings.patience)
        finally:
            if not task.done():
                task.add_done_callback(partial(_tell, run_id, request_id))
        for each in done:
            each.result()
        return bool(done)

    async def is_answered(self, run_id: str, request_id: str, user: str) -> bool:
        """Whether the log has this user's answer."""
        async with aclosing(self._audit.history(StreamId(NAME, run_id), desc=True)) as events:
            async for event in events:
                if request_id in event.summary.answered_requests:
                    return event.actor == user
                if any(request_id == each.request_id for each in event.summary.pending_requests):
                    return False
        return False

    # What goes on

    async def _begin(self, refund: Refund, user: str) -> bool:
        """Save the run's first checkpoint, and run nothing yet: that takes a claim, and a claim takes a run.

        False: somebody else was faster, or the store failed; which one is asked of the log.
        """
        workflow = build(self._settings.pay)
        events = workflow.run(refund, stream=True, checkpoint_storage=self._run(refund.id, user))
        async for event in events:
            if event.type == "superstep_started":
                break
        await events.close()
        return workflow.get_last_checkpoint_id() is not None

    async def _tagged(self, run_id: str) -> RunInfo:
        """How a run stands that has just begun, with the tags of the refund that it began with."""
        run = self._run(run_id)
        ids = await run.list_checkpoint_ids(workflow_name=NAME)
        if not ids:
            raise StoreUnavailableError(f"The run {run_id!r} could not be begun. Try again, by the same id.")
        [[begun]] = (await run.load(ids[0])).messages.values()
        await run.annotate(tags=tags_of(begun.data))
        info = await self.info(run_id)
        assert info is not None
        return info

    async def _answer(self, run_id: str, request_id: str, response: object, user: str) -> None:
        settings = self._settings
        try:
            await answer_from_json(
                self._storage,
                run_id,
                {request_id: response},
                workflow=build(settings.pay),
                actor=user,
                ttl=settings.ttl,
                wait=settings.patience,
                recording=True,
            )
        except WorkflowCheckpointException:
            raise
        except Exception as error:
            if not await self.is_answered(run_id, request_id, user):
                raise
            # The workflow's own: it is noted in the run, whose answer counts.
            logger.warning("Run %r failed with the answer to %r: %s", run_id, request_id, type(error).__name__)

    @property
    def _is_full(self) -> bool:
        return len(self._going_on) + len(self._answering) >= self._settings.most

    def _go_on(self, run_id: str) -> None:
        """Go on with a run in the background, unless this process does already, or has enough to do."""
        if self._is_full or run_id in self._going_on or run_id in self._answering.values():
            return
        task = asyncio.create_task(self._resumed(run_id))
        self._going_on[run_id] = task
        task.add_done_callback(lambda _: self._going_on.pop(run_id))

    async def _resumed(self, run_id: str) -> None:
        run = self._run(run_id)
        try:
            if not await self._unfinished(run_id):  # a claim is an event: none is spent on what the projection has late
                return
            async with run.claim(ttl=self._settings.ttl):
                if checkpoint_id := await self._unfinished(run_id):  # once more, now that nobody else goes on
                    async with run.recording():
                        await build(self._settings.pay).run(checkpoint_id=checkpoint_id, checkpoint_storage=run)
        except RunClaimedError:
            pass  # another server goes on with it
        except CheckpointConflictError as error:
            logger.info("Run %r is gone on with by another server: %s", run_id, error)
        except CheckpointStoreError as error:
            logger.warning("Run %r is tried again: %s", run_id, error)
            await asyncio.sleep(self._settings.patience)  # until this ends, it is not
        except Exception as error:  # noqa: BLE001 - noted in the run
            # Without its message: that of a provider may say more of a customer than a log should know.
            logger.warning("Run %r failed: %s", run_id, type(error).__name__)

    async def _unfinished(self, run_id: str) -> str | None:
        """The checkpoint to go on from; None: the run has ended, failed, was cancelled, or waits for an answer."""
        info = await self.info(run_id)
        return info.checkpoint_id if info is not None and info.status == "running" else None

    async def _watch(self) -> None:
        """Go on with the runs that nobody goes on with: those of a server that died, and those for which there was no
        room. After a start, these are all that had not ended."""
        while True:
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - a look that fails is none; the next one may be
                logger.warning("Could not look for runs to go on with: %s", error)
            await asyncio.sleep(self._settings.poll)

    async def _look(self) -> None:
        after: str | None = None
        while not self._is_full:
            page = await self._documents.page(RunFilter(NAME, ["running"]), after=after)
            for each in page.runs:
                self._go_on(each.run_id)
            after = page.after
            if after is None:
                return

    def _run(self, run_id: str, actor: str | None = None) -> RunCheckpointStorage:
        """A handle for one execution. Ids come from clients, so it is confined to this run."""
        return self._storage.for_run(run_id, workflow_name=NAME, confined=True, actor=actor)

    async def close(self) -> None:
        """Let runs come to an end for a while, then interrupt them. Each leaves its claim: they can go on anywhere."""
        self._watching.cancel()
        going_on = {*self._going_on.values(), *self._answering}
        if going_on:
            await asyncio.wait(going_on, timeout=self._settings.grace)
        for task in going_on:
            task.cancel()
        await asyncio.gather(self._watching, *going_on, return_exceptions=True)


def _tell(run_id: str, request_id: str, task: asyncio.Task[None]) -> None:
    """Say in the log what became of an answer that no client waited for."""
    if task.cancelled():
        became = "was interrupted: the log of the run tells whether it is on record"
    elif error := task.exception():
        became = f"was not given, or another server goes on with it: {type(error).__name__}"
    else:
        became = "is on record, and what it led to is over"
    logger.warning("The answer to %r of run %r, which took long, %s", request_id, run_id, became)
