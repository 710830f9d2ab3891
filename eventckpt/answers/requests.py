"""What became of the requests of a run: which wait for an answer, who answered which and with what, and which were
never asked or are no longer.

Whoever looks has a handle of his own, so that no other one learns where the run stands. What a run waits for now costs
a look at its end; only of a request that it does not wait for are its headers read.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from agent_framework import WorkflowCheckpoint, WorkflowCheckpointException, WorkflowEvent, WorkflowMessage

from ..errors import RequestNotPendingError, RunNotFoundError
from ..events import Answer, CheckpointEvent, RunInfo, StreamId
from ..log import logger_of
from ..runs import LiveBackwards, fold
from ..storage import EventCheckpointStorage, RunCheckpointStorage
from ..stores import EventStore
from ..stores.walks import Backwards, headers_of
from ..text import described, safe

__all__ = ["Asked", "Became", "Before", "Requests", "Standing", "answered_before", "became_of"]

State: TypeAlias = Literal["unknown", "answered", "expired"]

logger: Final = logger_of("eventckpt")


class Standing(NamedTuple):
    """How a run stands: its latest checkpoint."""

    checkpoint: WorkflowCheckpoint
    is_cancelled: bool
    """Whether somebody has annotated it so, since."""

    def pending(self, request_id: str) -> WorkflowEvent[Any] | None:
        """The request, where the run waits for its answer."""
        return None if self.is_cancelled else self.checkpoint.pending_request_info_events.get(request_id)


class Asked(NamedTuple):
    """A request that a run does not wait for."""

    state: State
    answer: Answer | None
    """By whom it was answered."""
    asked_at: CheckpointEvent | None
    """The header of the last event that waits for it; None: none does."""


class Became(NamedTuple):
    """What became of a request that a run does not wait for, as its headers tell it."""

    state: State
    asked_at: CheckpointEvent | None
    """The last event that waits for it; None: none does."""
    answered: CheckpointEvent | None
    """The first event behind that which has its answer on record."""


async def became_of(store: EventStore, stream: StreamId, request_id: str) -> Became:
    """What became of a request that a run does not wait for. Nothing is decoded."""
    asked_at: CheckpointEvent | None = None
    answered: CheckpointEvent | None = None
    for header in await headers_of(store, stream):
        if any(request.request_id == request_id for request in header.summary.pending_requests):
            asked_at, answered = header, None
        if request_id in header.summary.answered_requests:
            answered = answered or header
    if answered is not None:
        return Became("answered", asked_at, answered)
    return Became("unknown" if asked_at is None else "expired", asked_at, None)


class Before(NamedTuple):
    """A request that was answered on the way to a checkpoint, as headers tell it."""

    answered: CheckpointEvent
    """The first event on that way that has its answer on record."""
    asked_at: CheckpointEvent | None
    """The last event on it that waits for it; None: none does."""


async def answered_before(store: EventStore, stream: StreamId, checkpoint_id: str) -> Mapping[str, Before]:
    """The requests that were answered on the way to a checkpoint, since the run began or was given new input, the first
    one first. Nothing is decoded."""
    headers = {header.checkpoint_id: header for header in await headers_of(store, stream)}
    answered: dict[str, CheckpointEvent] = {}
    asked_at: dict[str, CheckpointEvent] = {}
    while (header := headers.pop(checkpoint_id, None)) is not None:
        answered.update(dict.fromkeys(reversed(header.summary.answered_requests), header))
        for request in header.summary.pending_requests:
            asked_at.setdefault(request.request_id, header)
        checkpoint_id = header.previous_checkpoint_id or ""
    return {request_id: Before(answered[request_id], asked_at.get(request_id)) for request_id in reversed(answered)}


class Requests:
    """Those of one run.

    Args:
        storage: decodes the run's checkpoints.
        stream: the run.
    """

    def __init__(self, storage: EventCheckpointStorage, stream: StreamId) -> None:
        self._store = storage.store
        self._stream = stream
        self._looking: RunCheckpointStorage = storage.for_run(stream.run_id, workflow_name=stream.workflow_name)

    async def standing(self) -> Standing:
        """How the run stands now.

        Raises:
            RunNotFoundError: it has no checkpoint.
            CheckpointDecodeError, CheckpointStoreError: see `RunCheckpointStorage.get_latest`.
        """
        checkpoint = await self._looking.get_latest(workflow_name=self._stream.workflow_name)
        if checkpoint is None:
            raise RunNotFoundError(
                f"Workflow {self._stream.workflow_name!r} has no run {self._stream.run_id!r} with a checkpoint to "
                "resume from. `eventckpt runs` lists those there are."
            )
        info = await self.info()
        return Standing(checkpoint, is_cancelled=info is not None and info.status == "cancelled")

    async def info(self) -> RunInfo | None:
        """What the run amounts to from its latest checkpoint on; None where it has none."""
        met: list[CheckpointEvent] = []
        walk, alive = Backwards(), LiveBackwards()
        async with aclosing(self._store.headers(self._stream, desc=True)) as headers:
            async for header in headers:
                met.append(header)
                if walk.takes(header) and alive.is_live(header):
                    break
        return fold(met[::-1])

    async def asked(self, request_id: str) -> Asked:
        """What became of a request that the run does not wait for."""
        became = await became_of(self._store, self._stream, request_id)
        answer = await self._answer(request_id, became.answered) if became.answered is not None else None
        return Asked(became.state, answer, became.asked_at)

    async def answered_before(self, checkpoint_id: str) -> Mapping[str, Before]:
        """See `answered_before`."""
        return await answered_before(self._store, self._stream, checkpoint_id)

    def refuse_unsaveable(self, standing: Standing, responses: Mapping[str, Any]) -> None:
        """Refuse responses that a checkpoint could not hold, in which they are saved before anything gets them.

        Raises:
            CheckpointTypeNotAllowedError, CheckpointEncodeError: one is of this kind.
        """
        messages = {key: [WorkflowMessage(data=each, source_id=key)] for key, each in responses.items()}
        self._looking.check(replace(standing.checkpoint, state={}, pending_request_info_events={}, messages=messages))

    async def request(self, request_id: str, asked_at: CheckpointEvent) -> WorkflowEvent[Any] | None:
        """A request as the run asked it; None where that checkpoint is gone, or cannot be read."""
        checkpoint = await self._readable(asked_at)
        return checkpoint.pending_request_info_events.get(request_id) if checkpoint is not None else None

    def refusal(self, request_id: str, asked: Asked, standing: Standing) -> RequestNotPendingError:
        """The error of somebody who answers a request that the run does not wait for."""
        run = f"run {self._stream.run_id!r} of workflow {self._stream.workflow_name!r}"
        request = f"Request {described(request_id)}"
        if asked.answer is not None:
            text = f"{request} of {run} was answered {_said(asked.answer)}. Nothing was done; the first answer counts."
        elif asked.asked_at is None:
            text = f"{request} was never asked in {run}: {_waits_for(standing)}. Nothing was done."
        else:
            since = (
                "the run was cancelled since: annotate another outcome to go on with it"
                if standing.is_cancelled
                else f"the run went on, or went back, without an answer that is on record: {_waits_for(standing)}"
            )
            text = f"{request} of {run} was asked at seq {asked.asked_at.seq}, and {since}. Nothing was done."
        return RequestNotPendingError(text, request_id=request_id, state=asked.state, answer=asked.answer)

    async def _answer(self, request_id: str, event: CheckpointEvent) -> Answer:
        checkpoint = await self._readable(event)
        found = _responses(checkpoint, request_id) if checkpoint is not None else []
        return Answer(
            request_id=request_id,
            actor=event.actor,
            recorded_at=event.recorded_at,
            seq=event.seq,
            checkpoint_id=event.checkpoint_id,
            has_response=bool(found),
            response=found[0] if found else None,
        )

    async def _readable(self, event: CheckpointEvent) -> WorkflowCheckpoint | None:
        """The checkpoint of an event; None where it is not to be had: what is told without it is true all the same."""
        try:
            return await self._looking.load(event.checkpoint_id)
        except WorkflowCheckpointException as error:
            logger.info("%s tells no more than its header: %s", event.named(), error)
            return None


def _responses(checkpoint: WorkflowCheckpoint, request_id: str) -> list[Any]:
    """The response to a request that is in flight in a checkpoint, if it is."""
    return [
        message.data
        for messages in checkpoint.messages.values()
        for message in messages
        if message.original_request_info_event is not None
        and message.original_request_info_event.request_id == request_id
    ]


def _said(answer: Answer) -> str:
    by = f"by {described(answer.actor)} " if answer.actor is not None else ""
    what = f", with {described(answer.response)}" if answer.has_response else ""
    return f"{by}at {safe(answer.recorded_at)} (seq {answer.seq}){what}"


def _waits_for(standing: Standing) -> str:
    pending = list(standing.checkpoint.pending_request_info_events)
    if not pending or standing.is_cancelled:
        return "it waits for no answer"
    more = f" and {len(pending) - 3:,} more" if len(pending) > 3 else ""
    return f"it waits for {', '.join(map(described, pending[:3]))}{more}"
