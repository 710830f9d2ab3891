"""The one function that answers: whoever answers a request, from code, a command or a web service, does it here.

Nothing is claimed, written or run before every response is found right. Under the claim the run is looked at once more:
what was answered in between is not answered again.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Final, NamedTuple

from agent_framework import CheckpointStorage, Workflow, WorkflowCheckpointException, WorkflowEvent, WorkflowRunResult

from .. import settings
from ..audit.preflight import built_workflow
from ..errors import ResponseTypeError, WorkflowRunningError
from ..events import MAX_RUN_ID, StreamId
from ..storage import EventCheckpointStorage, RunCheckpointStorage
from ..text import described, safe
from .contained import contained
from .on_record import OnRecord, Reached
from .requests import Requests, Standing
from .responses import Convert, WrongTypeError, checked, made_of_json

__all__ = ["answer", "answer_from_json"]


async def answer(
    storage: EventCheckpointStorage,
    run_id: str,
    responses: Mapping[str, Any],
    *,
    workflow: object,
    workflow_name: str | None = None,
    actor: str | None = None,
    ttl: float = 60.0,
    wait: float = 0.0,
    recording: bool = False,
) -> WorkflowRunResult:
    """Answer what a run asks, and go on with it: once, whoever else tries at the same time.

    The responses are checked, the run is claimed and looked at again, and the workflow resumes from its latest
    checkpoint with the responses, all of them or none. The answer is on record before a graph workflow acts on it.

    Args:
        storage: that of the application, with the types that its checkpoints hold.
        run_id: the run.
        responses: by the id of the request. Of a functional workflow that has asked before, the earlier answers too,
            unless they are in a step that is done: its function runs again from the start.
        workflow: what resumes the run: a workflow that was built and is not running; a function that gives one, a
            builder, or a functional workflow's definition; or the agent that a workflow is.
        workflow_name: that of the run, where it is to be made sure that it is the workflow's.
        actor: who answers, kept on what is written; None: that of the storage.
        ttl: seconds for which the claim is held without a sign of life; see `RunCheckpointStorage.claim`.
        wait: seconds to wait for a claim that somebody else holds.
        recording: whether how the run goes on is annotated while it is claimed, as `RunCheckpointStorage.recording`
            does it, so that whoever goes on with runs leaves one alone that failed.

    Returns:
        What the workflow gives: its outputs, and what it asks next.

    Raises:
        RequestNotPendingError: a request was never asked, is answered already or is no longer asked; nothing was done.
        ResponseTypeError: a response is not of the type that its request asks for; nothing was done.
        RunClaimedError: somebody else has the run; nothing was done.
        ClaimLostError: the claim was lost while the workflow ran, which was cancelled.
        RunNotFoundError: the workflow has no such run.
        AnswerMissingError: a functional workflow asks again what was answered before; nothing was recorded.
        WorkflowExitError: the workflow's code raised `SystemExit`, in whatever task.
        WorkflowRunningError: the workflow is running already; nothing was done.
        WorkflowCheckpointException: the workflow has another graph than the run.
        CheckpointEncodeError: a graph workflow's checkpoints cannot hold a response; nothing was done.
        CheckpointDecodeError, CheckpointStoreError: the run cannot be read.
        TypeError, ValueError: an argument is not of this kind.
        Exception: what the workflow raises. The claim is released.
    """
    with contained(SystemExit):
        answering = _Answering(storage, run_id, responses, workflow, workflow_name, checked)
        return await answering.carry_out(actor=actor, ttl=ttl, wait=wait, recording=recording)


async def answer_from_json(
    storage: EventCheckpointStorage,
    run_id: str,
    responses: Mapping[str, Any],
    *,
    workflow: object,
    workflow_name: str | None = None,
    actor: str | None = None,
    ttl: float = 60.0,
    wait: float = 0.0,
    recording: bool = False,
) -> WorkflowRunResult:
    """`answer`, with responses that were read from JSON: each is made into the type that its request asks for.

    To a request for the approval of a tool call, `true` and `false` are answers.
    """
    with contained(SystemExit):
        answering = _Answering(storage, run_id, responses, workflow, workflow_name, made_of_json)
        return await answering.carry_out(actor=actor, ttl=ttl, wait=wait, recording=recording)


_in_use: Final[set[int]] = set()
"""By `id`, the workflows that answers are going on with in this process."""


class _Ready(NamedTuple):
    """What the workflow is to be resumed with."""

    standing: Standing
    responses: dict[str, Any]


class _Answering:
    """One answer. The arguments are those of `answer`, and what checks a response."""

    def __init__(
        self,
        storage: EventCheckpointStorage,
        run_id: str,
        responses: Mapping[str, Any],
        workflow: object,
        workflow_name: str | None,
        convert: Convert,
    ) -> None:
        settings.instance("storage", storage, EventCheckpointStorage, what="an EventCheckpointStorage")
        settings.text("The run id", run_id, longest=MAX_RUN_ID)
        self._responses = _checked_mapping(responses)
        self._workflow = built_workflow(workflow() if inspect.isroutine(workflow) else workflow)
        name: str = self._workflow.name
        if workflow_name not in (None, name):
            raise ValueError(
                f"workflow_name is {described(workflow_name)}, and the workflow's own name is {name!r}: another one "
                f"cannot go on with run {run_id!r}. Nothing was done."
            )
        self._is_graph = isinstance(self._workflow, Workflow)
        self._storage = storage
        self._stream = StreamId(name, run_id)
        self._convert = convert
        self._requests = Requests(storage, self._stream)

    async def carry_out(self, *, actor: str | None, ttl: float, wait: float, recording: bool) -> WorkflowRunResult:
        settings.flag("recording", recording)
        with self._alone():
            await self._ready()
            handle = self._storage.for_run(self._stream.run_id, workflow_name=self._stream.workflow_name, actor=actor)
            async with handle.claim(ttl=ttl, wait=wait):
                return await self._resumed(
                    await self._ready(), handle, handle.recording() if recording else nullcontext()
                )

    async def _resumed(
        self, ready: _Ready, handle: RunCheckpointStorage, recording: AbstractAsyncContextManager[None]
    ) -> WorkflowRunResult:
        self._refuse_running()
        if self._is_graph:
            handle.answers(*ready.responses)
            async with OnRecord(handle) as storage, recording:  # in this order: what is not on record has not failed
                return await self._run(ready, storage)
        checkpoint = ready.standing.checkpoint  # a functional workflow fails with its saves
        before = partial(self._requests.answered_before, checkpoint.checkpoint_id)
        async with recording:
            reached = Reached(handle, ready.responses, checkpoint.pending_request_info_events, before)
            return await self._run(ready, reached)

    async def _run(self, ready: _Ready, storage: CheckpointStorage) -> WorkflowRunResult:
        checkpoint_id = ready.standing.checkpoint.checkpoint_id
        with contained(SystemExit):  # here, too: how the run failed is recorded around this
            return await self._workflow.run(
                checkpoint_id=checkpoint_id, checkpoint_storage=storage, responses=ready.responses
            )

    async def _ready(self) -> _Ready:
        """What to resume with, as the run stands now."""
        standing = await self._requests.standing()
        self._refuse_another_graph(standing)
        has_pending = any(standing.pending(request_id) is not None for request_id in self._responses)
        made = {
            request_id: self._made(request_id, response, await self._request(request_id, standing, has_pending))
            for request_id, response in self._responses.items()
        }
        if self._is_graph:
            self._requests.refuse_unsaveable(standing, made)
        return _Ready(standing, made)

    async def _request(self, request_id: str, standing: Standing, has_pending: bool) -> WorkflowEvent[Any] | None:
        """A request that may be answered; None where it is one of before, and what it asks for cannot be told.

        Raises:
            RequestNotPendingError: it may not.
        """
        request = standing.pending(request_id)
        if request is not None:
            return request
        asked = await self._requests.asked(request_id)
        if not self._is_graph and has_pending and asked.asked_at is not None:
            return await self._requests.request(request_id, asked.asked_at)
        raise self._requests.refusal(request_id, asked, standing)

    def _made(self, request_id: str, response: Any, request: WorkflowEvent[Any] | None) -> Any:
        if request is None:
            return response
        try:
            return self._convert(response, request)
        except WrongTypeError as error:
            raise ResponseTypeError(
                f"Request {described(request_id)} of run {self._stream.run_id!r} of workflow "
                f"{self._stream.workflow_name!r} {error}. Nothing was done.",
                request_id=request_id,
            ) from error

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Around an answer: no other one goes on with the same workflow object meanwhile."""
        key = id(self._workflow)
        self._refuse_running(is_answering=key in _in_use)
        _in_use.add(key)
        try:
            yield
        finally:
            _in_use.remove(key)

    def _refuse_running(self, *, is_answering: bool = False) -> None:
        """The framework refuses a workflow that is running, too, but only when the run is claimed already."""
        is_active: Any = getattr(self._workflow, "_is_run_active", None)
        running: object = is_active() if callable(is_active) else getattr(self._workflow, "_is_running", False)
        if running or is_answering:
            raise WorkflowRunningError(
                f"Workflow {self._stream.workflow_name!r} is running, and cannot go on with run "
                f"{self._stream.run_id!r} before that is over: build one for each run. Nothing was done."
            )

    def _refuse_another_graph(self, standing: Standing) -> None:
        then, now = standing.checkpoint.graph_signature_hash, self._workflow.graph_signature_hash
        if then != now:
            raise WorkflowCheckpointException(
                f"Run {self._stream.run_id!r} of workflow {self._stream.workflow_name!r} was saved under another graph "
                f"(checkpoint {safe(standing.checkpoint.checkpoint_id)}) than the one that was built here. Nothing was "
                "done: `eventckpt preflight` says in what they differ, and `eventckpt migrate` brings the run over."
            )


def _checked_mapping(responses: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(responses, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - what an application passes
        raise TypeError(f"responses is a mapping from request ids to responses, not {described(responses)}.")
    given = dict(responses)
    if not given:
        raise ValueError("responses is empty: there is nothing to answer.")
    for request_id in given:
        settings.text("A request id", request_id)
    return given
