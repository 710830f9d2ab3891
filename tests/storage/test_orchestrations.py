"""Whatever the framework's orchestrations put into a checkpoint, we keep as its own in-memory storage does.

That storage copies live objects, so it is the measure: each run here saves every checkpoint in both, and from each of
them a process of new objects goes on to the end, once with their copy and once with ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from types import GenericAlias, UnionType
from typing import Any
from uuid import uuid4

import pytest
from agent_framework import (
    CheckpointStorage,
    InMemoryCheckpointStorage,
    Message,
    WorkflowCheckpoint,
    WorkflowEvent,
)

from eventckpt import EventCheckpointStorage

from ..engines import Engine, SqliteEngine
from ..fidelity import assert_same
from .orchestrations import NAME, ORCHESTRATIONS, Orchestration, Team, answer, play, run

pytestmark = pytest.mark.slow  # every builder, on every engine

RUN = "order-42"

every_orchestration = pytest.mark.parametrize("orchestration", ORCHESTRATIONS, ids=lambda each: each.build.__name__)
plain_and_streamed = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


class Both(InMemoryCheckpointStorage):
    """Saves in memory, and what was saved there in another storage."""

    def __init__(self, other: EventCheckpointStorage) -> None:
        super().__init__()
        self._other = other

    async def save(self, checkpoint: WorkflowCheckpoint) -> str:
        await super().save(checkpoint)
        return await self._other.save(checkpoint)


async def checkpoints(storage: CheckpointStorage) -> list[WorkflowCheckpoint]:
    return await storage.list_checkpoints(workflow_name=NAME)


@every_orchestration
@plain_and_streamed
async def test_every_checkpoint_is_there_as_the_in_memory_storage_has_it(
    engine: Engine, orchestration: Orchestration, stream: bool
) -> None:
    memory = Both(engine.storage().for_run(RUN))
    await play(orchestration.build(Team()), memory, stream=stream)

    ours = await checkpoints(engine.storage().for_run(RUN))
    theirs = await checkpoints(memory)
    assert [each.checkpoint_id for each in ours] == [each.checkpoint_id for each in theirs]
    for our, their in zip(ours, theirs, strict=True):
        assert_same(their, our)


class Process:
    """New objects of an orchestration on a storage, and all that they do and see."""

    def __init__(self, orchestration: Orchestration, storage: CheckpointStorage, *, stream: bool) -> None:
        self.team = Team()
        self.workflow = orchestration.build(self.team)
        self.storage, self.stream = storage, stream
        self.events: list[WorkflowEvent[Any]] = []

    async def run(self, **start: Any) -> None:
        self.events += await run(self.workflow, self.storage, stream=self.stream, **start)

    async def went(self, found: list[str]) -> tuple[Any, ...]:
        """What it told, what its models were asked, and the checkpoints that it added to those it found."""
        ids = await self.storage.list_checkpoint_ids(workflow_name=NAME)
        saved = [await self.storage.load(checkpoint_id) for checkpoint_id in ids if checkpoint_id not in found]
        told = [event for event in self.events if not event.type.startswith(("executor_", "superstep_"))]
        return told, self.team.calls, saved


async def resumed(process: Process, checkpoint: WorkflowCheckpoint) -> tuple[Any, ...]:
    """How a process goes on until the next pause.

    A streamed one brings its answers along with the checkpoint; a plain one answers when the workflow asks again.
    """
    found = await process.storage.list_checkpoint_ids(workflow_name=NAME)
    asked = checkpoint.pending_request_info_events
    responses = {request_id: answer(event) for request_id, event in asked.items()}
    if responses and process.stream:
        await process.run(checkpoint_id=checkpoint.checkpoint_id, responses=responses)
    else:
        await process.run(checkpoint_id=checkpoint.checkpoint_id)
        if responses:
            await process.run(responses=responses)
    return await process.went(found)


@every_orchestration
@plain_and_streamed
async def test_a_process_that_resumes_any_of_them_goes_on_as_from_memory(
    engine: Engine, orchestration: Orchestration, stream: bool
) -> None:
    memory = Both(engine.storage().for_run(RUN))
    await play(orchestration.build(Team()), memory, stream=stream)

    for checkpoint in worth_resuming(await checkpoints(memory), engine):
        copied, stored = InMemoryCheckpointStorage(), engine.storage().for_run(RUN)
        await copied.save(checkpoint)
        theirs, ours = [
            await resumed(Process(orchestration, storage, stream=stream), checkpoint) for storage in (copied, stored)
        ]
        assert difference(theirs, ours) is None


def worth_resuming(found: list[WorkflowCheckpoint], engine: Engine) -> list[WorkflowCheckpoint]:
    """All of them; on Cosmos DB, whose requests take their time, every pause, or else the one in the middle."""
    if isinstance(engine, SqliteEngine):
        return found
    return [each for each in found if each.pending_request_info_events] or [found[len(found) // 2]]


# What the above rests on


@every_orchestration
@plain_and_streamed
async def test_each_orchestration_asks_all_it_should_and_does_the_same_again_from_its_first_checkpoint(
    orchestration: Orchestration, stream: bool
) -> None:
    memory = InMemoryCheckpointStorage()
    first = Process(orchestration, memory, stream=stream)
    events = await play(first.workflow, memory, stream=stream)
    assert tuple(type(event.data).__name__ for event in events if event.type == "request_info") == orchestration.asks

    _, first_calls, [start, *first_saved] = await first.went([])
    second = Process(orchestration, memory, stream=stream)
    await play(second.workflow, memory, stream=stream, checkpoint_id=start.checkpoint_id)
    _, second_calls, second_saved = await second.went([each.checkpoint_id for each in [start, *first_saved]])

    assert difference(first_calls, second_calls) is None
    assert difference(contents(first_saved), contents(second_saved)) is None


def test_a_difference_is_seen_wherever_it_is() -> None:
    message = Message("user", ["hello"], message_id=str(uuid4()))
    for other in (
        Message("user", ["hello!"], message_id=message.message_id),
        Message("assistant", ["hello"], message_id=message.message_id),
        Message("user", ["hello", "hello"], message_id=message.message_id),
        Message("user", ["hello"]),
        "hello",
        None,
    ):
        assert difference([{"said": message}], [{"said": other}]) is not None
    for left, right in (({"a": 1, "b": 2}, {"b": 2, "a": 1}), ([1], (1,)), ([1], [1.0]), ([], [None])):
        assert difference(left, right) is not None


def test_ids_may_differ_but_not_what_has_the_same() -> None:
    one, two, three, four = (str(uuid4()) for _ in range(4))

    assert difference([one, f"re {one}", two], [three, f"re {three}", four]) is None
    assert difference([one, f"re {one}", two], [three, f"re {four}", four]) is not None


def contents(found: list[WorkflowCheckpoint]) -> list[Any]:
    """What a run's checkpoints hold of its work; who came before the first differs."""
    return [(each.state, each.messages, each.pending_request_info_events, each.iteration_count) for each in found]


ID = re.compile(r"\b[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(Z|\+00:00)?")


def difference(left: Any, right: Any) -> str | None:
    """Where two values differ first in anything but ids and times. An id may be another, and then is so everywhere."""
    return _difference(_tree(left, {}), _tree(right, {}), "")


def _difference(left: Any, right: Any, path: str) -> str | None:
    if not isinstance(left, list) or not isinstance(right, list):
        return None if left == right and type(left) is type(right) else f"{path}: {left!r} became {right!r}"
    for (step, item), (other_step, other_item) in zip(left, right, strict=False):
        if step != other_step:
            return f"{path}: {step} became {other_step}"
        found = _difference(item, other_item, f"{path}{step}")
        if found:
            return found
    return None if len(left) == len(right) else f"{path}: {len(left)} became {len(right)}"


def _tree(value: Any, numbers: dict[str, str]) -> Any:
    """Lists of steps with what they lead to, and texts or numbers at the ends; ids are numbered as they appear."""
    match value:
        case Enum() | type() | GenericAlias() | UnionType():
            return repr(value)
        case str():
            return TIME.sub("time", ID.sub(lambda found: numbers.setdefault(found[0], f"id {len(numbers)}"), value))
        case None | bool() | int() | float() | bytes():
            return value
        case Mapping():
            steps = [(f"[{_tree(key, numbers)}]", item) for key, item in value.items()]
        case list() | tuple():
            steps = [(f"[{index}]", item) for index, item in enumerate(value)]
        case set() | frozenset():
            steps = [(f"{{{index}}}", item) for index, item in enumerate(sorted(value, key=repr))]
        case BaseException():
            steps = [(".args", value.args)]
        case _:
            steps = [(f".{name}", item) for name, item in _attributes(value) if item is not None]
    return [(".__class__", type(value).__qualname__), *((step, _tree(item, numbers)) for step, item in steps)]


def _attributes(value: Any) -> list[tuple[str, Any]]:
    """Of an object, those in slots too. Whether a None is an attribute or none at all, `assert_same` looks at."""
    state = value.__getstate__()
    parts = state if type(state) is tuple else (state,)
    return [pair for part in parts if part for pair in part.items()]
