"""What every program does that answers for somebody: from what a person gave to an answer, and from what goes wrong on
the way to one sentence, which says whether the answer is on record.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from agent_framework import WorkflowCheckpointException

from ..audit.preflight import built_workflow
from ..errors import (
    CheckpointTypeNotAllowedError,
    RequestNotPendingError,
    ResponseTypeError,
    RunClaimedError,
    WorkflowExitError,
)
from ..events import StreamId
from ..exit_codes import FOUND_WRONG, STORE, USAGE, Failure, exit_code
from ..location import load_app
from ..runs import fold
from ..storage import EventCheckpointStorage
from ..stores.walks import headers_of
from ..text import described, safe
from .answering import answer_from_json

__all__ = ["WorkflowFailed", "built", "built_by", "carried_out", "json_in"]

_SHORT: Final = 40  # characters of what was probably meant as text


class WorkflowFailed(Failure):
    """An answer's workflow did not go on to its end."""

    def __init__(self, code: int, message: str, *, is_of_run: bool) -> None:
        super().__init__(code, message)
        self.is_of_run: bool = is_of_run
        """Whether the run itself came to this: it failed, or its answer is on record. Otherwise nothing was done."""


async def built(app: str) -> Any:
    """The workflow that the application's function gives.

    Raises:
        LocationError: see `load_app`.
        Failure: the code fails, or gives something else.
    """
    return await built_by(load_app(app), app)


async def built_by(build: Callable[[], object], name: str) -> Any:
    """The same, of a function that is called `name` where something is wrong with it."""
    try:
        made = build()
        given = await made if inspect.isawaitable(made) else made
    except (Exception, SystemExit) as error:  # one that exits with 0 would pass for a run of this command
        raise Failure(STORE, f"{name} builds no workflow: {type(error).__name__}: {safe(error)}") from error
    try:
        return built_workflow(given)
    except TypeError as error:
        raise Failure(STORE, f"{name} gives no workflow: {safe(error)}") from error


def json_in(text: str, option: str) -> Any:
    """What a person gave as JSON.

    Args:
        text: what was given.
        option: where, such as "--json".

    Raises:
        Failure: it is none, or gives a name twice in one object, of which readers keep the one or the other.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise Failure(USAGE, f"{option} gives {described(name)} twice in one object: leave one of them.")
            found[name] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        hint = f"; text is quoted: '{json.dumps(text)}'" if len(text) < _SHORT else ""
        raise Failure(USAGE, f"{option} takes JSON, and {described(text)} is none ({safe(error)}{hint}).") from error


async def carried_out(
    storage: EventCheckpointStorage,
    stream: StreamId,
    responses: Mapping[str, Any],
    *,
    workflow: object,
    actor: str | None,
    ttl: float,
    wait: float,
) -> None:
    """Answer what a run asks, and go on with it; see `answer_from_json`. How it goes on is annotated.

    Raises:
        RequestNotPendingError, ResponseTypeError, RunClaimedError: nothing was done.
        WorkflowFailed: the workflow did not go on to its end; it says why, and whether the answer is on record.
    """
    try:
        await answer_from_json(
            storage,
            stream.run_id,
            responses,
            workflow=workflow,
            workflow_name=stream.workflow_name,
            actor=actor,
            ttl=ttl,
            wait=wait,
            recording=True,
        )
    except (KeyboardInterrupt, RequestNotPendingError, ResponseTypeError, RunClaimedError):
        raise
    except BaseException as error:  # an executor may raise any
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise await _failure(error, storage, stream, responses) from error


async def _failure(
    error: BaseException, storage: EventCheckpointStorage, stream: StreamId, responses: Mapping[str, Any]
) -> WorkflowFailed:
    text = f"The workflow failed: {type(error).__name__}: {safe(error) or '-'}"
    if isinstance(error, WorkflowCheckpointException):
        text = str(error)
    if isinstance(error, CheckpointTypeNotAllowedError):
        text += f" Here that is --allow {error.type_key}."
    try:
        info = fold(await headers_of(storage.store, stream))
    except WorkflowCheckpointException:
        info = None
    is_on_record = info is not None and not any(each.request_id in responses for each in info.pending_requests)
    if info is not None and is_on_record:
        text += f"{'' if text.endswith('.') else '.'} The answer is on record, and the run is {info.status}."
    is_of_run = is_on_record or isinstance(error, WorkflowExitError) or exit_code(error) is None
    return WorkflowFailed(exit_code(error) or FOUND_WRONG, text, is_of_run=is_of_run)
